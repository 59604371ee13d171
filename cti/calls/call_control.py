"""Takes INVITEs of callers and phones, and runs the handler of each call that is let in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import structlog
from prometheus_client import Counter, Gauge

from cti.admission import Admission, Admitted, Refused
from cti.call import CallHandler, CallInfo, Clip, DialTarget, JsonValue
from cti.calls.call_context import CallContext, ContactLookup, no_music
from cti.calls.inbound_call import InboundCall
from cti.calls.listening import Listening
from cti.calls.number_plan import NumberPlan, OutsideNumber, no_phone
from cti.calls.phone_calls import CallsOfPhones, PhoneDoor, connect
from cti.calls.refusals import Refusals, arrival_of
from cti.calls.transfer import party_of, pick_up
from cti.identity import CallerIdentity, identity_of
from cti.media import MediaEngine, RecordingForm
from cti.media_policy import MediaAddresses, MediaPolicy
from cti.numbers import number_of
from cti.rtp_port import MediaRouter, RtpPort
from cti.settings import AccessCodeSettings
from cti.sip.authentication.phone_auth import PhoneAccount, PhoneAuthenticator, PhoneDirectory
from cti.sip.events.replaces import offer_replaces, replaced_session
from cti.sip.sessions.session import InviteSession
from cti.sip.user_agent import UserAgent
from cti.trunks.outbound import OutboundTrunks
from cti.trunks.trunk import AccessCode
from domain.events import EventStamp
from domain.failures import CATALOGUE, Code, Outcome, PlatformError
from domain.ids import CallId, TenantId, new_call_id

_log = structlog.get_logger(__name__)

_CALLS = Counter("calls_total", "Calls that have ended, refused ones too", ["outcome"])
_CALLS_BY_OUTCOME = {outcome: _CALLS.labels(outcome=outcome) for outcome in Outcome}
_LIVE = Gauge("calls_live", "Calls between INVITE and their last event")

_NOT_OF_A_TRUNK = frozenset({Code.TRUNK_UNKNOWN, Code.ACCESS_CODE_UNKNOWN})


@dataclass(frozen=True, slots=True)
class PhoneAccess:
    """Which phones may call, and which can be dialled."""

    directory: PhoneDirectory
    authenticator: PhoneAuthenticator
    is_phone: Callable[[TenantId, str], bool] = no_phone
    max_calls: int = 10
    """At once, made by one user's phones: a stolen password must not take all trunks."""


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A call that may come in; `release` gives back what it holds."""

    info: CallInfo
    handler: CallHandler
    release: Callable[[], None]
    language: str
    may_transfer: bool
    data: dict[str, JsonValue] = field(default_factory=dict)


def _guesses(session: InviteSession, refused: Refused) -> bool:
    """Tell a wrong password of a trunk from an address that is sure: that of a connection."""
    return refused.code is Code.AUTHENTICATION_FAILED and session.hop.transport != "udp"


def _free() -> None:
    """Give nothing back: nothing was taken yet."""


def _ignore(_source: str) -> None:
    """Let strangers be."""


class CallControl:
    """All calls of a node."""

    def __init__(
        self,
        *,
        user_agent: UserAgent,
        media: MediaEngine,
        admission: Admission,
        contacts: ContactLookup,
        events: EventStamp,
        handler: CallHandler,
        recording_path: Callable[[CallInfo, str], Path],
        addresses: MediaAddresses,
        domain: str,
        media_timeout_ms: int = 60_000,
        recording_form: RecordingForm = RecordingForm.PCM16,
        phones: PhoneAccess | None = None,
        outbound: OutboundTrunks | None = None,
        hold_music: Callable[[], Sequence[Clip]] = no_music,
        on_stranger: Callable[[str], None] = _ignore,
    ) -> None:
        """Wire the parts; the caller hands INVITEs to `on_invite`, media events to `on_media`.

        `recording_path` names the file of a new recording, given the call and the recording's id,
        in a directory that exists. `domain` stands in the From and To of calls to phones. With
        `phones` those call and transfer too, outside over `outbound`; who waits hears `hold_music`.
        `on_stranger` gets the address of each INVITE that is of no trunk and of no phone.
        """
        self._router = MediaRouter(media)
        self.on_media = self._router.on_event
        plan = NumberPlan(
            is_phone=phones.is_phone if phones is not None else no_phone,
            access_code=self._access_code,
            has_trunks=outbound is not None,
        )
        self._context = CallContext(
            user_agent=user_agent,
            router=self._router,
            contacts=contacts,
            events=events,
            recording_path=recording_path,
            addresses=addresses,
            domain=domain,
            media_timeout_ms=media_timeout_ms,
            recording_form=recording_form,
            outbound=outbound,
            number_plan=plan,
            hold_music=hold_music,
            may_trunk_transfer=self._may_trunk_transfer,
            media_of=self._media_of,
        )
        self._door: PhoneDoor | None = None
        self._calls_of_phones = CallsOfPhones(phones.max_calls if phones is not None else 0)
        if phones is not None:
            self._door = PhoneDoor(phones.directory, phones.authenticator, plan)
            offer_replaces(user_agent)
        self._events = events
        self._admission = admission
        self._handler = handler
        self._on_stranger = on_stranger
        self._refusals = Refusals(events)
        self._calls: dict[CallId, tuple[InboundCall, Callable[[], None]]] = {}
        self._is_draining = False
        self._empty: asyncio.Event = asyncio.Event()
        self._clock = asyncio.get_running_loop().time

    @property
    def calls(self) -> int:
        """Calls between INVITE and their last event."""
        return len(self._calls)

    @property
    def is_draining(self) -> bool:
        """Whether new calls are refused."""
        return self._is_draining

    def drain(self) -> None:
        """Refuse new calls from now on; calls in progress go on."""
        self._is_draining = True

    async def aclose(self, timeout_s: float = 5.0) -> None:
        """Hang up all calls and wait until their last events are published, or for so long."""
        self.drain()
        for call, _ in list(self._calls.values()):
            call.end(Code.NODE_STOPPED)
        if not self._calls:
            return
        self._empty.clear()
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except TimeoutError:
            _log.error("calls_left_at_close", calls=len(self._calls))

    def listen(self, tenant: TenantId, call_id: CallId) -> Listening:
        """Hear a call of this node while it goes on; PlatformError CALL_UNKNOWN or OVERLOADED.

        A call of another tenant is as unknown as one that never was.
        """
        call, _ = self._calls.get(call_id, (None, None))
        if call is None or call.info.tenant != tenant:
            raise PlatformError(Code.CALL_UNKNOWN)
        return call.listen()

    def on_invite(self, session: InviteSession) -> None:
        """Take a new INVITE; answers it in every case."""
        door = self._door
        if door is not None:
            named = replaced_session(self._context.user_agent, session.request)
            if named is not None:
                self._take_over(door, session, named)
                return
        decision = self._admission.admit_invite(
            session.request, session.source, self._clock(), session.hop
        )
        if isinstance(decision, Admitted):
            self._start(session, self._of_trunk(decision))
        elif (
            door is not None
            and (decision.is_challenge or decision.code in _NOT_OF_A_TRUNK)
            and door.is_of_phone(session)
        ):
            self._on_phone_call(door, session)
        elif decision.is_challenge:
            self._refusals.challenge(session, decision)
        else:
            if door is not None and decision.code is Code.TRUNK_UNKNOWN:
                # As a phone without a password: who asks learns nothing of which users there are.
                door.authenticate(session)
                decision = replace(decision, status=401)
            self._refusals.refuse(session, decision)
            if decision.code is Code.TRUNK_UNKNOWN or _guesses(session, decision):
                self._on_stranger(session.source)
            _CALLS_BY_OUTCOME[Outcome.REFUSED].inc()

    def _of_trunk(self, admitted: Admitted) -> _Arrival:
        access_code, caller = admitted.access_code, admitted.caller
        info = CallInfo(
            call_id=new_call_id(),
            tenant=admitted.tenant,
            node=self._events.node,
            trunk=admitted.trunk.name,
            caller=caller.number,
            called=admitted.called,
            access_code=access_code.code,
            landing_code=admitted.landing_code,
            flow=admitted.flow,
            arrived_unix_us=time.time_ns() // 1000,
            withheld=caller.withheld,
            number_list=admitted.number_list,
        )
        return _Arrival(
            info,
            self._handler,
            partial(self._admission.release, admitted),
            access_code.default_language,
            may_transfer=admitted.trunk.settings.allow_refer,
            data=_data_of(caller),
        )

    # Phones

    def _on_phone_call(self, door: PhoneDoor, session: InviteSession) -> None:
        account = door.authenticate(session)
        if account is None:
            return
        identity = identity_of(session.request, is_trusted=False)
        info = CallInfo(
            call_id=new_call_id(),
            tenant=account.tenant,
            node=self._events.node,
            trunk="",
            caller=account.user,
            called=number_of(session.request.uri),
            access_code="",
            landing_code="",
            flow="",
            arrived_unix_us=time.time_ns() // 1000,
            phone=account.user,
            withheld=identity.withheld,
        )
        try:
            arrival = self._of_phone(door, account, session, info)
        except PlatformError as error:
            self._refuse(session, info, error.code)
            return
        info = arrival.info
        if not self._calls_of_phones.has_room(account):
            self._refuse(session, info, Code.PHONE_AT_LIMIT)
            return
        code = self._code(info.tenant, info.access_code)
        full = self._admission.take_room(self._clock(), code)
        if full is not None:
            self._refuse(session, info, full)
            return
        self._calls_of_phones.take(account)
        release = partial(self._release_phone, account, code)
        self._start(session, replace(arrival, release=release))

    def _release_phone(self, account: PhoneAccount, code: AccessCode | None) -> None:
        self._calls_of_phones.release(account)
        self._admission.free_room(code)

    def _of_phone(
        self, door: PhoneDoor, account: PhoneAccount, session: InviteSession, info: CallInfo
    ) -> _Arrival:
        destination = door.destination(account, session)
        handler, language = self._handler, "zh"
        if isinstance(destination, AccessCodeSettings):
            info = replace(info, access_code=destination.code, flow=destination.flow)
            language = destination.default_language
        else:
            target = DialTarget(
                user=destination.user,
                caller_number=account.user,
                purpose="call",
                outside=isinstance(destination, OutsideNumber),
                withheld=info.withheld,
            )
            handler = partial(connect, target=target)
        return _Arrival(info, handler, _free, language, may_transfer=True)

    def _take_over(
        self, door: PhoneDoor, session: InviteSession, named: InviteSession | int
    ) -> None:
        """An INVITE with Replaces (RFC 3891): a phone takes the place of another one's."""
        if not door.is_of_phone(session) and self._admission.knows(session.source):
            session.reject(Code.TRANSFER_FORBIDDEN)
            return
        account = door.authenticate(session)
        if account is None:
            return
        if isinstance(named, int):
            session.reject(status=named)
            return
        found = party_of(named)
        try:
            if found is None or found[0].info.tenant != account.tenant:
                raise PlatformError(Code.NO_CALL)  # noqa: TRY301 - as for any other reason
            pick_up(session, named, account.user)
        except PlatformError as error:
            session.reject(error.code)

    # What calls ask

    def _access_code(self, tenant: TenantId, number: str) -> AccessCodeSettings | None:
        code = self._code(tenant, number)
        return None if code is None else code.settings

    def _code(self, tenant: TenantId, number: str) -> AccessCode | None:
        return self._admission.directory.codes.get(tenant, {}).get(number)

    def _may_trunk_transfer(self, tenant: TenantId, trunk: str) -> bool:
        found = self._admission.directory.trunks.get((tenant, trunk))
        return found is not None and found.settings.allow_refer

    def _media_of(self, tenant: TenantId, trunk: str) -> MediaPolicy:
        return self._admission.directory.media_of(tenant, trunk)

    # Life of a call

    def _start(self, session: InviteSession, arrival: _Arrival) -> None:
        info = arrival.info
        try:
            if self._is_draining:
                raise PlatformError(Code.NODE_DRAINING)  # noqa: TRY301 - as for any other reason
            port, local_sdp = self._open_port(session, info)
        except PlatformError as error:
            arrival.release()
            self._refuse(session, info, error.code)
            return
        self._events.publish(info.tenant, arrival_of(info, session), call_id=info.call_id)
        call = InboundCall(
            self._context,
            info,
            session,
            port,
            local_sdp=local_sdp,
            language=arrival.language,
            may_transfer=arrival.may_transfer,
            flow_handler=self._handler,
            on_ended=self._on_ended,
            on_settled=self._on_settled,
        )
        call.data.update(arrival.data)
        self._calls[info.call_id] = (call, arrival.release)
        _LIVE.inc()
        call.start(arrival.handler)

    def _open_port(self, session: InviteSession, info: CallInfo) -> tuple[RtpPort, bytes]:
        """Return a port and our description: an answer, or an offer where the INVITE has none."""
        context = self._context
        port = context.open_port(context.plan_towards(info.tenant, info.trunk, session))
        try:
            return port, port.answer(session.offer) if session.offer else port.offer()
        except PlatformError:
            port.close()
            raise

    def _refuse(self, session: InviteSession, info: CallInfo, code: Code) -> None:
        self._refusals.refuse_call(session, info, code)
        _CALLS_BY_OUTCOME[Outcome.REFUSED].inc()

    def _on_ended(self, call: InboundCall) -> None:
        """The caller is gone: the trunk's channel is free, whatever the handler still does."""
        self._calls[call.info.call_id][1]()

    def _on_settled(self, call: InboundCall) -> None:
        del self._calls[call.info.call_id]
        _LIVE.dec()
        if call.ending is not None:
            _CALLS_BY_OUTCOME[CATALOGUE[call.ending.code].outcome].inc()
        if not self._calls:
            self._empty.set()


def _data_of(caller: CallerIdentity) -> dict[str, JsonValue]:
    """Return what an INVITE tells of its caller besides the number, as attached data."""
    known: dict[str, JsonValue] = {
        "caller_name": caller.shown_name,
        "caller_withheld": caller.withheld,
        "diverted_from": caller.diverted_from,
        "first_called": caller.first_called,
        "user_to_user": next((each.text for each in caller.user_to_user if each.text), ""),
    }
    return {name: value for name, value in known.items() if value}
