"""Supervisors in the conversations of agents: listen, whisper, barge in, intercept; all audited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agents.line import Handling
from agents.live_agent import LiveAgent
from agents.state import AgentState
from cti.call import DialTarget, Leg, Supervision
from cti95598.events.v1.events_pb2 import SupervisionEnded, SupervisionStarted
from domain.events import EventStamp
from domain.failures import Code, PlatformError
from domain.ids import AgentId, TenantId

_RING_MS = 30_000
_INTERCEPT = "intercept"


class SupervisorDesk:
    """The supervisors' commands. Each raises PlatformError where it is refused."""

    def __init__(
        self, find: Callable[[TenantId, AgentId], LiveAgent | None], events: EventStamp
    ) -> None:
        self._find = find
        self._events = events

    async def supervise(self, live: LiveAgent, agent: AgentId, mode: Supervision) -> None:
        """Ring a supervisor and let it in, or let who is in take part in another way."""
        handling, present = self._conversation(live, agent)
        if present is not None:
            present.change(mode)
        else:
            await _Supervising(live, agent, handling, self._events).ring(mode)

    async def intercept(self, live: LiveAgent, agent: AgentId) -> None:
        """Let a supervisor take the agent's place, rung first if it is not in yet."""
        handling, present = self._conversation(live, agent)
        if present is None:
            present = _Supervising(live, agent, handling, self._events)
            await present.ring(Supervision.LISTEN)
        present.intercept()

    @staticmethod
    def stop(live: LiveAgent) -> None:
        """Let a supervisor leave the conversation."""
        if live.helping is None or live.in_call:
            raise PlatformError(Code.STATE_FORBIDS, "no conversation is supervised")
        live.helping.stop()

    def _conversation(
        self, live: LiveAgent, agent: AgentId
    ) -> tuple[Handling, _Supervising | None]:
        """Return what the agent talks, and the supervisor's part in it if it has one."""
        if live.settings.role != "supervisor":
            raise PlatformError(Code.RIGHT_MISSING, "role: supervisor")
        watched = self._find(live.tenant, agent)
        if watched is None:
            raise PlatformError(Code.NOT_SIGNED_IN, f"agent {agent[:64]} at this node")
        handling = watched.handling
        if live.state is not AgentState.NOT_READY:
            raise PlatformError(Code.NOT_READY_FIRST)
        present = live.helping
        if present is None:
            return handling, None
        if not isinstance(present, _Supervising) or present.handling is not handling:
            raise PlatformError(Code.STATE_FORBIDS, "stop supervising the other agent first")
        return handling, present


class _Supervising:
    """One supervisor in one conversation, from the first ring to the end. Is a `Helping`."""

    def __init__(
        self, supervisor: LiveAgent, agent: AgentId, handling: Handling, events: EventStamp
    ) -> None:
        self.handling = handling
        self.leg: Leg | None = None
        self._supervisor = supervisor
        self._agent = agent
        self._events = events
        self._clock = asyncio.get_running_loop().time
        self._ringing: asyncio.Task[None] | None = None
        self._mode = ""
        self._since_s = 0.0
        self._intercepts = False

    async def ring(self, mode: Supervision) -> None:
        """Ring the supervisor's phone and let it in."""
        self._supervisor.helping = self
        ringing = self._ringing = asyncio.ensure_future(self._ring(mode))
        try:
            await asyncio.wait([ringing])
        finally:
            ringing.cancel()
            if self.leg is None:
                self.over()
        if ringing.cancelled():
            raise PlatformError(Code.NO_CALL, "the ringing was given up")
        ringing.result()

    async def _ring(self, mode: Supervision) -> None:
        supervisor = self._supervisor
        target = DialTarget(
            user=supervisor.phone,
            caller_number=self._agent,
            purpose="supervisor",
            auto_answer=True,
        )
        self.leg = await self.handling.talk.supervise(
            target, mode, timeout_ms=_RING_MS, on_ended=self._left
        )
        self._enter(mode)

    def change(self, mode: Supervision) -> None:
        """Take part in another way."""
        leg = self._there()
        if mode != self._mode:
            self.handling.talk.change(leg, mode)
            self._leave()
            self._enter(mode)

    def intercept(self) -> None:
        """Take the agent's place."""
        leg, supervisor = self._there(), self._supervisor
        self._intercepts = True
        try:
            self.handling.intercept(leg, by=supervisor, agent=supervisor.settings.agent_id)
        except PlatformError:
            self._intercepts = False
            raise

    def stop(self) -> None:
        """Leave, or ring no more."""
        if self._ringing is not None:
            self._ringing.cancel()
        if self.leg is not None:
            self.leg.hang_up(Code.FLOW_ENDED)

    def over(self) -> None:
        """It has ended, also what became the supervisor's own call."""
        self._leave()
        if self._supervisor.helping is self:
            self._supervisor.helping = None

    def _left(self) -> None:
        if self._intercepts:
            self._leave()
            self._enter(_INTERCEPT)
        else:
            self.over()

    def _there(self) -> Leg:
        if self.leg is None:
            raise PlatformError(Code.STATE_FORBIDS, "the supervisor's phone rings yet")
        return self.leg

    # What is told

    def _enter(self, mode: str) -> None:
        self._mode, self._since_s = mode, self._clock()
        self._publish(
            SupervisionStarted(
                supervisor=self._supervisor.settings.id, agent=self._agent, mode=mode
            )
        )

    def _leave(self) -> None:
        mode, self._mode = self._mode, ""
        if mode:
            self._publish(
                SupervisionEnded(
                    supervisor=self._supervisor.settings.id,
                    agent=self._agent,
                    mode=mode,
                    duration_ms=round((self._clock() - self._since_s) * 1000),
                )
            )

    def _publish(self, body: SupervisionStarted | SupervisionEnded) -> None:
        call_id = self.handling.call.call_id
        self._events.publish(self._supervisor.tenant, body, call_id=call_id)
