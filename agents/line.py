"""The agent's side of one call, as the queue uses it: the toolbar follows what the call does."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from agents.summary import CallSummary
from cti.call import DialTarget, Leg, RingingLeg, Talk
from domain.failures import Code, PlatformError
from domain.ids import AgentId


class AgentLine(Protocol):
    """An agent to whom one call is offered. No method raises or blocks."""

    @property
    def phone(self) -> str:
        """SIP user of the phone to ring."""

    def ringing(self, leg: RingingLeg) -> None:
        """The phone rings; the toolbar may answer or decline."""

    def answered(self, leg: Leg) -> None:
        """The agent has the call."""

    def talking(self, handling: Handling) -> None:
        """Agent and caller hear each other; the toolbar may command that."""

    def failed(self, reason: str, *, ready: bool) -> None:
        """The agent did not take the call, and is not ready for the next unless `ready`."""

    def withdrawn(self, *, confirmed: bool) -> None:
        """The caller left first. `confirmed`: the ACD may count the agent as busy already."""

    def ended(self) -> None:
        """The conversation is over."""


class TalkCommand(StrEnum):
    """What an agent does in a conversation by one press, as `cti.call.Talk` has it."""

    HOLD = "hold"
    RETRIEVE = "retrieve"
    CANCEL_CONSULT = "cancel_consult"
    THREE_PARTY = "three_party"
    COMPLETE = "complete"
    PAUSE_RECORDING = "pause_recording"
    RESUME_RECORDING = "resume_recording"

    def carry_out(self, talk: Talk) -> None:
        """Do it; raises what the conversation raises."""
        steps = {
            TalkCommand.HOLD: talk.hold,
            TalkCommand.RETRIEVE: talk.retrieve,
            TalkCommand.CANCEL_CONSULT: talk.cancel_consult,
            TalkCommand.THREE_PARTY: talk.three_party,
            TalkCommand.COMPLETE: talk.complete,
            TalkCommand.PAUSE_RECORDING: talk.pause_recording,
            TalkCommand.RESUME_RECORDING: talk.resume_recording,
        }
        steps[self]()


class FarTalk(Protocol):
    """A conversation at another node. Both raise PlatformError, as the conversation itself does."""

    async def command(self, command: TalkCommand) -> None:
        """Have it carried out there."""

    async def consult(self, target: DialTarget, *, timeout_ms: int) -> None:
        """Have an expert rung from there."""


class Handling:
    """A caller in the hands of an agent, and then perhaps of a supervisor who intercepts."""

    def __init__(self, line: AgentLine, agent: AgentId, call: CallSummary) -> None:
        self.agent = agent
        """Who had the caller last, of the agents."""
        self.call = call
        self._line: AgentLine | None = line
        self._next: tuple[AgentLine, AgentId] | None = None
        self._talk: Talk | None = None

    @property
    def talk(self) -> Talk:
        """What commands the conversation; PlatformError(NO_CALL) before it has begun."""
        if self._talk is None:
            raise PlatformError(Code.NO_CALL, "the conversation has not begun")
        return self._talk

    def intercept(self, leg: Leg, *, by: AgentLine, agent: AgentId) -> None:
        """Let a supervisor who is in take the agent's place (拦截)."""
        self._next = by, agent
        try:
            self.talk.intercept(leg, agent=agent)
        finally:
            self._next = None

    # What the call tells

    def begun(self, talk: Talk) -> None:
        """Both hear each other."""
        self._talk = talk
        if self._line is not None:
            self._line.talking(self)

    def transferred(self, _leg: Leg) -> None:
        """The agent is done with the caller, who talks to somebody else."""
        self.over()
        if self._next is not None:
            self._line, self.agent = self._next
            self._line.talking(self)

    def over(self) -> None:
        """The conversation has ended; does nothing the second time."""
        line, self._line = self._line, None
        if line is not None:
            line.ended()
