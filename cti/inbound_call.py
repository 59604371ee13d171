"""A caller's call: `cti.call.Call` on a SIP session and a media port.

The handler runs in one task. Everything else is plain callbacks of session, media engine and legs,
so that a call costs one task and a future for each thing that it waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from cti.call import (
    BridgeEnd,
    CallHandler,
    CallInfo,
    Clip,
    Collected,
    DialTarget,
    HangUpParty,
    JsonValue,
    Leg,
    RingingLeg,
)
from cti.call_context import CallContext, media_figures
from cti.caller_audio import CallerAudio
from cti.conversation import Conversation
from cti.digits import info_digit
from cti.leg import OutgoingLeg
from cti.media import (
    DigitReceived,
    MediaEvent,
    MediaTimedOut,
    PlayEnded,
    PortClosed,
    PortFigures,
)
from cti.rtp_port import RtpPort
from cti.sip.causes import refusal_status
from cti.sip.session import InviteSession, SessionEnd, SessionObserverBase
from cti95598.events.v1.events_pb2 import CallAnswered, CallEnded, LegEnded, LegStarted
from domain.failures import CATALOGUE, Code, PlatformError
from domain.ids import LegId, time_ordered_id

_log = structlog.get_logger(__name__)

# How long after its end a call waits for its handler, recordings and figures before it is closed
# without them.
_SETTLE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class CallEnding:
    """How a call ended."""

    code: Code
    by: HangUpParty
    sip_status: int
    at_s: float


class InboundCall(SessionObserverBase):
    """Implements `cti.call.Call`; observes the caller's session."""

    def __init__(
        self,
        context: CallContext,
        info: CallInfo,
        session: InviteSession,
        port: RtpPort,
        *,
        local_sdp: bytes,
        language: str,
        on_ended: Callable[[InboundCall], None],
        on_settled: Callable[[InboundCall], None],
    ) -> None:
        """Take over session and port.

        `on_ended` is called when the caller is gone, `on_settled` after the last event.
        """
        self.info = info
        self.data: dict[str, JsonValue] = {}
        self.path: list[str] = []
        self.language = language
        self.ending: CallEnding | None = None

        self._context = context
        self._loop = asyncio.get_running_loop()
        self._arrived_s = self._loop.time()
        self._session = session
        self._port = port
        self._local_sdp = local_sdp
        self._on_ended = on_ended
        self._on_settled = on_settled
        self._acknowledged: asyncio.Future[None] | None = None
        self._answered = False
        self._audio = CallerAudio(context.router.engine, port.port_id, info.call_id)
        self._legs: set[OutgoingLeg] = set()
        self._task: asyncio.Task[None] | None = None
        self._settle_timer: asyncio.TimerHandle | None = None
        self._figures: PortFigures | None = None
        # The handler, the caller's port, each leg and each recording; the call has settled when
        # none is left.
        self._open_parts = 1
        self._is_settled = False
        session.observer = self
        port.listen(self._on_media)

    def start(self, handler: CallHandler) -> None:
        """Run the handler in a task of its own."""
        self._open_parts += 1
        self._task = self._loop.create_task(self._handle(handler))
        # A task that is cancelled before its first step never enters its coroutine, hence this.
        self._task.add_done_callback(self._on_handled)

    @property
    def is_answered(self) -> bool:
        """Whether the caller's ACK came."""
        return self._answered

    # cti.call.Call

    async def answer(self) -> None:
        """Answer the caller (200 and ACK)."""
        self._check_live()
        if self._answered:
            return
        if self._acknowledged is None:
            self._port.connect()
            self._acknowledged = self._loop.create_future()
            self._session.accept(self._local_sdp)
        await asyncio.shield(self._acknowledged)

    async def play(self, clips: Sequence[Clip], *, barge_in: bool = True) -> bool:
        """Play clips; True when played to the end."""
        self._check_answered()
        return await self._audio.play(clips, barge_in=barge_in)

    async def collect(
        self,
        clips: Sequence[Clip] = (),
        *,
        max_digits: int = 1,
        terminators: str = "#",
        first_digit_timeout_ms: int = 5000,
        inter_digit_timeout_ms: int = 3000,
        barge_in: bool = True,
    ) -> Collected:
        """Play clips and collect keys."""
        self._check_answered()
        return await self._audio.collect(
            clips,
            max_digits=max_digits,
            terminators=terminators,
            first_digit_timeout_ms=first_digit_timeout_ms,
            inter_digit_timeout_ms=inter_digit_timeout_ms,
            barge_in=barge_in,
        )

    def flush_digits(self) -> None:
        """Forget keys that nobody collected."""
        self._audio.flush_digits()

    def start_music(self, clips: Sequence[Clip]) -> None:
        """Play clips in a loop in the background."""
        self._check_answered()
        self._audio.start_music(clips)

    def stop_music(self) -> None:
        """Stop what `start_music` began."""
        self._audio.stop_music()

    async def next_digit(self) -> str:
        """Wait for one key."""
        self._check_answered()
        return await self._audio.next_digit()

    async def dial(
        self,
        target: DialTarget,
        *,
        timeout_ms: int,
        on_ringing: Callable[[RingingLeg], None] | None = None,
    ) -> OutgoingLeg:
        """Ring a phone and return its answered leg."""
        self._check_live()
        bindings = await self._context.contacts.lookup(self.info.tenant, target.user)
        self._check_live()
        if not bindings:
            raise self._unregistered(target)
        leg = OutgoingLeg(self._context, self.info, target, self._on_leg_closed)
        self._open_parts += 1
        self._legs.add(leg)
        try:
            leg.invite(target, bindings)
            if on_ringing is not None:
                on_ringing(leg)
            await leg.answered(timeout_ms)
        except asyncio.CancelledError:
            leg.hang_up(Code.CALLER_ABANDONED)
            raise
        except Exception:
            leg.hang_up(Code.INTERNAL)  # no news to a leg that failed by itself
            raise
        return leg

    async def bridge(self, leg: Leg, *, record_party: str | None = None) -> BridgeEnd:
        """Connect caller and leg until either ends."""
        self._check_answered()
        if not isinstance(leg, OutgoingLeg) or leg not in self._legs:
            raise TypeError("only a leg that this call dialled can be bridged")
        if leg.is_ended:
            return BridgeEnd(HangUpParty.FAR_END, 0)
        self._audio.give_way()
        conversation = Conversation(
            self._context,
            self.info,
            caller_port=self._port.port_id,
            leg_port=leg.port.port_id,
            leg_id=leg.leg_id,
            agent=record_party,
        )
        if record_party is not None and conversation.record(self._part_closed):
            self._open_parts += 1
        leg.conversation = conversation
        conversation.begin()
        try:
            return await conversation.ended
        finally:
            conversation.finish(HangUpParty.PLATFORM)
            leg.conversation = None

    async def hang_up(self, code: Code = Code.FLOW_ENDED) -> None:
        """End the call."""
        self.end(code)

    def end(self, code: Code) -> None:
        """End the call from the platform's side; does nothing when it has ended."""
        self._end(code, HangUpParty.PLATFORM, 0)

    # cti.sip.session.SessionObserver

    def on_acknowledged(self, sdp: bytes) -> None:
        """The caller's ACK; with SDP it answers an offer of ours."""
        if self.ending is not None:
            return
        if sdp:
            try:
                self._port.take_answer(sdp)
                self._port.connect()
            except PlatformError as error:
                self.end(error.code)
                return
        if not self._answered:
            self._answered = True
            self._publish(CallAnswered())
            if self._acknowledged is not None and not self._acknowledged.done():
                self._acknowledged.set_result(None)

    def on_reoffer(self, sdp: bytes) -> bytes | Code:
        """The caller holds, resumes, or moves its media."""
        if not sdp:
            return self._port.offer()
        try:
            self._local_sdp = self._port.answer(sdp)
            if self._acknowledged is not None:
                self._port.connect()
        except PlatformError as error:
            return error.code
        return self._local_sdp

    def on_info(self, content_type: str, body: bytes) -> None:
        """A key sent by INFO counts like one sent by RTP."""
        key = info_digit(content_type, body)
        if key is not None:
            self._audio.on_key(key)

    def on_ended(self, end: SessionEnd) -> None:
        """The caller left, or the session failed."""
        if not end.by_peer:
            self._end(end.code, HangUpParty.PLATFORM, end.status)
        elif self._answered:
            self._end(Code.CALLER_HUNG_UP, HangUpParty.CALLER, 200)
        else:
            self._end(Code.CALLER_ABANDONED, HangUpParty.CALLER, 487)

    def _on_media(self, event: MediaEvent) -> None:
        if isinstance(event, DigitReceived):
            self._audio.on_key(event.digit)
        elif isinstance(event, PlayEnded):
            self._audio.on_play_ended(event)
        elif isinstance(event, MediaTimedOut):
            self.end(Code.MEDIA_TIMEOUT)
        elif isinstance(event, PortClosed):
            self._figures = event.figures
            self._part_closed()

    # Ending

    def _check_live(self) -> None:
        if self.ending is not None:
            raise PlatformError(Code.NO_CALL, f"call {self.info.call_id} has ended")

    def _check_answered(self) -> None:
        self._check_live()
        if not self._answered:
            raise PlatformError(Code.STATE_FORBIDS, "the call has to be answered first")

    def _unregistered(self, target: DialTarget) -> PlatformError:
        code = Code.PHONE_NOT_REGISTERED
        leg = LegId(time_ordered_id())
        self._publish(LegStarted(leg=leg, target=target.user, purpose=target.purpose))
        self._publish(LegEnded(leg=leg, sip_status=CATALOGUE[code].sip_status), code)
        return PlatformError(code, "no contact is known")

    async def _handle(self, handler: CallHandler) -> None:
        await handler(self)

    def _on_handled(self, task: asyncio.Task[None]) -> None:
        """Turn how the handler ended into how the call ends."""
        if task.cancelled():
            if self.ending is None:
                _log.error("handler_cancelled", call_id=self.info.call_id)
            self.end(Code.INTERNAL)
        else:
            error = task.exception()
            if error is None:
                self.end(Code.FLOW_ENDED)
            elif isinstance(error, PlatformError):
                if self.ending is None:
                    _log.warning("call_failed", call_id=self.info.call_id, reason=str(error))
                self.end(error.code)
            else:
                _log.error("handler_failed", call_id=self.info.call_id, exc_info=error)
                self.end(Code.INTERNAL)
        self._part_closed()

    def _end(self, code: Code, by: HangUpParty, sip_status: int) -> None:
        """End everything that the call holds, once; from any state, and never raises."""
        if self.ending is not None:
            return
        if not sip_status:
            sip_status = 200 if self._answered else refusal_status(code)
        self.ending = CallEnding(code, by, sip_status, self._loop.time())
        self._settle_timer = self._loop.call_later(_SETTLE_TIMEOUT_S, self._settle_late)
        for leg in list(self._legs):
            if leg.conversation is not None:
                leg.conversation.finish(by)
            leg.hang_up(code)
        self._session.end(code)
        self._port.close()
        if self._task is not None and self._task is not asyncio.current_task(self._loop):
            self._task.cancel()
        self._fail_waiters()
        self._on_ended(self)

    def _fail_waiters(self) -> None:
        """Wake tasks that the handler started and that its own cancelling does not reach."""
        gone = PlatformError(Code.NO_CALL, f"call {self.info.call_id} has ended")
        self._audio.fail(gone)
        if self._acknowledged is not None and not self._acknowledged.done():
            self._acknowledged.set_exception(gone)
            self._acknowledged.exception()  # not an error when nobody waits any more

    def _on_leg_closed(self, leg: OutgoingLeg) -> None:
        self._legs.discard(leg)
        self._part_closed()

    def _part_closed(self) -> None:
        self._open_parts -= 1
        if self._open_parts == 0:
            self._settle()

    def _settle_late(self) -> None:
        _log.error("call_did_not_settle", call_id=self.info.call_id, open_parts=self._open_parts)
        self._settle()

    def _settle(self) -> None:
        """Publish the last event of the call."""
        ending = self.ending
        if self._is_settled or ending is None:
            return
        self._is_settled = True
        if self._settle_timer is not None:
            self._settle_timer.cancel()
        by_caller = ending.by is HangUpParty.CALLER
        self._publish(
            CallEnded(
                by=CallEnded.PARTY_CALLER if by_caller else CallEnded.PARTY_PLATFORM,
                sip_status=ending.sip_status,
                duration_ms=round((ending.at_s - self._arrived_s) * 1000),
                media=media_figures(self._figures),
            ),
            ending.code,
        )
        self._on_settled(self)

    def _publish(
        self, body: CallAnswered | CallEnded | LegEnded | LegStarted, cause: Code | None = None
    ) -> None:
        info = self.info
        self._context.events.publish(info.tenant, body, call_id=info.call_id, cause=cause)
