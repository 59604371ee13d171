"""The door to the ACD: a caller waits by a ticket, an agent is reserved by an offer.

An offer is a reservation: the agent belongs to the ticket until it is confirmed or given back. Its
fence, a number that only grows, makes a late confirm or reject of an earlier offer fail; its lease
makes a reservation whose node died return by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from domain.ids import AgentId, CallId, NodeId, QueueId, TenantId, TicketId

MAX_PRIORITY = 254


@dataclass(frozen=True, slots=True)
class QueueRequest:
    """A caller who wants an agent; the ticket, chosen by who asks, makes enqueue idempotent."""

    tenant: TenantId
    ticket: TicketId
    call_id: CallId
    queue: QueueId
    priority: int = 100
    """1 to 254, higher is served earlier."""
    skills: tuple[str, ...] = ()
    """All of them are required."""
    max_waiting: int = 0
    """0 for no limit."""
    refuse_without_agents: bool = False
    lease_ms: int = 17_000
    """Life of a reservation; longer than the phone may ring."""


@dataclass(frozen=True, slots=True)
class AgentProfile:
    """An agent as the ACD knows one."""

    tenant: TenantId
    agent: AgentId
    queues: tuple[QueueId, ...]
    skills: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """An agent is reserved for a waiting call."""

    tenant: TenantId
    ticket: TicketId
    call_id: CallId
    queue: QueueId
    node: NodeId
    """Where the call is."""
    agent: AgentId
    agent_node: NodeId
    """Where the agent is signed in."""
    agent_queues: tuple[QueueId, ...]
    fence: int
    lease_ms: int
    waited_ms: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a ticket stands."""

    position: int
    """1 for the next to be served, 0 while an agent is being rung for it."""
    estimate_s: int | None
    """Estimated wait; None while nobody works in the queue or too little is known."""


class Acd(Protocol):
    """Every method may raise PlatformError(QUEUE_UNAVAILABLE) while the store is away.

    What an agent or caller of this node wants is remembered even then, and is told to the store
    when it returns; only `enqueue` is as if it had never been called.
    """

    on_offer: Callable[[Offer], None]
    """Called with every offer for a call of this node, possibly before the method that caused it
    returns. Must not block."""
    on_post: Callable[[dict[str, Any]], None]
    """Called with every message that another node posts to this one."""

    @property
    def node(self) -> NodeId:
        """This node."""

    def post(self, node: NodeId, message: dict[str, Any]) -> None:
        """Send plain data to another node, after all that was asked before; it may get lost."""

    async def enqueue(self, request: QueueRequest) -> int:
        """Let a call wait, or offer it at once; return its position, 0 when it is being offered.

        Raises QUEUE_FULL or QUEUE_NO_AGENTS.
        """

    async def cancel(self, tenant: TenantId, ticket: TicketId) -> bool:
        """Take a call out; an agent reserved for it is ready again. False if it was served."""

    async def sign_in(self, profile: AgentProfile, *, take_over: bool = False) -> None:
        """Register a signed-in agent as not ready.

        Raises SIGNED_IN_ELSEWHERE when another living node has the agent; with `take_over` only
        when the agent has a call there.
        """

    async def sign_out(self, profile: AgentProfile) -> None:
        """Forget an agent."""

    async def ready(self, profile: AgentProfile, *, at_once: bool = True) -> None:
        """Let an agent take calls, from now on as the most recently idle one.

        Not `at_once`: in 10 ms at most, together with what else is asked of the store.
        """

    async def not_ready(self, profile: AgentProfile) -> None:
        """Let an agent take no calls; one already reserved becomes so when the offer ends."""

    async def confirm(self, offer: Offer) -> bool:
        """The agent took the call. False when the reservation is no longer valid."""

    async def reject(self, offer: Offer, *, agent_ready: bool | None = False) -> bool:
        """Give back: the call to the head of the queue. False when no longer valid.

        `agent_ready` None: what the agent asked for since the offer, else not ready.
        """

    async def position(self, tenant: TenantId, ticket: TicketId) -> int:
        """The ticket's position, 0 when it is being offered or does not wait."""

    async def estimate(self, tenant: TenantId, ticket: TicketId) -> int | None:
        """Estimated wait in seconds, None when unknown."""
