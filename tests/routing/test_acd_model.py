"""Whatever is asked in whatever order, the scripts decide as a few lines of plain Python do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis

from domain.ids import AgentId, CallId, NodeId, QueueId, TenantId, TicketId
from domain.redis_line import RedisLine
from routing.acd import AgentProfile, Offer, QueueRequest
from routing.redis_acd import RedisAcd
from tests.routing.redis_process import RedisProcess

pytestmark = pytest.mark.stores

T = TypeVar("T")

TENANT = TenantId("demo")
STATES = ["ready", "ready", "not_ready"]
QUEUES = (QueueId("q1"), QueueId("q2"))
SKILLS = ("s1", "s2")
WANTED = [frozenset[str](), frozenset[str](), frozenset(SKILLS[:1]), frozenset(SKILLS)]
PROFILES = {
    f"a{i}": AgentProfile(TENANT, AgentId(f"a{i}"), queues, skills)
    for i, (queues, skills) in enumerate(
        [
            (QUEUES[:1], ()),
            (QUEUES[:1], SKILLS),
            (QUEUES[1:], SKILLS[:1]),
            (QUEUES, ()),
            (QUEUES, SKILLS),
        ]
    )
}


@dataclass
class ModelAgent:
    profile: AgentProfile
    state: str
    since: int
    wish: str | None = None
    ticket: str | None = None


@dataclass
class ModelTicket:
    name: str
    queue: str
    priority: int
    skills: frozenset[str]
    arrival: int
    returned: bool = False
    agent: str | None = None

    @property
    def rank(self) -> tuple[int, int]:
        return (-1 if self.returned else 254 - self.priority, self.arrival)


@dataclass
class Model:
    """The rules of the ACD."""

    tickets: dict[str, ModelTicket] = field(default_factory=dict)
    agents: dict[str, ModelAgent] = field(default_factory=dict)
    made: list[tuple[str, str]] = field(default_factory=list)
    clock: count[int] = field(default_factory=count)

    def fit(self, ticket: ModelTicket, agent: ModelAgent) -> bool:
        return (
            ticket.agent is None
            and agent.state == "ready"
            and ticket.queue in agent.profile.queues
            and ticket.skills <= set(agent.profile.skills)
        )

    def match_ticket(self, name: str) -> None:
        ticket = self.tickets[name]
        fitting = [agent for agent in self.agents.values() if self.fit(ticket, agent)]
        if fitting:
            self.reserve(ticket, min(fitting, key=lambda agent: agent.since))

    def match_agent(self, name: str) -> None:
        agent = self.agents[name]
        fitting = [ticket for ticket in self.tickets.values() if self.fit(ticket, agent)]
        if fitting:
            self.reserve(min(fitting, key=lambda ticket: ticket.rank), agent)

    def reserve(self, ticket: ModelTicket, agent: ModelAgent) -> None:
        ticket.agent = agent.profile.agent
        agent.state, agent.ticket = "reserved", ticket.name
        self.made.append((ticket.name, agent.profile.agent))

    def release(self, agent: ModelAgent, state: str) -> None:
        agent.state, agent.wish, agent.ticket = agent.wish or state, None, None

    def wait_again(self, ticket: ModelTicket) -> None:
        ticket.agent, ticket.returned = None, True

    def position(self, ticket: ModelTicket) -> int:
        if ticket.agent is not None:
            return 0
        return 1 + sum(
            other.queue == ticket.queue and other.agent is None and other.rank < ticket.rank
            for other in self.tickets.values()
        )


class AcdAgainstModel(RuleBasedStateMachine):
    """Runs each request on both and compares all offers, in order."""

    socket = ""
    tickets = Bundle("tickets")
    offers = Bundle("offers")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.redis = Redis(unix_socket_path=self.socket)
        self.made: list[Offer] = []
        self.model = Model()
        self.names = count()

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        self.run(self.redis.flushall())
        self.acd = RedisAcd(
            self.redis, RedisLine(self.redis), node=NodeId("n"), tenants={TENANT: QUEUES}
        )
        self.acd.on_offer = self.made.append
        self.run(self.acd.sweep())

    def teardown(self) -> None:
        self.run(self.acd.aclose())
        self.run(self.redis.aclose())
        self.loop.close()

    def held(self, offer: Offer) -> bool:
        """Whether this very offer still reserves."""
        ticket = self.model.tickets.get(offer.ticket)
        last = max(made.fence for made in self.made if made.ticket == offer.ticket)
        return ticket is not None and ticket.agent == offer.agent and offer.fence == last

    @rule(
        target=tickets,
        queue=st.sampled_from(QUEUES),
        priority=st.sampled_from([1, 100, 254]),
        skills=st.sampled_from(WANTED),
        lease_ms=st.sampled_from([0, 60_000]),
    )
    def enqueue(
        self, queue: QueueId, priority: int, skills: frozenset[str], lease_ms: int
    ) -> TicketId:
        name = TicketId(f"t{next(self.names)}")
        request = QueueRequest(
            TENANT, name, CallId(name), queue, priority, tuple(skills), lease_ms=lease_ms
        )
        position = self.run(self.acd.enqueue(request))
        ticket = ModelTicket(name, queue, priority, skills, next(self.model.clock))
        self.model.tickets[name] = ticket
        self.model.match_ticket(name)
        assert position == self.model.position(ticket)
        return name

    @rule(name=consumes(tickets))
    def cancel(self, name: TicketId) -> None:
        gone = self.run(self.acd.cancel(TENANT, name))
        ticket = self.model.tickets.pop(name, None)
        assert gone == (ticket is not None)
        if ticket is not None and ticket.agent is not None:
            agent = self.model.agents[ticket.agent]
            self.model.release(agent, "ready")
            self.model.match_agent(ticket.agent)

    @rule(name=st.sampled_from(sorted(PROFILES)), state=st.sampled_from(STATES))
    def declare(self, name: str, state: str) -> None:
        declare = self.acd.ready if state == "ready" else self.acd.not_ready
        self.run(declare(PROFILES[name]))
        agent = self.model.agents.get(name)
        if agent is not None and agent.state == "reserved":
            agent.wish = state
        elif agent is None or agent.state != state:
            now = next(self.model.clock)
            self.model.agents[name] = ModelAgent(PROFILES[name], state, now)
            self.model.match_agent(name)

    @rule(name=st.sampled_from(sorted(PROFILES)))
    def sign_out(self, name: str) -> None:
        self.run(self.acd.sign_out(PROFILES[name]))
        agent = self.model.agents.pop(name, None)
        if agent is not None and agent.ticket is not None:
            self.model.wait_again(self.model.tickets[agent.ticket])
            self.model.match_ticket(agent.ticket)

    @rule(data=st.data(), ready=st.booleans())
    def reject(self, data: st.DataObject, ready: bool) -> None:
        if not self.made:
            return
        offer = data.draw(st.sampled_from(self.made[-6:]))
        held = self.held(offer)
        assert self.run(self.acd.reject(offer, agent_ready=ready)) == held
        if held:
            agent = self.model.agents[offer.agent]
            agent.wish, agent.since = None, next(self.model.clock)
            self.model.release(agent, "ready" if ready else "not_ready")
            self.model.wait_again(self.model.tickets[offer.ticket])
            self.model.match_ticket(offer.ticket)
            self.model.match_agent(offer.agent)

    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        if not self.made:
            return
        offer = data.draw(st.sampled_from(self.made[-6:]))
        held = self.held(offer)
        confirmed = self.run(self.acd.confirm(offer))
        if held:
            assert confirmed
            del self.model.tickets[offer.ticket]
            agent = self.model.agents[offer.agent]
            agent.state, agent.wish, agent.ticket = "busy", None, None
        else:  # True only for a repeated confirm of the agent's present call
            assert not confirmed or self.model.agents[offer.agent].state == "busy"

    @rule()
    def sweep(self) -> None:
        self.run(self.acd.sweep())
        for ticket in self.made_with_no_lease():
            if ticket.agent is None:
                continue
            agent = self.model.agents[ticket.agent]
            self.model.release(agent, "not_ready")
            self.model.wait_again(ticket)
            self.model.match_ticket(ticket.name)
            self.model.match_agent(agent.profile.agent)

    def made_with_no_lease(self) -> list[ModelTicket]:
        """Tickets whose lease has ended, in the order of its end."""
        latest: dict[str, Offer] = {offer.ticket: offer for offer in self.made}
        ended = [
            offer for offer in latest.values()
            if offer.lease_ms == 0 and offer.ticket in self.model.tickets
        ]  # fmt: skip
        # The sweep has already made new offers; only those the model knows count.
        known = {pair[0]: position for position, pair in enumerate(self.model.made)}
        ended.sort(key=lambda offer: known.get(offer.ticket, -1))
        return [self.model.tickets[offer.ticket] for offer in ended]

    @invariant()
    def same_offers(self) -> None:
        assert [(offer.ticket, offer.agent) for offer in self.made] == self.model.made

    @invariant()
    def fences_grow(self) -> None:
        fences = [offer.fence for offer in self.made]
        assert fences == sorted(set(fences))

    @invariant()
    def same_positions(self) -> None:
        for name, ticket in self.model.tickets.items():
            position = self.run(self.acd.position(TENANT, TicketId(name)))
            assert position == self.model.position(ticket)


def test_the_acd_follows_its_rules(redis_process: RedisProcess) -> None:
    AcdAgainstModel.socket = str(redis_process.socket)
    run_state_machine_as_test(
        AcdAgainstModel,
        settings=settings(
            max_examples=50,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
