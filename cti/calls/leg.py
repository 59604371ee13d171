"""A far end that the platform rings: one INVITE a contact or trunk, the first to answer wins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from cti.call import CallInfo, DialError, DialTarget, HangUpParty
from cti.calls.call_context import CallContext, media_figures
from cti.calls.digits import INFO_TYPE, info_body, info_digit, info_duration_ms
from cti.calls.fork import Fork, Way
from cti.media import (
    Answer,
    AnswerJudged,
    Detect,
    MediaEvent,
    MediaTimedOut,
    PortClosed,
    SecureMediaFailed,
    Signal,
    ToneDetected,
)
from cti.media_policy import PortPlan
from cti.rtp_port import RtpPort
from cti.sdp import Codec, Protection
from cti.sdp.passing import NOTHING_PASSED, Passing
from cti.sip.sessions.causes import refusal_status
from cti.sip.sessions.session import InviteSession, Referral, SessionEnd
from cti.sip.sessions.session_events import PendingAnswer
from cti95598.events.v1.events_pb2 import LegEnded, LegStarted
from domain.failures import Code, PlatformError
from domain.ids import LegId, time_ordered_id

# RFC 3326 and RFC 3261 9.1 leave the status of a cancelled INVITE to the peer; it is this one.
_REQUEST_TERMINATED = 487

# When nobody answers: how each failure is told, and which of several counts, the first first.
_TOLD_AS: dict[Code, Code] = {
    Code.DECLINED: Code.DECLINED,
    Code.BUSY: Code.BUSY,
    Code.NO_COMMON_CODEC: Code.NO_COMMON_CODEC,
    Code.NO_COMMON_PROTECTION: Code.NO_COMMON_PROTECTION,
    Code.SDP_MALFORMED: Code.FAR_END_REFUSED,
    Code.FAR_END_REFUSED: Code.FAR_END_REFUSED,
    Code.NO_ANSWER: Code.NO_ANSWER,
    Code.TRUNK_BUSY: Code.TRUNK_BUSY,
    Code.SIP_TIMEOUT: Code.PHONE_UNREACHABLE,
    Code.SIP_TRANSPORT: Code.PHONE_UNREACHABLE,
    Code.PHONE_UNREACHABLE: Code.PHONE_UNREACHABLE,
}
_RANK = list(dict.fromkeys(_TOLD_AS.values()))
_WHILE_RINGING = frozenset({Detect.PROGRESS, Detect.FAX})
_ONCE_ANSWERED = frozenset({Detect.ANSWER, Detect.FAX})
# What a caller may be told as it was said; the rest concerns our side of the call only.
_RELAYED = frozenset({403, 404, 408, 410, 480, 484, 486, 488, 503, 600, 603, 604, 606})


class LegOwner(Protocol):
    """The call that a leg belongs to; a transfer may give it to another."""

    info: CallInfo

    def leg_media(self, leg: OutgoingLeg, event: MediaEvent) -> None:
        """Keys and prompts of the leg's port."""

    def leg_key(self, leg: OutgoingLeg, key: str, duration_ms: int) -> None:
        """A key came by signalling."""

    def leg_changes(self, leg: OutgoingLeg, sdp: bytes) -> PendingAnswer | None:
        """The leg offers more than audio; None where there is nobody to carry it to."""

    def leg_changed(self, leg: OutgoingLeg) -> None:
        """The leg was put on hold, resumed, or moved."""

    def leg_referred(self, leg: OutgoingLeg, referral: Referral) -> None:
        """The leg's phone wants the other party to go elsewhere."""

    def leg_ended(self, leg: OutgoingLeg, by: HangUpParty) -> None:
        """The leg rings and talks no more."""

    def leg_closed(self, leg: OutgoingLeg) -> None:
        """The leg's last event is published."""


class OutgoingLeg:
    """Implements `RingingLeg` and, once answered, `Leg`."""

    def __init__(
        self,
        context: CallContext,
        owner: LegOwner,
        target: DialTarget,
        branches: Iterable[Sequence[Way]],
        preferred: Codec | None = None,
        passing: Passing = NOTHING_PASSED,
    ) -> None:
        """Open the RTP port for the first way; PlatformError MEDIA_PORTS_EXHAUSTED.

        `branches` are rung at once, each over the first of its ways that works. `preferred` is the
        codec of the party that it is rung for, `passing` what that one has besides audio.
        """
        self.owner = owner
        self.target = target
        self._context = context
        self._leg_id = LegId(time_ordered_id())
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._begun_s = loop.time()
        self._answered_s: float | None = None
        self._code: Code | None = None
        self._sip_status = 0
        self._ended_s = 0.0
        self._forks: list[Fork] = []
        self._winner: Fork | None = None
        self._is_heard = False
        self._change: Callable[[bytes | Code], None] | None = None  # told how ours was taken
        self._agreed_with: tuple[Fork, str] | None = None
        self._outcome: asyncio.Future[Code | None] = loop.create_future()
        self.on_progress: Callable[[], None] = _nobody_listens
        """Told each time that it rings; whoever dials may put another function here."""
        self._on_heard: Callable[[Signal | Answer], None] | None = None
        self._branches = [*branches]
        self._preferred = preferred
        self._passing = passing
        self._ports: dict[PortPlan, RtpPort] = {}
        """While it rings: one for each kind of offer that its ways need."""
        self._offered: dict[Fork, RtpPort] = {}
        self.port: RtpPort = self._port_for(self._first_plan())
        self.port.listen(self._on_media)
        self._publish(LegStarted(leg=self._leg_id, target=target.user, purpose=target.purpose))

    @property
    def leg_id(self) -> LegId:
        """Unique over all nodes."""
        return self._leg_id

    @property
    def is_ended(self) -> bool:
        """Whether the leg rings or talks no more."""
        return self._code is not None

    @property
    def is_answered(self) -> bool:
        """Whether somebody is there to talk to."""
        return self._answered_s is not None and self._code is None

    @property
    def has_early_media(self) -> bool:
        """Whether the far end is heard before it answers."""
        return self._is_heard

    @property
    def may_transfer(self) -> bool:
        """Whether the far end may send our side elsewhere: strangers could have us pay for it."""
        if not self.target.outside:
            return True
        return self._context.may_trunk_transfer(self.owner.info.tenant, self._trunk)

    def listen(self, on_heard: Callable[[Signal | Answer], None]) -> None:
        """Tell what is recognised in the far end's audio; before `ring`."""
        self._on_heard = on_heard
        for port in self._ports.values():
            port.detect = _WHILE_RINGING

    def ring(self) -> None:
        """Ring all branches."""
        self._forks = [Fork(self, ways) for ways in self._branches]
        for fork in self._forks:
            if self.is_ended:
                return
            fork.ring()

    async def answered(self, timeout_ms: int) -> None:
        """Wait until somebody answers; DialError says why nobody did."""
        deadline = self._clock() + timeout_ms / 1000
        loop = asyncio.get_running_loop()
        timer = loop.call_at(deadline, self.hang_up, Code.NO_ANSWER)
        try:
            code = await self._outcome
        finally:
            timer.cancel()
        if code is not None:
            said = self._sip_status
            status = said if said in _RELAYED else refusal_status(code)
            raise DialError(code, status, f"leg {self._leg_id}")

    def answer_remotely(self) -> Awaitable[bool]:
        """Ask all ringing contacts to pick up; False when none of them will."""
        loop = asyncio.get_running_loop()
        accepted: asyncio.Future[bool] = loop.create_future()
        ringing = [
            fork.session for fork in self._forks if fork.ended is None and fork.session is not None
        ]
        left = len(ringing)

        def on_result(yes: bool) -> None:
            nonlocal left
            left -= 1
            if not accepted.done() and (yes or left == 0):
                accepted.set_result(yes)

        if self._outcome.done() or not ringing:
            accepted.set_result(self.is_answered)
            return accepted
        for session in ringing:
            session.notify_talk(on_result)

        def on_outcome(outcome: asyncio.Future[Code | None]) -> None:
            if not accepted.done():
                accepted.set_result(outcome.result() is None)

        self._outcome.add_done_callback(on_outcome)
        return accepted

    def hang_up(self, code: Code = Code.FLOW_ENDED) -> None:
        """End the leg from any state."""
        status = _REQUEST_TERMINATED if self._answered_s is None else 200
        self._end(code, HangUpParty.PLATFORM, status)

    def take_over(self, session: InviteSession) -> None:
        """Let a phone that called in answer this leg, or take it from the phone that has it.

        PlatformError when its offer cannot be answered; then nothing has changed.
        """
        port = self.port if self.is_answered else self._port_towards(session)
        sdp = port.answer(session.offer) if session.offer else port.offer()
        self._use(port)
        former, self._winner = self._forks, Fork(self)
        self._forks = [self._winner]
        self._winner.take(session)
        session.accept(sdp)
        self.port.connect()
        self._now_answered(former)
        self.owner.leg_changed(self)

    # What the far ends do

    def fork_offer(self, fork: Fork, way: Way) -> bytes:
        """See ForkOwner: browsers and phones of another IP version need ports of their own."""
        port = self._offered[fork] = self._port_for(self._plan(way))
        return port.offer()

    def fork_progressed(self, fork: Fork, sdp: bytes) -> None:
        """It rings. Early media counts where there is but one far end to listen to (RFC 3960)."""
        if self.is_ended or self._winner is not None:
            return
        if sdp and len(self._forks) == 1:
            try:
                self._use(self._port_of(fork))
                self.port.take_answer(sdp)
                self.port.connect()
                self._is_heard = True
                self._agreed_with = fork.far_end
            except PlatformError:
                pass  # the answer may do better
        self.on_progress()

    def fork_answered(self, fork: Fork, sdp: bytes) -> None:
        """Take the first 200; later ones, and those after the end, get a BYE."""
        if self.is_ended or (self._winner is not None and fork is not self._winner):
            fork.end(Code.FLOW_ENDED)
            return
        if self._winner is None:
            self._use(self._port_of(fork))
        elif self._change is not None:
            change, self._change = self._change, None
            change(sdp)
            return
        try:
            if sdp:
                self.port.take_answer(sdp)
            elif self._agreed_with != fork.far_end:
                # What was agreed before its 200 (RFC 3262 5, RFC 3311 5.1) is not what is in use.
                raise PlatformError(Code.SDP_MALFORMED, "no answer")  # noqa: TRY301
            self.port.connect()
        except PlatformError as error:
            # The session ends by BYE; fork_ended hears of it with the code given here.
            fork.end(error.code)
            return
        if self._winner is None:
            self._winner = fork
            self._now_answered(self._forks)

    @property
    def is_talking(self) -> bool:
        """See Party."""
        return self.is_answered and self._winner is not None and self._winner.session is not None

    def reinvite(self, sdp: bytes, on_outcome: Callable[[bytes | Code], None]) -> None:
        """See Party."""
        if self._winner is not None and self._winner.session is not None:
            self._change = on_outcome
            self._winner.session.reinvite(sdp)

    def fork_changes(self, sdp: bytes) -> PendingAnswer | None:
        """See ForkOwner."""
        return self.owner.leg_changes(self, sdp) if self.is_answered else None

    def fork_change_refused(self, code: Code) -> None:
        """See ForkOwner."""
        change, self._change = self._change, None
        if change is not None:
            change(code)

    def fork_acknowledged(self, sdp: bytes) -> None:
        """An ACK with SDP answers the offer that an INVITE without one asked for."""
        if not sdp:
            return
        try:
            self.port.take_answer(sdp)
            self.port.connect()
        except PlatformError as error:
            self.hang_up(error.code)
        else:
            self.owner.leg_changed(self)

    def fork_reoffered(self, fork: Fork, sdp: bytes) -> bytes | Code:
        """The phone holds, resumes, or moves its media; one of several that ring has to wait."""
        if self._winner is None and len(self._forks) > 1:
            return Code.STATE_FORBIDS
        if self._winner is None:
            self._use(self._port_of(fork))
        if not sdp:
            return self.port.offer()
        try:
            answer = self.port.answer(sdp)
            self.port.connect()
        except PlatformError as error:
            return error.code
        self._agreed_with = fork.far_end
        self.owner.leg_changed(self)
        return answer

    def fork_referred(self, referral: Referral) -> None:
        """The phone wants the other party to go elsewhere."""
        if self.is_answered:
            self.owner.leg_referred(self, referral)
        else:
            referral.refuse(Code.STATE_FORBIDS)

    def fork_info(self, fork: Fork, content_type: str, body: bytes) -> None:
        """A key sent by INFO counts like one sent by RTP."""
        key = info_digit(content_type, body)
        if key is not None and fork is self._winner:
            self.owner.leg_key(self, key, info_duration_ms(body))

    def fork_ended(self, fork: Fork, end: SessionEnd) -> None:
        """A branch is gone: the leg too when it was the one that talks, or the last to ring."""
        if self.is_ended:
            return
        if fork is self._winner:
            is_agent = self.target.purpose == "agent"
            left = Code.AGENT_HUNG_UP if is_agent else Code.FAR_END_HUNG_UP
            code = left if end.by_peer else end.code
            self._end(code, HangUpParty.FAR_END, 200)
            return
        if self._winner is not None:
            return
        # RFC 3261 16.7 step 5: a 6xx speaks for the person, not for one phone.
        final = end.code is Code.DECLINED
        if final or all(other.ended is not None for other in self._forks):
            worst = min(
                (other.ended for other in self._forks if other.ended is not None),
                key=lambda one: _RANK.index(_told_as(one)),
            )
            self._end(_told_as(worst), HangUpParty.FAR_END, worst.status)

    # Inside

    def _first_plan(self) -> PortPlan:
        first = next((way for ways in self._branches for way in ways), None)
        return PortPlan(self._context.addresses.main) if first is None else self._plan(first)

    def _plan(self, way: Way) -> PortPlan:
        return self._context.plan(self.owner.info.tenant, way.trunk, way.hop)

    def _port_for(self, plan: PortPlan) -> RtpPort:
        port = self._ports.get(plan)
        if port is None:
            port = self._ports[plan] = self._context.open_port(plan)
            port.prefer(self._preferred)
            port.send_key = self._send_key
            if self._on_heard is not None:
                port.detect = _WHILE_RINGING
            if plan.protection is Protection.NONE:
                port.passing = self._passing
        return port

    def _port_of(self, fork: Fork) -> RtpPort:
        return self._offered.get(fork, self.port)

    def _port_towards(self, session: InviteSession) -> RtpPort:
        """Return a port for a phone that picks up, by its own description."""
        context = self._context
        plan = context.plan_towards(self.owner.info.tenant, "", session)
        return self._port_for(plan)

    def _send_key(self, key: str, duration_ms: int) -> None:
        if self._winner is not None and self._winner.session is not None:
            body = info_body(key, duration_ms)
            self._winner.session.send("INFO", body=body, content_type=INFO_TYPE)

    def _use(self, port: RtpPort) -> None:
        """Be heard and listened to at this port from now on."""
        if port is not self.port:
            self.port = port
            port.listen(self._on_media)

    def _close_others(self) -> None:
        """Keep the port in use only: the far end has one."""
        others = [port for port in self._ports.values() if port is not self.port]
        self._ports.clear()
        self._offered.clear()
        for port in others:
            port.listen(_ignore)
            port.close()

    def _now_answered(self, forks: Iterable[Fork]) -> None:
        if self._answered_s is None:
            self._answered_s = self._clock()
        for other in forks:
            if other is not self._winner:
                other.end(Code.FLOW_ENDED)
        self._close_others()
        if self._on_heard is not None:
            self.port.detect = _ONCE_ANSWERED
            self.port.connect()
        if not self._outcome.done():
            self._outcome.set_result(None)

    def _end(self, code: Code, by: HangUpParty, sip_status: int) -> None:
        if self._code is not None:
            return
        self._code = code
        self._sip_status = sip_status
        self._ended_s = self._clock()
        self.owner.leg_ended(self, by)
        for fork in self._forks:
            fork.end(code)
        if not self._outcome.done():
            self._outcome.set_result(code)
        self._close_others()
        self.port.close()

    def _on_media(self, event: MediaEvent) -> None:
        if isinstance(event, PortClosed):
            # Nobody has asked for it: the media process is gone, and the port with it.
            self.hang_up(Code.MEDIA_UNAVAILABLE)
            self._closed(event)
        elif isinstance(event, MediaTimedOut):
            self.hang_up(Code.MEDIA_TIMEOUT)
        elif isinstance(event, SecureMediaFailed):
            self.hang_up(Code.SECURE_MEDIA_FAILED)
        elif isinstance(event, ToneDetected):
            if self._on_heard is not None:
                self._on_heard(event.signal)
        elif isinstance(event, AnswerJudged):
            if self._on_heard is not None:
                self._on_heard(event.answer)
        else:
            self.owner.leg_media(self, event)

    def _closed(self, event: PortClosed) -> None:
        answered_s = self._answered_s
        rang_until_s = self._ended_s if answered_s is None else answered_s
        self._publish(
            LegEnded(
                leg=self._leg_id,
                sip_status=self._sip_status,
                ring_ms=round((rang_until_s - self._begun_s) * 1000),
                talk_ms=0 if answered_s is None else round((self._ended_s - answered_s) * 1000),
                media=media_figures(event.figures),
                trunk=self._trunk,
            ),
            self._code,
        )
        self._forks.clear()  # they know the leg: no circle is left for the garbage collector
        self._winner = None
        self.owner.leg_closed(self)

    @property
    def _trunk(self) -> str:
        """The trunk of an outside number: that of the answer, or the last one tried."""
        for fork in (self._winner, *self._forks):
            if fork is not None and fork.way is not None:
                return fork.way.trunk
        return ""

    def _publish(self, body: LegStarted | LegEnded, cause: Code | None = None) -> None:
        info = self.owner.info
        self._context.events.publish(info.tenant, body, call_id=info.call_id, cause=cause)


def _ignore(_event: MediaEvent) -> None:
    """Let events of a port be that is not in use."""


def _nobody_listens() -> None:
    """Take what nobody asked for."""


def _told_as(end: SessionEnd) -> Code:
    return _TOLD_AS.get(end.code, Code.FAR_END_REFUSED)
