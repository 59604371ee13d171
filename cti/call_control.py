"""Takes callers' INVITEs: admits or refuses them, and runs the handler of each admitted call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from prometheus_client import Counter, Gauge

from cti.admission import Admission, Admitted, Refused, TokenBucket, Trunk
from cti.call import CallHandler, CallInfo
from cti.call_context import CallContext, ContactLookup, number_of, number_of_address
from cti.inbound_call import InboundCall
from cti.media import MediaEngine
from cti.rtp_port import MediaRouter, RtpPort
from cti.settings import LandingCodeSource
from cti.sip.message import Request
from cti.sip.session import InviteSession
from cti.sip.user_agent import UserAgent
from cti95598.events.v1.events_pb2 import CallArrived, CallRefused
from domain.events import EventStamp
from domain.failures import CATALOGUE, Code, Outcome, PlatformError
from domain.ids import CallId, TenantId, new_call_id
from domain.masking import mask_number

_log = structlog.get_logger(__name__)

_CALLS = Counter("calls_total", "Calls that have ended, refused ones too", ["outcome"])
_CALLS_BY_OUTCOME = {outcome: _CALLS.labels(outcome=outcome) for outcome in Outcome}
_LIVE = Gauge("calls_live", "Calls between INVITE and their last event")
_STRANGERS = Counter("calls_from_strangers_total", "INVITEs from addresses of no trunk")

# RFC 3261 20.33; long enough for a trunk to try elsewhere, short enough to come back soon.
_RETRY_AFTER_S = 5
# Strangers' calls are all counted, but only so many a second are worth a record.
_STRANGERS_RECORDED_PER_S = 10


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
        local_ip: str,
        domain: str,
        media_timeout_ms: int = 60_000,
    ) -> None:
        """Wire the parts; the caller hands INVITEs to `on_invite`, media events to `on_media`.

        `recording_path` names the file of a new recording, given the call and the recording's id,
        in a directory that exists. `domain` stands in the From and To of calls to phones.
        """
        self._router = MediaRouter(media)
        self.on_media = self._router.on_event
        self._context = CallContext(
            user_agent=user_agent,
            router=self._router,
            contacts=contacts,
            events=events,
            recording_path=recording_path,
            local_ip=local_ip,
            domain=domain,
            media_timeout_ms=media_timeout_ms,
        )
        self._events = events
        self._admission = admission
        self._handler = handler
        self._calls: dict[CallId, tuple[InboundCall, Admitted]] = {}
        self._is_draining = False
        self._empty: asyncio.Event = asyncio.Event()
        self._strangers = TokenBucket(_STRANGERS_RECORDED_PER_S)
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

    def on_invite(self, session: InviteSession) -> None:
        """Take a new INVITE; answers it in every case."""
        called = number_of(session.request.uri)
        source = session.hop.host
        decision = self._admission.admit(source, called, self._clock())
        if isinstance(decision, Refused):
            self._refuse(session, decision, called)
            return
        if self._is_draining:
            self._give_back(session, decision, called, Code.NODE_DRAINING)
            return
        try:
            port, local_sdp = self._open_port(session)
        except PlatformError as error:
            self._give_back(session, decision, called, error.code)
            return
        self._start(session, decision, called, port, local_sdp)

    def _start(
        self,
        session: InviteSession,
        admitted: Admitted,
        called: str,
        port: RtpPort,
        local_sdp: bytes,
    ) -> None:
        access_code = admitted.access_code
        info = CallInfo(
            call_id=new_call_id(),
            tenant=admitted.tenant,
            node=self._events.node,
            trunk=admitted.trunk.name,
            caller=_caller(session.request),
            called=called,
            access_code=access_code.code,
            landing_code=_landing_code(session.request, admitted.trunk),
            flow=access_code.flow,
            arrived_unix_us=time.time_ns() // 1000,
        )
        self._publish_arrival(info.tenant, info.call_id, session, info)
        call = InboundCall(
            self._context,
            info,
            session,
            port,
            local_sdp=local_sdp,
            language=access_code.default_language,
            on_ended=self._on_ended,
            on_settled=self._on_settled,
        )
        self._calls[info.call_id] = (call, admitted)
        _LIVE.inc()
        call.start(self._handler)

    def _open_port(self, session: InviteSession) -> tuple[RtpPort, bytes]:
        """Return a port and our description: an answer, or an offer where the INVITE has none."""
        port = self._context.open_port()
        try:
            return port, port.answer(session.offer) if session.offer else port.offer()
        except PlatformError:
            port.close()
            raise

    def _give_back(
        self, session: InviteSession, admitted: Admitted, called: str, code: Code
    ) -> None:
        self._admission.release(admitted)
        self._refuse(session, Refused(code, admitted.tenant, admitted.trunk), called)

    def _refuse(self, session: InviteSession, refused: Refused, called: str) -> None:
        """Refuse an INVITE by its status, and leave a record."""
        code = refused.code
        status = CATALOGUE[code].sip_status
        headers = [("Retry-After", str(_RETRY_AFTER_S))] if status == 503 else []
        session.reject(code, headers=headers)
        _CALLS_BY_OUTCOME[Outcome.REFUSED].inc()
        if refused.trunk is None:
            _STRANGERS.inc()
            now = self._clock()
            if not self._strangers.has_token(now):
                return
            self._strangers.take()
        call_id = new_call_id()
        caller = _caller(session.request)
        trunk = refused.trunk.name if refused.trunk is not None else ""
        self._events.publish(
            refused.tenant,
            CallArrived(
                trunk=trunk,
                caller=caller,
                called=called,
                sip_call_id=session.call_id,
                source_address=session.hop.host,
            ),
            call_id=call_id,
        )
        self._events.publish(
            refused.tenant, CallRefused(sip_status=status), call_id=call_id, cause=code
        )
        _log.debug(
            "call_refused",
            call_id=call_id,
            code=code,
            trunk=trunk,
            source=session.hop.host,
            caller=mask_number(caller),
            called=mask_number(called),
        )

    def _publish_arrival(
        self, tenant: TenantId, call_id: CallId, session: InviteSession, info: CallInfo
    ) -> None:
        self._events.publish(
            tenant,
            CallArrived(
                trunk=info.trunk,
                caller=info.caller,
                called=info.called,
                access_code=info.access_code,
                landing_code=info.landing_code,
                sip_call_id=session.call_id,
                source_address=session.hop.host,
            ),
            call_id=call_id,
        )

    def _on_ended(self, call: InboundCall) -> None:
        """The caller is gone: the trunk's channel is free, whatever the handler still does."""
        self._admission.release(self._calls[call.info.call_id][1])

    def _on_settled(self, call: InboundCall) -> None:
        del self._calls[call.info.call_id]
        _LIVE.dec()
        if call.ending is not None:
            _CALLS_BY_OUTCOME[CATALOGUE[call.ending.code].outcome].inc()
        if not self._calls:
            self._empty.set()


def _caller(request: Request) -> str:
    """Return the caller's number: the trunk's word (RFC 3325) before the caller's own."""
    return number_of_address(request.headers.get("P-Asserted-Identity")) or number_of(
        request.from_.uri
    )


def _landing_code(request: Request, trunk: Trunk) -> str:
    if trunk.landing_code is LandingCodeSource.TO_USER:
        return number_of(request.to.uri)
    if trunk.landing_code is LandingCodeSource.DIVERSION:
        return number_of_address(request.headers.get("Diversion"))
    return ""
