"""Who helps in a conversation: an expert whom the agent asks, and supervisors.

Every command is one change of the conversation's parties, so that who stays hears no gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from cti.call import DialTarget, Leg, Supervision, TalkState
from cti.calls.conversation import Conversation, FarParty
from cti.calls.leg import OutgoingLeg
from cti.calls.parties import MOST_PARTIES, Part
from cti.media import MediaEngine, Tone
from cti.rtp_port import RtpPort
from domain.failures import Code, PlatformError

_PARTS = {
    Supervision.LISTEN: Part.LISTENER,
    Supervision.WHISPER: Part.WHISPERER,
    Supervision.BARGE: Part.SPEAKER,
}


_Ringing = asyncio.Task[OutgoingLeg]


class AssistedCall(Protocol):
    """The call whose conversation it is."""

    @property
    def caller_port(self) -> RtpPort:
        """The port of the caller, or of who stands in the caller's place."""

    async def dial(self, target: DialTarget, *, timeout_ms: int, towards: RtpPort) -> OutgoingLeg:
        """Ring somebody to talk to whom `towards` belongs."""

    def take_far_end(self, party: FarParty, *, agent: str = "") -> None:
        """Let the caller talk to somebody else from now on, who may be an agent."""


class Assistance:
    """Implements `cti.call.Talk` for one conversation."""

    def __init__(self, call: AssistedCall, conversation: Conversation, engine: MediaEngine) -> None:
        self._call = call
        self._conversation = conversation
        self._engine = engine
        self._ringing: set[_Ringing] = set()
        self._asked: _Ringing | None = None
        self._consultant: OutgoingLeg | None = None
        self._supervisors: dict[OutgoingLeg, Callable[[], None]] = {}
        self._is_over = False
        self._on_changed: Callable[[TalkState], None] = _nobody_watches
        self._told = TalkState.TALKING

    @property
    def state(self) -> TalkState:
        """What the agent does now."""
        if self.is_consulting:
            return TalkState.CONSULTING if self._caller_waits else TalkState.CONFERENCE
        return TalkState.HELD if self._caller_waits else TalkState.TALKING

    def watch(self, on_changed: Callable[[TalkState], None]) -> None:
        """Tell every change of the state to one who commands."""
        self._on_changed = on_changed

    # cti.call.Talk: the agent's commands

    def hold(self) -> None:
        """Let the caller wait with music."""
        self._check(not self._caller_waits, "the caller is on hold")
        self._let_caller_wait(True)

    def retrieve(self) -> None:
        """Talk to the caller again, and with an expert there let all three talk."""
        self._check(self._caller_waits and not self._is_ringing, "nobody waits")
        self._let_caller_wait(False)

    async def consult(self, target: DialTarget, *, timeout_ms: int) -> None:
        """Let the caller wait and ring an expert for the agent."""
        self._check(not self.is_consulting, "an expert is asked already")
        asked = self._asked = self._ring(target, timeout_ms)
        self._let_caller_wait(True)
        self._engine.play_tone(self._agent_port.port_id, Tone.RINGBACK)
        try:
            leg = await self._answered(asked)
        except BaseException:
            if self._asked is asked:  # else it was given up, and others command by now
                self._ask_no_more()
                self._tell()
            raise
        self._ask_no_more()
        self._consultant = leg
        self._conversation.join(leg.port, Part.CONSULTANT)

    def three_party(self) -> None:
        """Let caller, agent and expert talk to each other."""
        self._check(self._consultant is not None, "no expert is there")
        self._let_caller_wait(False)

    def cancel_consult(self) -> None:
        """Let the expert go, and talk to the caller again."""
        self._check(self.is_consulting, "no expert is asked")
        self._let_consultant_go()
        self._let_caller_wait(False)

    def complete(self) -> None:
        """Leave the caller to the expert."""
        agent = self._conversation.leg
        self._check(self.goes_on_without_agent(), "no expert is there")
        agent.hang_up(Code.CALL_TRANSFERRED)

    def pause_recording(self) -> None:
        """Record silence for a while."""
        self._check(not self._conversation.is_private, "the recording is paused")
        self._conversation.pause_recording()

    def resume_recording(self) -> None:
        """Record again what is said."""
        self._check(self._conversation.is_private, "the recording is not paused")
        self._conversation.resume_recording()

    # cti.call.Talk: a supervisor's commands

    async def supervise(
        self,
        target: DialTarget,
        mode: Supervision,
        *,
        timeout_ms: int,
        on_ended: Callable[[], None],
    ) -> OutgoingLeg:
        """Ring a supervisor and let it in."""
        self._check(not self._is_over, "the conversation is over")
        leg = await self._answered(self._ring(target, timeout_ms))
        self._supervisors[leg] = on_ended
        self._conversation.join(leg.port, _PARTS[mode])
        return leg

    def change(self, leg: Leg, mode: Supervision) -> None:
        """Let a supervisor who is in listen, whisper or speak from now on."""
        self._conversation.join(self._supervisor(leg).port, _PARTS[mode])

    def intercept(self, leg: Leg, *, agent: str = "") -> None:
        """Let a supervisor take the agent's place."""
        supervisor, former = self._supervisor(leg), self._conversation.leg
        on_ended = self._supervisors.pop(supervisor)
        self._call.take_far_end(supervisor, agent=agent)
        former.hang_up(Code.CALL_TRANSFERRED)
        on_ended()

    # What the call asks and tells

    def helps(self, leg: OutgoingLeg) -> bool:
        """Whether a leg is that of an expert or a supervisor."""
        return leg is self._consultant or leg in self._supervisors

    @property
    def is_consulting(self) -> bool:
        """Whether an expert is rung or there."""
        return self._asked is not None or self._consultant is not None

    def agent_changes(self) -> None:
        """The agent goes and somebody else comes, who may watch from now on."""
        self._let_consultant_go()
        self._on_changed = _nobody_watches
        self._told = TalkState.TALKING

    def transfer_ended(self) -> None:
        """Who waited for it may talk again."""
        self._tell()

    def goes_on_without_agent(self) -> bool:
        """Give the caller to the expert, if one is there: the agent leaves."""
        consultant, self._consultant = self._consultant, None
        if consultant is None:
            return False
        self._call.take_far_end(consultant)
        return True

    def leg_ended(self, leg: OutgoingLeg) -> None:
        """Go on without an expert or a supervisor who has hung up."""
        if leg is self._consultant:
            self._consultant = None
            self._conversation.leave(leg.port)
            self._let_caller_wait(False)
        elif leg in self._supervisors:
            on_ended = self._supervisors.pop(leg)
            self._conversation.leave(leg.port)
            on_ended()

    def end(self) -> None:
        """Let all go: the conversation is over."""
        self._is_over = True
        self._let_consultant_go()
        for ringing in tuple(self._ringing):
            self._give_up(ringing)
        supervisors, self._supervisors = self._supervisors, {}
        for leg, on_ended in supervisors.items():
            leg.hang_up(Code.FLOW_ENDED)
            on_ended()
        self._on_changed = _nobody_watches  # who watches knows the conversation

    # Inside

    @property
    def _agent_port(self) -> RtpPort:
        return self._conversation.leg.port

    @property
    def _caller_waits(self) -> bool:
        caller = self._conversation.parties.party(self._call.caller_port.port_id)
        return caller is not None and caller.waits

    @property
    def _is_ringing(self) -> bool:
        return self._asked is not None

    def _ring(self, target: DialTarget, timeout_ms: int) -> _Ringing:
        present = len(self._conversation.parties.members) + len(self._ringing)
        if present >= MOST_PARTIES:
            raise PlatformError(Code.CONVERSATION_FULL, f"{present} parties, with those who ring")
        dial = self._call.dial(target, timeout_ms=timeout_ms, towards=self._agent_port)
        ringing = asyncio.ensure_future(dial)
        self._ringing.add(ringing)
        return ringing

    async def _answered(self, ringing: _Ringing) -> OutgoingLeg:
        """Return the leg that has answered, unless it was given up meanwhile."""
        try:
            await asyncio.wait([ringing])
        except asyncio.CancelledError:
            self._give_up(ringing)
            raise
        if ringing not in self._ringing:
            raise PlatformError(Code.NO_CALL, "the ringing was given up")
        self._ringing.discard(ringing)
        leg = ringing.result()
        if leg.is_ended:  # in the moment since then
            raise PlatformError(Code.FAR_END_HUNG_UP)
        return leg

    def _give_up(self, ringing: _Ringing) -> None:
        self._ringing.discard(ringing)
        ringing.cancel()
        ringing.add_done_callback(_hang_up)  # it may have answered just now

    def _ask_no_more(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            self._engine.stop_play(self._agent_port.port_id)
            if asked in self._ringing:
                self._give_up(asked)

    def _let_caller_wait(self, waits: bool) -> None:
        self._conversation.hold(self._call.caller_port, waits=waits)
        self._tell()

    def _tell(self) -> None:
        if self.state is not self._told and not self._is_over:
            self._told = self.state
            self._on_changed(self._told)

    def _let_consultant_go(self) -> None:
        self._ask_no_more()
        consultant, self._consultant = self._consultant, None
        if consultant is not None:
            self._conversation.leave(consultant.port)
            consultant.hang_up(Code.FLOW_ENDED)

    def _supervisor(self, leg: Leg) -> OutgoingLeg:
        self._check(leg in self._supervisors, "the supervisor is not in the conversation")
        return next(one for one in self._supervisors if one is leg)

    def _check(self, allowed: bool, why_not: str) -> None:
        if self._is_over:
            raise PlatformError(Code.NO_CALL, "the conversation is over")
        if not allowed:
            raise PlatformError(Code.STATE_FORBIDS, why_not)


def _hang_up(ringing: _Ringing) -> None:
    if not ringing.cancelled() and ringing.exception() is None:
        ringing.result().hang_up(Code.FLOW_ENDED)


def _nobody_watches(_state: TalkState) -> None:
    """Take what nobody asked for."""
