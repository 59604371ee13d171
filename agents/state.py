"""The agent's states and what leads from one to the next. Pure: time is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from domain.failures import Code, PlatformError


class AgentState(StrEnum):
    """What an agent is doing."""

    SIGNED_OUT = "signed_out"
    NOT_READY = "not_ready"
    READY = "ready"
    RINGING = "ringing"
    TALKING = "talking"
    HELD = "held"  # the caller waits
    CONSULTING = "consulting"  # the caller waits, an expert is asked
    CONFERENCE = "conference"  # with caller and expert
    AFTER_CALL_WORK = "after_call_work"


class Trigger(StrEnum):
    """What happens to an agent."""

    SIGN_IN = "sign_in"
    SIGN_OUT = "sign_out"
    READY = "ready"
    NOT_READY = "not_ready"
    OFFERED = "offered"
    ANSWERED = "answered"
    OFFER_WITHDRAWN = "offer_withdrawn"  # by the caller or the platform, not by the agent
    OFFER_FAILED = "offer_failed"  # the agent did not answer or could not be reached
    TALKS = "talks"  # with the caller alone, again
    HOLDS = "holds"
    CONSULTS = "consults"
    CONFERS = "confers"
    INTERCEPTED = "intercepted"  # took the place of the agent of a call
    CALL_ENDED = "call_ended"
    WORK_DONE = "work_done"  # the time for after-call work is over


_S, _T = AgentState, Trigger

_CONVERSING = {
    _S.TALKING: _T.TALKS,
    _S.HELD: _T.HOLDS,
    _S.CONSULTING: _T.CONSULTS,
    _S.CONFERENCE: _T.CONFERS,
}

NEXT: dict[tuple[AgentState, Trigger], AgentState] = {
    (_S.SIGNED_OUT, _T.SIGN_IN): _S.NOT_READY,
    (_S.NOT_READY, _T.SIGN_OUT): _S.SIGNED_OUT,
    (_S.NOT_READY, _T.READY): _S.READY,
    (_S.NOT_READY, _T.NOT_READY): _S.NOT_READY,
    (_S.READY, _T.SIGN_OUT): _S.SIGNED_OUT,
    (_S.READY, _T.READY): _S.READY,
    (_S.READY, _T.NOT_READY): _S.NOT_READY,
    (_S.READY, _T.OFFERED): _S.RINGING,
    (_S.RINGING, _T.READY): _S.RINGING,
    (_S.RINGING, _T.NOT_READY): _S.RINGING,
    (_S.RINGING, _T.ANSWERED): _S.TALKING,
    (_S.RINGING, _T.OFFER_WITHDRAWN): _S.READY,
    (_S.RINGING, _T.OFFER_FAILED): _S.NOT_READY,
    (_S.NOT_READY, _T.INTERCEPTED): _S.TALKING,
    **{(state, trigger): state for state in _CONVERSING for trigger in (_T.READY, _T.NOT_READY)},
    **{(state, _T.CALL_ENDED): _S.AFTER_CALL_WORK for state in _CONVERSING},
    **{
        (before, trigger): after for before in _CONVERSING for after, trigger in _CONVERSING.items()
    },
    (_S.AFTER_CALL_WORK, _T.SIGN_OUT): _S.SIGNED_OUT,
    (_S.AFTER_CALL_WORK, _T.READY): _S.READY,
    (_S.AFTER_CALL_WORK, _T.NOT_READY): _S.NOT_READY,
    (_S.AFTER_CALL_WORK, _T.WORK_DONE): _S.READY,
}
"""Every allowed step; all others are refused with STATE_FORBIDS."""

_IN_CALL = frozenset({AgentState.RINGING, *_CONVERSING})


@dataclass(frozen=True, slots=True)
class Change:
    """A step that was taken; `before` and `after` are equal when only a wish was noted."""

    before: AgentState
    after: AgentState
    reason: str
    previous_ms: int
    """How long the agent had been in `before`."""


class AgentMachine:
    """One agent's state.

    "Not ready" during a call is a wish: it takes effect when the call is over, instead of ready.
    Who intercepts a call was not ready, and is so again after it.
    """

    def __init__(self, now: float) -> None:
        self.state = AgentState.SIGNED_OUT
        self.since = now
        self.reason = ""
        self.not_ready_wish: str | None = None
        """The reason given for not ready after the present call; None when there is no wish."""

    @property
    def in_call(self) -> bool:
        """Whether a call rings or is under way."""
        return self.state in _IN_CALL

    def step(self, trigger: Trigger, now: float, reason: str = "") -> Change:
        """Take a step, or raise PlatformError(STATE_FORBIDS)."""
        after = NEXT.get((self.state, trigger))
        if after is None:
            raise PlatformError(Code.STATE_FORBIDS, f"{trigger} while {self.state}")
        if trigger is Trigger.READY:
            self.not_ready_wish = None
        elif trigger is Trigger.NOT_READY and self.in_call:
            self.not_ready_wish = reason
        elif trigger is Trigger.INTERCEPTED:
            self.not_ready_wish = self.reason
        if after is AgentState.READY and self.not_ready_wish is not None:
            after, reason = AgentState.NOT_READY, self.not_ready_wish
        change = Change(self.state, after, reason, round((now - self.since) * 1000))
        if after is not self.state:
            self.state, self.since = after, now
            self.reason = reason
        elif not self.in_call:
            self.reason = reason
        if not self.in_call and self.state is not AgentState.AFTER_CALL_WORK:
            self.not_ready_wish = None
        return change
