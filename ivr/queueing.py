"""The door from flows to queues: what the node `queue` asks for and gets back.

Whoever implements `QueueGateway` finds the agent, plays the music, rings, bridges and returns when
the agent is done with the caller or the caller's wait has ended. The flow then takes the branch
named by the outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cti.call import Call, Clip
from domain.ids import AgentId


class QueueOutcome(StrEnum):
    """How a caller's time in a queue ended; the exits of a flow's queue node."""

    SERVED = "served"  # talked to an agent, who then hung up
    TIMEOUT = "timeout"  # waited for max_wait_ms
    FULL = "full"  # the queue was at its length limit
    CALLER_KEY = "caller_key"  # the caller pressed the release key
    NO_AGENTS = "no_agents"  # nobody who could ever answer is signed in
    ERROR = "error"  # unknown queue, or queueing is unavailable


@dataclass(frozen=True, slots=True)
class QueueCall:
    """What a flow wants for its caller."""

    queue: str
    priority: int
    """1 to 254, higher is served earlier."""
    skills: tuple[str, ...]
    """Skills an agent must have besides the queue's own."""
    max_wait_ms: int
    music: tuple[Clip, ...]
    """Looped while waiting; may be empty."""
    release_key: str
    """The key by which the caller leaves the queue; empty when there is none."""


@dataclass(frozen=True, slots=True)
class QueueResult:
    """How the caller was served."""

    outcome: QueueOutcome
    agent: AgentId | None = None
    """The agent who talked last to the caller; None unless SERVED."""
    talk_ms: int = 0
    waited_ms: int = 0


class QueueGateway(Protocol):
    """Serves a caller from a queue. Failures are outcomes; only cancellation is raised."""

    async def serve(self, call: Call, request: QueueCall) -> QueueResult:
        """Wait, ring an agent, connect, and return when that is over."""
