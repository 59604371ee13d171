"""What one node knows of its own callers and agents, to tell a store that lost it.

Pure: it hears what was asked and answered, and writes the request of the script `resync`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from domain.ids import AgentId, QueueId, TenantId, TicketId
from routing.acd import AgentProfile, Offer, QueueRequest


def joined(items: tuple[str, ...]) -> str:
    """Write a list as the scripts read it: ",a,b,"."""
    return f",{','.join(items)}," if items else ""


@dataclass(slots=True)
class TicketTruth:
    """A call of this node that waits or is being offered."""

    request: QueueRequest
    arrival_us: str = ""
    """As the store wrote it; empty until enqueue was answered."""
    returned: bool = False
    offer: Offer | None = None
    last_fence: int = 0


@dataclass(slots=True)
class AgentTruth:
    """An agent signed in at this node."""

    profile: AgentProfile
    state: str
    """"not_ready", "ready" or "busy"."""
    since_us: str
    busy_queue: QueueId | None = None


def now_us_text() -> str:
    """Unix microseconds as the scripts write them."""
    return f"{time.time_ns() // 1000:016d}"


class NodeTruth:
    """The tickets and agents of this node."""

    def __init__(self) -> None:
        self.tickets: dict[tuple[TenantId, TicketId], TicketTruth] = {}
        self.agents: dict[tuple[TenantId, AgentId], AgentTruth] = {}

    def declare(self, profile: AgentProfile, state: str) -> None:
        """An agent is in `state` from now on."""
        known = self.agents.get((profile.tenant, profile.agent))
        if known is None or known.state != state or known.profile != profile:
            self.agents[profile.tenant, profile.agent] = AgentTruth(profile, state, now_us_text())

    def offered(self, offer: Offer) -> bool:
        """Note an offer; False when it is not news or belongs to no ticket of this node."""
        ticket = self.tickets.get((offer.tenant, offer.ticket))
        if ticket is None or offer.fence <= ticket.last_fence:
            return False
        ticket.offer, ticket.last_fence = offer, offer.fence
        return True

    def confirmed(self, offer: Offer) -> None:
        """The agent has the call."""
        self.tickets.pop((offer.tenant, offer.ticket), None)
        agent = self.agents.get((offer.tenant, offer.agent))
        if agent is not None:
            agent.state, agent.since_us = "busy", now_us_text()
            agent.busy_queue = offer.queue

    def given_back(self, offer: Offer) -> None:
        """The offer is over, the call waits at the head."""
        ticket = self.tickets.get((offer.tenant, offer.ticket))
        if ticket is not None:
            ticket.returned = True
            if ticket.offer is not None and ticket.offer.fence == offer.fence:
                ticket.offer = None

    def resync_request(self, tenant: TenantId) -> dict[str, Any]:
        """Everything of a tenant, as the script `resync` reads it."""
        rings = {
            truth.offer.agent: truth.offer
            for (owner, _), truth in self.tickets.items()
            if owner == tenant and truth.offer is not None
        }
        return {
            "agents": [
                _agent_record(agent, rings.get(agent.profile.agent))
                for (owner, _), agent in self.agents.items()
                if owner == tenant
            ],
            "tickets": [
                _ticket_record(ticket)
                for (owner, _), ticket in self.tickets.items()
                if owner == tenant and ticket.arrival_us
            ],
        }


def _agent_record(agent: AgentTruth, ring: Offer | None) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": agent.profile.agent,
        "queues": joined(agent.profile.queues),
        "skills": joined(agent.profile.skills),
        "state": agent.state,
        "since": agent.since_us,
    }
    if ring is not None:
        record |= {"state": "reserved", "fence": str(ring.fence), "ticket": ring.ticket}
    elif agent.state == "busy":
        record |= {"busy_since": agent.since_us, "busy_queue": agent.busy_queue or ""}
    return record


def _ticket_record(ticket: TicketTruth) -> dict[str, Any]:
    request = ticket.request
    record: dict[str, Any] = {
        "id": request.ticket,
        "call": request.call_id,
        "queue": request.queue,
        "priority": request.priority,
        "skills": joined(request.skills),
        "lease_ms": request.lease_ms,
        "arrival": ticket.arrival_us,
    }
    if ticket.returned:
        record["returned"] = True
    if ticket.offer is not None:
        record |= {"agent": ticket.offer.agent, "fence": str(ticket.offer.fence)}
    return record
