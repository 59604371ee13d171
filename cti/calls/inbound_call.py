"""A call that came in: `cti.call.Call` on a caller's line, legs, and conversations between them.

The handler runs in one task. Everything else is plain callbacks of session, media engine and legs,
so that a call costs one task and a future for each thing that it waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
    ProgressingLeg,
    RingingLeg,
    Talk,
)
from cti.calls.assistance import Assistance
from cti.calls.call_context import CallContext, media_figures
from cti.calls.caller_audio import CallerAudio
from cti.calls.caller_line import CallerLine
from cti.calls.conversation import Conversation, FarParty
from cti.calls.dialling import branches_to, hops_left, ring
from cti.calls.leg import OutgoingLeg
from cti.calls.listening import CallListeners, Listening
from cti.calls.parts import OpenParts
from cti.calls.passage import Party, Passage
from cti.calls.transfer import Transfer, transfer
from cti.media import Answer, DigitReceived, MediaEvent, PlayEnded, PortClosed, PortFigures, Signal
from cti.rtp_port import RtpPort
from cti.sdp.passing import NOTHING_PASSED
from cti.settings import AccessCodeSettings
from cti.sip.sessions.causes import refusal_status
from cti.sip.sessions.session import InviteSession, Referral
from cti.sip.sessions.session_events import PendingAnswer
from cti95598.events.v1.events_pb2 import CallAnswered, CallEnded, LegEnded, LegStarted
from domain.failures import Code, PlatformError

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CallEnding:
    """How a call ended."""

    code: Code
    by: HangUpParty
    sip_status: int
    at_s: float


class InboundCall:
    """Implements `cti.call.Call`; owns the caller's line and the legs."""

    def __init__(
        self,
        context: CallContext,
        info: CallInfo,
        session: InviteSession,
        port: RtpPort,
        *,
        local_sdp: bytes,
        language: str,
        may_transfer: bool,
        flow_handler: CallHandler,
        on_ended: Callable[[InboundCall], None],
        on_settled: Callable[[InboundCall], None],
    ) -> None:
        """Take over session and port.

        `may_transfer`: whether the caller may send the far end elsewhere. `flow_handler` takes the
        call when it is sent into a flow. `on_ended` is called when the caller is gone, `on_settled`
        after the last event.
        """
        self.info = info
        self.data: dict[str, JsonValue] = {}
        self.path: list[str] = []
        self.language = language
        self.ending: CallEnding | None = None
        self.context = context
        self.conversation: Conversation | None = None
        self.transfer: Transfer | None = None
        self._assistance: Assistance | None = None

        self._loop = asyncio.get_running_loop()
        self._arrived_s = self._loop.time()
        self._may_caller_transfer = may_transfer
        self._flow_handler = flow_handler
        self._on_ended = on_ended
        self._on_settled = on_settled
        self._caller = CallerLine(self, session, port, local_sdp)
        self._max_forwards = hops_left(session.request)
        self._is_caller_gone = False
        self._stand_in: OutgoingLeg | None = None
        self._audio = CallerAudio(context.router.engine, port.port_id, info.call_id)
        self._listeners = CallListeners(context.router, port.port_id)
        self._legs: set[OutgoingLeg] = set()
        self._on_transferred: Callable[[Leg], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._redirect: AccessCodeSettings | None = None
        self._figures: PortFigures | None = None
        # The handler, the caller's port, each leg, transfer and recording.
        self._passage = Passage(context.router.engine, context.media_timeout_ms)
        self._parts = OpenParts(info.call_id, self._settle)
        self._parts.open()

    def start(self, handler: CallHandler) -> None:
        """Run the handler in a task of its own."""
        self._parts.open()
        self._task = self._loop.create_task(self._handle(handler))
        # A task that is cancelled before its first step never enters its coroutine, hence this.
        self._task.add_done_callback(self._on_handled)

    # cti.call.Call

    def ring(self, early_media: ProgressingLeg | None = None) -> None:
        """Send 180, or 183 and let the caller hear the leg."""
        if self.ending is not None:
            return
        leg = early_media if isinstance(early_media, OutgoingLeg) else None
        if leg is not None and leg.has_early_media and self._caller.let_hear(leg.port):
            caller, far_end = self.caller_port.port_id, leg.port.port_id
            engine = self.context.router.engine
            engine.set_routes({caller: [far_end], far_end: [caller]})
            if not leg.port.wants_info:
                engine.set_key_routes({far_end: [caller]})
            engine.stop_play(caller)
            self._listeners.follow(((caller,), (far_end,)))
        else:
            self._caller.ring()

    async def answer(self) -> None:
        """Answer the caller (200 and ACK)."""
        self._check_live()
        if not self._caller.is_answered:
            leg = self.far_leg
            await self._caller.answer(leg.port if leg is not None else None)

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

    def start_ringback(self) -> None:
        """Play the network's ringback tone in the background."""
        self._check_answered()
        self._audio.start_ringback()

    def stop_music(self) -> None:
        """Stop what `start_music` or `start_ringback` began."""
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
        on_progress: Callable[[ProgressingLeg], None] | None = None,
        on_heard: Callable[[Signal | Answer], None] | None = None,
        towards: RtpPort | None = None,
    ) -> OutgoingLeg:
        """Ring a phone or an outside number and return its answered leg.

        It is rung to talk to the caller, or to whom `towards` belongs.
        """
        self._check_live()
        branches = await branches_to(self.context, self.info, target, self._max_forwards)
        self._check_live()
        heard_by = (towards or self.caller_port).agreed
        preferred = heard_by.codec if heard_by is not None else None
        passing = self._caller.passable if towards is None else NOTHING_PASSED
        leg = OutgoingLeg(self.context, self, target, branches, preferred, passing)
        self._parts.open()
        self._legs.add(leg)
        return await ring(
            leg,
            timeout_ms=timeout_ms,
            on_ringing=on_ringing,
            on_progress=on_progress,
            on_heard=on_heard,
        )

    async def bridge(
        self,
        leg: Leg,
        *,
        record_party: str | None = None,
        on_transferred: Callable[[Leg], None] | None = None,
        on_begun: Callable[[Talk], None] | None = None,
    ) -> BridgeEnd:
        """Connect caller and leg until either ends."""
        self._check_answered()
        if not isinstance(leg, OutgoingLeg) or leg not in self._legs:
            raise TypeError("only a leg that this call dialled can be bridged")
        if leg.is_ended:
            return BridgeEnd(HangUpParty.FAR_END, 0)
        self._audio.give_way()
        conversation = Conversation(
            self.context,
            self.info,
            self._parts,
            caller=self.caller_port,
            leg=leg,
            agent=record_party,
            on_sides=self._listeners.follow,
        )
        self.conversation = conversation
        self._on_transferred = on_transferred
        conversation.begin()
        self._passage.join(self._caller_side, leg)
        self._assistance = Assistance(self, conversation, self.context.router.engine)
        if on_begun is not None:
            on_begun(self._assistance)
        try:
            return await conversation.ended
        finally:
            self._finish_conversation(HangUpParty.PLATFORM)

    async def hang_up(self, code: Code = Code.FLOW_ENDED, *, sip_status: int = 0) -> None:
        """End the call; an unanswered one by `sip_status` where it is given."""
        self._end(code, HangUpParty.PLATFORM, sip_status)

    def end(self, code: Code) -> None:
        """End the call from the platform's side; does nothing when it has ended."""
        self._end(code, HangUpParty.PLATFORM, 0)

    # Who listens from outside

    def listen(self) -> Listening:
        """Let a subscriber hear both sides from now on, whoever they come to be.

        PlatformError CALL_UNKNOWN after its end, OVERLOADED where many do.
        """
        if self.ending is not None:
            raise PlatformError(Code.CALL_UNKNOWN)
        return self._listeners.add(self.info, self.language)

    # What the caller does

    def caller_answered(self) -> None:
        """See CallerOwner."""
        if self.ending is None:
            self._publish(CallAnswered())

    def caller_changes(self, sdp: bytes) -> PendingAnswer | None:
        """See CallerOwner."""
        leg = self.conversation.leg if self.conversation is not None else None
        if not isinstance(leg, OutgoingLeg) or self.transfer is not None:
            return None
        return self._passage.carry(sdp, self._caller_side, leg)

    def caller_changed(self) -> None:
        """See CallerOwner."""
        if self.conversation is not None:
            self.conversation.hold_changed()

    def caller_key(self, key: str, duration_ms: int) -> None:
        """See CallerOwner."""
        self._audio.on_key(key)
        self._pass_key(self._caller.port, key, duration_ms, by_info=True)

    def caller_media(self, event: MediaEvent) -> None:
        """See CallerOwner."""
        if isinstance(event, DigitReceived):
            self._audio.on_key(event.digit)
            self._pass_key(self.caller_port, event.digit, event.duration_ms, by_info=False)
        elif isinstance(event, PlayEnded):
            self._audio.on_play_ended(event)
        elif isinstance(event, PortClosed):
            self._figures = event.figures
            self._parts.close()

    def caller_referred(self, referral: Referral) -> None:
        """See CallerOwner."""
        self._refer(referral, None)

    def caller_left(self, code: Code, sip_status: int, *, by_caller: bool) -> None:
        """See CallerOwner; a caller who has sent the far end elsewhere may leave before that."""
        by = HangUpParty.CALLER if by_caller else HangUpParty.PLATFORM
        if (
            self.ending is None
            and self.transfer is not None
            and self.transfer.goes_on_without(None)
        ):
            self._let_caller_go(code)
            return
        self._end(code, by, sip_status)

    # What the legs do

    def leg_media(self, leg: OutgoingLeg, event: MediaEvent) -> None:
        """See LegOwner."""
        if leg is self._stand_in:
            self.caller_media(event)
        elif isinstance(event, DigitReceived):
            self._pass_key(leg.port, event.digit, event.duration_ms, by_info=False)

    def leg_key(self, leg: OutgoingLeg, key: str, duration_ms: int) -> None:
        """See LegOwner."""
        if leg is self._stand_in:
            self._audio.on_key(key)
        self._pass_key(leg.port, key, duration_ms, by_info=True)

    def _pass_key(self, port: RtpPort, key: str, duration_ms: int, *, by_info: bool) -> None:
        if self.conversation is not None:
            self.conversation.pass_key(port.port_id, key, duration_ms, by_info=by_info)

    def leg_changes(self, leg: OutgoingLeg, sdp: bytes) -> PendingAnswer | None:
        """See LegOwner."""
        conversation = self.conversation
        if leg is self._stand_in:
            return self.caller_changes(sdp)
        if conversation is None or conversation.leg is not leg or self.transfer is not None:
            return None
        return self._passage.carry(sdp, leg, self._caller_side)

    def leg_changed(self, leg: OutgoingLeg) -> None:  # noqa: ARG002 - both sides are looked at
        """See LegOwner."""
        self.caller_changed()

    def leg_referred(self, leg: OutgoingLeg, referral: Referral) -> None:
        """See LegOwner."""
        if self._assistance is not None and self._assistance.helps(leg):
            referral.refuse(Code.STATE_FORBIDS)
        else:
            self._refer(referral, None if leg is self._stand_in else leg)

    def _refer(self, referral: Referral, by: OutgoingLeg | None) -> None:
        if self._assistance is not None and self._assistance.is_consulting:
            referral.refuse(Code.STATE_FORBIDS)  # the agent completes or cancels that first
        else:
            transfer(self, referral, by)

    def leg_ended(self, leg: OutgoingLeg, by: HangUpParty) -> None:
        """See LegOwner."""
        conversation = self.conversation
        if leg is self._stand_in:
            self.caller_left(Code.CALLER_HUNG_UP, 200, by_caller=by is HangUpParty.FAR_END)
        elif conversation is None or self._assistance is None:
            return
        elif conversation.leg is not leg:
            self._assistance.leg_ended(leg)
        elif self.transfer is not None and self.transfer.goes_on_without(leg):
            return
        elif not self._assistance.goes_on_without_agent():
            self._finish_conversation(by)

    def leg_closed(self, leg: OutgoingLeg) -> None:
        """See LegOwner."""
        self._legs.discard(leg)
        self._parts.close()

    # What transfers do

    @property
    def may_transfer(self) -> bool:
        """Whether who is in the caller's place may send the far end elsewhere."""
        if self._stand_in is None:
            return self._may_caller_transfer
        return self._stand_in.may_transfer

    @property
    def caller_port(self) -> RtpPort:
        """The port of the caller, or of the leg in the caller's place."""
        return self._caller.port if self._stand_in is None else self._stand_in.port

    @property
    def far_leg(self) -> OutgoingLeg | None:
        """The leg that the caller talks to, or is going to as soon as its own ACK comes."""
        if self.conversation is not None:
            leg = self.conversation.leg
            return leg if isinstance(leg, OutgoingLeg) else None
        answered = [leg for leg in self._legs if leg.is_answered and leg is not self._stand_in]
        return answered[0] if len(answered) == 1 else None

    def is_in_callers_place(self, leg: OutgoingLeg) -> bool:
        """Whether an earlier transfer has put this leg there."""
        return leg is self._stand_in

    def begin_transfer(self, beginning: Transfer) -> None:
        """Let one party wait until the other one's place is filled."""
        self._parts.open()
        self.transfer = beginning

    def end_transfer(self) -> None:
        """The place is filled, or is not going to be."""
        self._parts.close()
        if self._assistance is not None:
            self._assistance.transfer_ended()

    def take_far_end(self, party: FarParty, *, agent: str = "") -> None:
        """Talk to somebody else from now on."""
        self._passage.end()
        if self.conversation is not None:
            if self._assistance is not None:
                self._assistance.agent_changes()
            self.conversation.go_on(leg=party, agent=agent)
            self.far_end_changed(party)

    def far_end_changed(self, party: FarParty) -> None:
        """Tell the handler that somebody else is there now."""
        if self._on_transferred is not None:
            self._on_transferred(party)

    def take_caller(self, leg: OutgoingLeg) -> None:
        """Let a leg stand in the caller's place, and the caller go."""
        self._passage.end()
        former, self._stand_in = self._stand_in, leg
        self._audio = CallerAudio(self.context.router.engine, leg.port.port_id, self.info.call_id)
        if self.conversation is not None:
            self.conversation.go_on(caller=leg.port)
        else:
            self._listeners.follow_alone(leg.port.port_id)
        if former is not None:
            former.hang_up(Code.CALL_TRANSFERRED)
        else:
            self._let_caller_go(Code.CALL_TRANSFERRED)

    def take_over_caller(self, session: InviteSession) -> None:
        """Let a phone go on with this call in the place of the one that made it."""
        self._caller.take_over(session)

    def adopt(self, leg: OutgoingLeg, giver: InboundCall) -> None:
        """Take a leg from another call; that call's conversation is over."""
        giver._finish_conversation(HangUpParty.PLATFORM)
        giver._legs.discard(leg)
        leg.owner = self
        self._legs.add(leg)
        self._parts.open()
        giver._parts.close()

    def redirect(self, access_code: AccessCodeSettings) -> None:
        """Send the caller into another flow, as if that number had been dialled."""
        if self._task is not None:
            self._redirect = access_code
            self._task.cancel()

    @property
    def _caller_side(self) -> Party:
        return self._caller if self._stand_in is None else self._stand_in

    # Ending

    def _check_live(self) -> None:
        if self.ending is not None:
            raise PlatformError(Code.NO_CALL, f"call {self.info.call_id} has ended")

    def _check_answered(self) -> None:
        self._check_live()
        if not self._caller.is_answered:
            raise PlatformError(Code.STATE_FORBIDS, "the call has to be answered first")

    async def _handle(self, handler: CallHandler) -> None:
        while True:
            try:
                await handler(self)
            except asyncio.CancelledError:
                access_code, self._redirect = self._redirect, None
                if access_code is None or self.ending is not None or self._task is None:
                    raise
                self._task.uncancel()
                handler = self._flow_handler
                self.info = replace(self.info, access_code=access_code.code, flow=access_code.flow)
            else:
                return

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
        self._parts.close()

    def _finish_conversation(self, by: HangUpParty) -> None:
        """Disconnect both parties, and give up whatever transfer is under way."""
        conversation, self.conversation = self.conversation, None
        self._passage.end()
        if self.transfer is not None:
            self.transfer.give_up()
        if self._assistance is not None:
            self._assistance.end()
        if conversation is not None:
            conversation.finish(by)
            self._listeners.follow_alone(self.caller_port.port_id)

    def _let_caller_go(self, code: Code) -> None:
        """Free what the caller held; the call goes on without."""
        if not self._is_caller_gone:
            self._is_caller_gone = True
            self._caller.end(code)
            self._on_ended(self)

    def _end(self, code: Code, by: HangUpParty, sip_status: int) -> None:
        """End everything that the call holds, once; from any state, and never raises."""
        if self.ending is not None:
            return
        if not sip_status:
            sip_status = 200 if self._caller.is_answered else refusal_status(code)
        self.ending = CallEnding(code, by, sip_status, self._loop.time())
        self._parts.call_ended()
        self._finish_conversation(by)
        self._listeners.end(code)
        for leg in list(self._legs):
            leg.hang_up(code)
        if not self._is_caller_gone:
            self._caller.end(code, sip_status)
        if self._task is not None and self._task is not asyncio.current_task(self._loop):
            self._task.cancel()
        # Tasks that the handler started are not reached by its own cancelling.
        gone = PlatformError(Code.NO_CALL, f"call {self.info.call_id} has ended")
        self._audio.fail(gone)
        self._caller.fail(gone)
        if not self._is_caller_gone:
            self._is_caller_gone = True
            self._on_ended(self)

    def _settle(self) -> None:
        """Publish the last event of the call."""
        ending = self.ending
        if ending is None:
            return
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
        self._release()

    def _release(self) -> None:
        """Let go of what knows the call: its memory must not wait for the garbage collector."""
        self._caller.release()
        self._assistance = self._on_transferred = self.transfer = None
        self._task = None  # a cancelled one keeps the traceback of where it was

    def _publish(
        self, body: CallAnswered | CallEnded | LegEnded | LegStarted, cause: Code | None = None
    ) -> None:
        info = self.info
        self.context.events.publish(info.tenant, body, call_id=info.call_id, cause=cause)
