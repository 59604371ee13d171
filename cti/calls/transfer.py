"""Transfers: a party of a conversation puts somebody else in its place (REFER, RFC 3515, 5589).

Blind: a number is dialled while the other party waits. Attended: the one who asks talks to the new
party in a call of its own (Replaces, RFC 3891), and leaves both calls to the two others.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, cast

import structlog

from cti.call import DialError, DialTarget, HangUpParty
from cti.calls.caller_line import CallerLine
from cti.calls.conversation import Conversation
from cti.calls.fork import Fork
from cti.calls.leg import OutgoingLeg
from cti.calls.number_plan import OutsideNumber, PhoneUser
from cti.identity import parse_user_to_user
from cti.rtp_port import RtpPort
from cti.settings import AccessCodeSettings
from cti.sip.sessions.session import InviteSession, Referral
from cti95598.events.v1.events_pb2 import TransferEnded, TransferRequested
from domain.failures import CATALOGUE, Code, PlatformError
from domain.ids import LegId, time_ordered_id

if TYPE_CHECKING:
    from cti.calls.inbound_call import InboundCall

_log = structlog.get_logger(__name__)

_RING_MS = 60_000
_OK, _RINGING, _REQUEST_TERMINATED = 200, 180, 487

Side: TypeAlias = OutgoingLeg | None
"""A party of a call: its far end, or None for its caller."""


def transfer(call: InboundCall, referral: Referral, by: Side) -> None:
    """Carry out or refuse what one party of a call asks for."""
    if not (call.may_transfer if by is None else by.may_transfer):
        referral.refuse(Code.TRANSFER_FORBIDDEN)
    elif call.transfer is not None or not _talks(call, by):
        referral.refuse(Code.STATE_FORBIDS)
    elif referral.replaces is None:
        _send_blind(call, referral, by)
    else:
        _send_attended(call, referral, by, referral.replaces)


def party_of(session: InviteSession | None) -> tuple[InboundCall, Side] | None:
    """Return the call that a session belongs to, and whose it is."""
    observer = session.observer if session is not None else None
    if isinstance(observer, CallerLine) and not observer.is_released:
        return cast("InboundCall", observer.owner), None
    if isinstance(observer, Fork):
        leg = cast("OutgoingLeg", observer.owner)
        return cast("InboundCall", leg.owner), leg
    return None


def pick_up(session: InviteSession, named: InviteSession, user: str) -> None:
    """Put the phone of `user` in the place of a phone that rings or talks (INVITE with Replaces).

    PlatformError when it cannot be; nothing has changed then, and the INVITE is unanswered.
    """
    found = party_of(named)
    if found is None or found[0].ending is not None:
        raise PlatformError(Code.NO_CALL)
    call, leg = found
    if leg is None:
        call.take_over_caller(session)
    else:
        is_agents = leg.is_answered and not call.is_in_callers_place(leg)
        leg.take_over(session)
        if is_agents and user != leg.target.user:
            call.far_end_changed(leg)
    record = _Record(call, "pickup", leg, user)
    record.ended(leg, _OK, None)


def _talks(call: InboundCall, side: Side) -> bool:
    """Whether this party is in a conversation with somebody whom it may send elsewhere."""
    conversation = call.conversation
    if conversation is None or not isinstance(conversation.leg, OutgoingLeg):
        return False
    return side is None or conversation.leg is side


# Attended


def _send_attended(
    call: InboundCall, referral: Referral, by: Side, replaces: tuple[str, str, str]
) -> None:
    found = party_of(call.context.user_agent.session_of(*replaces))
    if found is None or found[0].info.tenant != call.info.tenant or found[0].ending is not None:
        referral.refuse(Code.TRANSFER_TARGET_UNKNOWN)
        return
    other, other_by = found
    if other_by is not None and other.is_in_callers_place(other_by):
        other_by = None
    if other is call or other.transfer is not None:
        referral.refuse(Code.STATE_FORBIDS)
    elif _talks(other, other_by) or (other_by is None and other.far_leg is not None):
        record = _Record(call, "attended", by, referral.target, other)
        referral.accept()
        referral.finish(_OK)
        record.ended(_join(call, by, other, other_by), _OK, None)
    elif other_by is None and other.conversation is None:
        # It rings yet, or is in a flow: who waits here is sent to where that call went.
        _send_blind(call, referral, by, instead_of=other)
    else:
        referral.refuse(Code.STATE_FORBIDS)


def _join(call: InboundCall, by: Side, other: InboundCall, other_by: Side) -> Side:
    """Connect those whom the transferor talks to in both calls; return the leg that moved."""
    if by is not None and other_by is not None:
        _connect_callers(call, by, other, other_by)
        return None
    if other_by is None:
        moved, host, giver, place = _far_leg(other), call, other, by
    else:
        moved, host, giver, place = _far_leg(call), other, call, other_by
    host.adopt(moved, giver)
    if place is None:
        host.take_caller(moved)
    else:
        host.take_far_end(moved)
        place.hang_up(Code.CALL_TRANSFERRED)
    giver.end(Code.CALL_TRANSFERRED)
    return moved


def _far_leg(call: InboundCall) -> OutgoingLeg:
    leg = call.far_leg
    assert leg is not None  # noqa: S101 - who asks has seen that there is one
    return leg


def _conversation(call: InboundCall) -> Conversation:
    assert call.conversation is not None  # noqa: S101 - who asks has seen that both talk
    return call.conversation


class _FarCaller:
    """The caller of another call as the far end of a conversation. Both calls live on."""

    def __init__(self, call: InboundCall) -> None:
        self._call = call
        self._leg_id = LegId(time_ordered_id())

    @property
    def leg_id(self) -> LegId:
        """Unique over all nodes."""
        return self._leg_id

    @property
    def port(self) -> RtpPort:
        """Where it is heard."""
        return self._call.caller_port

    def hang_up(self, code: Code = Code.FLOW_ENDED) -> None:
        """End its call."""
        self._call.end(code)


def _connect_callers(
    call: InboundCall, by: OutgoingLeg, other: InboundCall, other_by: OutgoingLeg
) -> None:
    """Let two callers talk: each handler waits for the other's caller to leave."""
    one, two = _conversation(call), _conversation(other)
    call.take_far_end(_FarCaller(other))
    other.take_far_end(_FarCaller(call))
    one.on_finished = partial(two.finish, HangUpParty.FAR_END)
    two.on_finished = partial(one.finish, HangUpParty.FAR_END)
    for leg in (by, other_by):
        leg.hang_up(Code.CALL_TRANSFERRED)


# Blind


def _send_blind(
    call: InboundCall, referral: Referral, by: Side, instead_of: InboundCall | None = None
) -> None:
    info = call.info
    try:
        destination = call.context.number_plan.find(info.tenant, referral.target)
        if isinstance(destination, AccessCodeSettings) and by is None:
            raise PlatformError(Code.STATE_FORBIDS, "a flow serves callers only")  # noqa: TRY301
    except PlatformError as error:
        referral.refuse(error.code)
        return
    referral.accept()
    if instead_of is not None:
        instead_of.end(Code.CALL_TRANSFERRED)
    record = _Record(call, "blind", by, referral.target, instead_of)
    told = dict(referral.headers)
    if isinstance(destination, PhoneUser | OutsideNumber):
        shown = info.caller if by is not None else _far_leg(call).target.user
        target = DialTarget(
            user=destination.user,
            caller_number=shown,
            purpose="transfer",
            outside=isinstance(destination, OutsideNumber),
            subject=told.get("Subject", ""),
            user_to_user=told.get("User-To-User", ""),
        )
        Transfer(call, referral, by, target, record).begin()
    elif by is not None:
        referral.finish(_OK)
        record.ended(None, _OK, None)
        by.hang_up(Code.CALL_TRANSFERRED)
        passed = parse_user_to_user(told.get("User-To-User", ""))
        if passed is not None and passed.text:
            call.data["user_to_user"] = passed.text
        call.redirect(destination)


class Transfer:
    """A blind transfer, from its 202 to its last NOTIFY."""

    def __init__(
        self, call: InboundCall, referral: Referral, by: Side, target: DialTarget, record: _Record
    ) -> None:
        self._call = call
        self._conversation = _conversation(call)
        self._referral = referral
        self._by = by
        self._target = target
        self._record = record
        self._is_transferor_gone = False
        self._is_given_up = False

    def begin(self) -> None:
        """Let the other party wait, and dial."""
        call, by = self._call, self._by
        call.begin_transfer(self)
        self._conversation.pause(call.caller_port if by is not None else _far_leg(call).port)
        other = _far_leg(call).port if by is None else call.caller_port
        dial = call.dial(
            self._target, timeout_ms=_RING_MS, on_progress=self._on_progress, towards=other
        )
        self._dial = asyncio.get_running_loop().create_task(dial)
        self._dial.add_done_callback(self._on_dialled)

    def goes_on_without(self, side: Side) -> bool:
        """Whether this party, who has just left, is the one that nobody waits for any more."""
        if side is not self._by or self._is_given_up:
            return False
        self._is_transferor_gone = True
        return True

    def give_up(self) -> None:
        """The party that waits has left."""
        self._is_given_up = True
        self._dial.cancel()

    def _on_progress(self, _leg: object) -> None:
        self._referral.progress(_RINGING)

    def _on_dialled(self, dial: asyncio.Task[OutgoingLeg]) -> None:
        self._call.transfer = None
        leg, code, status = self._outcome(dial)
        self._referral.finish(status)
        self._record.ended(leg, status, code)
        if leg is not None:
            self._put_in_place(leg)
        elif not self._is_given_up:
            self._put_back(code or Code.INTERNAL)
        self._call.end_transfer()

    def _outcome(
        self, dial: asyncio.Task[OutgoingLeg]
    ) -> tuple[OutgoingLeg | None, Code | None, int]:
        error = None if dial.cancelled() else dial.exception()
        if error is None and not dial.cancelled():
            leg = dial.result()
            if leg.is_answered and not self._is_given_up:
                return leg, None, _OK
            leg.hang_up(Code.CALLER_ABANDONED)
        if isinstance(error, DialError):
            return None, error.code, error.sip_status
        if isinstance(error, PlatformError):
            return None, error.code, CATALOGUE[error.code].sip_status
        if error is not None:
            _log.error("transfer_failed", call_id=self._call.info.call_id, exc_info=error)
            return None, Code.INTERNAL, CATALOGUE[Code.INTERNAL].sip_status
        return None, Code.CALLER_ABANDONED, _REQUEST_TERMINATED

    def _put_in_place(self, leg: OutgoingLeg) -> None:
        if self._by is None:
            self._call.take_caller(leg)
        else:
            self._call.take_far_end(leg)
            self._by.hang_up(Code.CALL_TRANSFERRED)

    def _put_back(self, code: Code) -> None:
        """Let both talk again; without the transferor the other one is alone now."""
        if not self._is_transferor_gone:
            self._conversation.resume()
        elif self._by is None:
            self._call.caller_left(Code.CALLER_HUNG_UP, _OK, by_caller=True)
        else:
            self._call.leg_ended(self._by, HangUpParty.FAR_END)
        _log.debug("transfer_not_done", call_id=self._call.info.call_id, code=code)


class _Record:
    """The events of one transfer."""

    def __init__(
        self, call: InboundCall, kind: str, by: Side, target: str, other: InboundCall | None = None
    ) -> None:
        self._call = call
        self._kind = kind
        self._id = time_ordered_id()
        self._publish(
            TransferRequested(
                transfer=self._id,
                kind=kind,
                by_leg=by.leg_id if by is not None else "",
                target=target,
                other_call=other.info.call_id if other is not None else "",
            )
        )

    def ended(self, leg: OutgoingLeg | None, status: int, cause: Code | None) -> None:
        leg_id = leg.leg_id if leg is not None else ""
        ended = TransferEnded(transfer=self._id, kind=self._kind, leg=leg_id, sip_status=status)
        self._publish(ended, cause)

    def _publish(self, body: TransferRequested | TransferEnded, cause: Code | None = None) -> None:
        info = self._call.info
        self._call.context.events.publish(info.tenant, body, call_id=info.call_id, cause=cause)
