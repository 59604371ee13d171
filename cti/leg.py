"""A phone that the platform rings: one INVITE to each contact, the first to answer wins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from cti.call import CallInfo, DialTarget, HangUpParty
from cti.call_context import CallContext, media_figures
from cti.contacts import Binding
from cti.conversation import Conversation
from cti.media import MediaEvent, MediaTimedOut, PortClosed
from cti.sip.session import InviteSession, SessionEnd, SessionObserverBase
from cti.sip.uri import NameAddr, SipUri
from cti95598.events.v1.events_pb2 import LegEnded, LegStarted
from domain.failures import Code, PlatformError
from domain.ids import LegId, time_ordered_id

# RFC 3326 and RFC 3261 9.1 leave the status of a cancelled INVITE to the peer; it is this one.
_REQUEST_TERMINATED = 487

# When no contact answers: how each failure is told, and which of several counts, the first first.
_TOLD_AS: dict[Code, Code] = {
    Code.DECLINED: Code.DECLINED,
    Code.BUSY: Code.BUSY,
    Code.NO_COMMON_CODEC: Code.NO_COMMON_CODEC,
    Code.SDP_MALFORMED: Code.FAR_END_REFUSED,
    Code.FAR_END_REFUSED: Code.FAR_END_REFUSED,
    Code.NO_ANSWER: Code.NO_ANSWER,
    Code.SIP_TIMEOUT: Code.PHONE_UNREACHABLE,
    Code.SIP_TRANSPORT: Code.PHONE_UNREACHABLE,
    Code.PHONE_UNREACHABLE: Code.PHONE_UNREACHABLE,
}
_RANK = list(dict.fromkeys(_TOLD_AS.values()))


class _Fork(SessionObserverBase):
    """The INVITE to one contact; observes its session. Keys of a phone mean nothing here."""

    def __init__(self, leg: OutgoingLeg) -> None:
        self._leg = leg
        self.session: InviteSession | None = None
        self.ended: SessionEnd | None = None

    def end(self, code: Code) -> None:
        if self.ended is None and self.session is not None:
            self.session.end(code)

    def on_answered(self, sdp: bytes) -> None:
        self._leg.fork_answered(self, sdp)

    def on_acknowledged(self, sdp: bytes) -> None:
        self._leg.fork_acknowledged(sdp)

    def on_reoffer(self, sdp: bytes) -> bytes | Code:
        return self._leg.fork_reoffered(sdp)

    def on_ended(self, end: SessionEnd) -> None:
        self.ended = end
        self._leg.fork_ended(self, end)


class OutgoingLeg:
    """Implements `RingingLeg` and, once answered, `Leg`."""

    def __init__(
        self,
        context: CallContext,
        info: CallInfo,
        target: DialTarget,
        on_closed: Callable[[OutgoingLeg], None],
    ) -> None:
        """Open the RTP port; PlatformError MEDIA_PORTS_EXHAUSTED."""
        self._context = context
        self._info = info
        self._on_closed = on_closed
        self._leg_id = LegId(time_ordered_id())
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._begun_s = loop.time()
        self._answered_s: float | None = None
        self._code: Code | None = None
        self._sip_status = 0
        self._ended_s = 0.0
        self._forks: list[_Fork] = []
        self._winner: _Fork | None = None
        self._outcome: asyncio.Future[Code | None] = loop.create_future()
        self.conversation: Conversation | None = None
        self.port = context.open_port()
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

    def invite(self, target: DialTarget, bindings: Sequence[Binding]) -> None:
        """Ring all contacts. Nothing of the caller's own dialog goes out with it."""
        domain = self._context.domain
        from_ = NameAddr(
            SipUri(user=target.caller_number, host=domain),
            "".join(filter(str.isprintable, target.caller_name)) or target.caller_number,
        )
        headers: list[tuple[str, str]] = []
        if target.auto_answer:
            # RFC 5373, and the older habit that most desk phones know.
            headers = [
                ("Answer-Mode", "Auto"),
                ("Call-Info", f"<sip:{domain}>;answer-after=0"),
            ]
        offer = self.port.offer()
        forks = [_Fork(self) for _ in bindings]
        self._forks = forks
        for fork, binding in zip(forks, bindings, strict=True):
            try:
                fork.session = self._context.user_agent.invite(
                    binding.contact_uri,
                    from_=from_,
                    to=NameAddr(SipUri(user=target.user, host=domain)),
                    hop=binding.hop,
                    sdp=offer,
                    observer=fork,
                    headers=headers,
                )
            except ValueError:  # a contact that no request can be sent to
                fork.on_ended(SessionEnd(by_peer=False, status=503, code=Code.SIP_TRANSPORT))

    async def answered(self, timeout_ms: int) -> None:
        """Wait until a contact answers; PlatformError says why none did."""
        deadline = self._clock() + timeout_ms / 1000
        loop = asyncio.get_running_loop()
        timer = loop.call_at(deadline, self.hang_up, Code.NO_ANSWER)
        try:
            code = await self._outcome
        finally:
            timer.cancel()
        if code is not None:
            raise PlatformError(code, f"phone {self._leg_id}")

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
            accepted.set_result(self._winner is not None and not self.is_ended)
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

    # What the contacts do

    def fork_answered(self, fork: _Fork, sdp: bytes) -> None:
        """Take the first 200; later ones, and those after the end, get a BYE."""
        if self.is_ended or self._winner is not None:
            if fork is not self._winner:
                fork.end(Code.FLOW_ENDED)
            return
        try:
            self.port.take_answer(sdp)
            self.port.connect()
        except PlatformError as error:
            # The session ends by BYE; fork_ended hears of it with the code given here.
            fork.end(error.code)
            return
        self._winner = fork
        self._answered_s = self._clock()
        for other in self._forks:
            if other is not fork:
                other.end(Code.FLOW_ENDED)
        if not self._outcome.done():
            self._outcome.set_result(None)

    def fork_acknowledged(self, sdp: bytes) -> None:
        """An ACK with SDP answers the offer that an empty re-INVITE asked for."""
        if not sdp:
            return
        try:
            self.port.take_answer(sdp)
            self.port.connect()
        except PlatformError as error:
            self.hang_up(error.code)

    def fork_reoffered(self, sdp: bytes) -> bytes | Code:
        """The phone holds, resumes, or moves its media."""
        if not sdp:
            return self.port.offer()
        try:
            answer = self.port.answer(sdp)
            self.port.connect()
        except PlatformError as error:
            return error.code
        return answer

    def fork_ended(self, fork: _Fork, end: SessionEnd) -> None:
        """A contact is gone: the leg too when it was the one that talks, or the last to ring."""
        if self.is_ended:
            return
        if fork is self._winner:
            code = Code.AGENT_HUNG_UP if end.by_peer else end.code
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

    # Ending

    def _end(self, code: Code, by: HangUpParty, sip_status: int) -> None:
        if self._code is not None:
            return
        self._code = code
        self._sip_status = sip_status
        self._ended_s = self._clock()
        if self.conversation is not None:
            self.conversation.finish(by)
        for fork in self._forks:
            fork.end(code)
        if not self._outcome.done():
            self._outcome.set_result(code)
        self.port.close()

    def _on_media(self, event: MediaEvent) -> None:
        if isinstance(event, PortClosed):
            self._closed(event)
        elif isinstance(event, MediaTimedOut):
            self.hang_up(Code.MEDIA_TIMEOUT)

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
            ),
            self._code,
        )
        self._on_closed(self)

    def _publish(self, body: LegStarted | LegEnded, cause: Code | None = None) -> None:
        info = self._info
        self._context.events.publish(info.tenant, body, call_id=info.call_id, cause=cause)


def _told_as(end: SessionEnd) -> Code:
    return _TOLD_AS.get(end.code, Code.FAR_END_REFUSED)
