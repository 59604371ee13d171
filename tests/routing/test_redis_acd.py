"""The ACD's rules against a real Redis."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from domain.failures import Code, PlatformError
from domain.ids import AgentId, CallId, NodeId, QueueId, TenantId, TicketId
from domain.redis_line import RedisLine
from routing.acd import AgentProfile, Offer, QueueRequest
from routing.redis_acd import RedisAcd
from tests.routing.redis_process import RedisProcess, keys_of, subscribed, until

TENANT = TenantId("demo")
BILLING, FAULTS = QueueId("billing"), QueueId("faults")
TENANTS = {TENANT: (BILLING, FAULTS)}

pytestmark = pytest.mark.stores


def request(ticket: str, queue: QueueId = BILLING, **more: Any) -> QueueRequest:
    return QueueRequest(TENANT, TicketId(ticket), CallId(f"call-{ticket}"), queue, **more)


def agent(name: str, *queues: QueueId, skills: tuple[str, ...] = ()) -> AgentProfile:
    return AgentProfile(TENANT, AgentId(name), queues or (BILLING,), skills)


class Node:
    """An ACD and the offers it heard of."""

    def __init__(
        self, redis: Redis, name: str = "node-1", *, within_s: float = 2.0, **settings: Any
    ) -> None:
        self.acd = RedisAcd(
            redis,
            RedisLine(redis, within_s=within_s),
            node=NodeId(name),
            tenants=TENANTS,
            **settings,
        )
        self.redis = redis
        self.offers: list[Offer] = []
        self.acd.on_offer = self.offers.append

    def pairs(self) -> list[tuple[str, str]]:
        return [(offer.ticket, offer.agent) for offer in self.offers]


@pytest.fixture
async def node(redis: Redis) -> AsyncIterator[Node]:
    node = Node(redis)
    await node.acd.sweep()
    yield node
    await node.acd.aclose()


async def test_who_can_wait_is_told_with_the_next(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routing.script_runner._COMPANY_WITHIN_S", 3600)
    told = asyncio.create_task(node.acd.ready(agent("1001"), at_once=False))
    await node.redis.ping()
    assert not told.done()
    assert await node.acd.enqueue(request("a")) == 0  # asked later, and done later
    assert told.done()
    monkeypatch.setattr("routing.script_runner._COMPANY_WITHIN_S", 0.001)
    await node.acd.ready(agent("1002"), at_once=False)  # nobody else comes
    assert await node.acd.enqueue(request("b")) == 0
    assert node.pairs() == [("a", "1001"), ("b", "1002")]


async def test_an_idle_agent_is_offered_at_once(node: Node) -> None:
    await node.acd.ready(agent("1001"))
    assert await node.acd.enqueue(request("a")) == 0
    [offer] = node.offers
    assert (offer.ticket, offer.agent, offer.call_id) == ("a", "1001", "call-a")
    assert offer.agent_queues == (BILLING,)
    assert offer.waited_ms < 1000


async def test_first_come_first_served_and_longest_idle_first(node: Node) -> None:
    for ticket in ("a", "b"):
        await node.acd.enqueue(request(ticket))
    await node.acd.ready(agent("2002"))
    await node.acd.ready(agent("1001"))
    for name in ("1005", "1004"):
        await node.acd.ready(agent(name))
    for ticket in ("c", "d"):
        await node.acd.enqueue(request(ticket))
    assert node.pairs() == [("a", "2002"), ("b", "1001"), ("c", "1005"), ("d", "1004")]


async def test_priority_comes_before_arrival_and_a_returned_call_before_both(node: Node) -> None:
    await node.acd.enqueue(request("early"))
    await node.acd.ready(agent("1001"))
    await node.acd.enqueue(request("normal"))
    await node.acd.enqueue(request("important", priority=254))
    assert await node.acd.position(TENANT, TicketId("important")) == 1
    assert await node.acd.position(TENANT, TicketId("normal")) == 2
    assert await node.acd.reject(node.offers[0])
    assert await node.acd.position(TENANT, TicketId("early")) == 1
    for name in ("1002", "1003", "1004"):
        await node.acd.ready(agent(name))
    assert [ticket for ticket, _ in node.pairs()] == ["early", "early", "important", "normal"]


async def test_rejecting_finds_the_next_agent_in_the_same_step(node: Node) -> None:
    await node.acd.ready(agent("1001"))
    await node.acd.ready(agent("1002"))
    await node.acd.enqueue(request("a"))
    await node.acd.reject(node.offers[0])
    assert node.pairs() == [("a", "1001"), ("a", "1002")]
    assert node.offers[1].fence > node.offers[0].fence


async def test_an_agent_of_two_queues_takes_the_older_call_and_only_one(node: Node) -> None:
    await node.acd.enqueue(request("fault", FAULTS))
    await node.acd.enqueue(request("bill", BILLING))
    await node.acd.ready(agent("1001", BILLING, FAULTS))
    assert node.pairs() == [("fault", "1001")]
    await node.acd.enqueue(request("second", FAULTS))
    assert node.pairs() == [("fault", "1001")]


async def test_an_agent_who_changed_queues_takes_no_calls_of_the_old_ones(node: Node) -> None:
    await node.acd.ready(agent("1001", BILLING, FAULTS))
    await node.acd.sign_in(agent("1001", BILLING))
    await node.acd.ready(agent("1001", BILLING))
    await node.acd.enqueue(request("fault", FAULTS))
    assert node.offers == []


async def test_skills_are_all_required(node: Node) -> None:
    await node.acd.ready(agent("1001", skills=("english",)))
    await node.acd.ready(agent("1002", skills=("english", "vip")))
    await node.acd.enqueue(request("a", skills=("vip", "english")))
    await node.acd.enqueue(request("b", skills=("vip",)))
    await node.acd.enqueue(request("c"))
    assert node.pairs() == [("a", "1002"), ("c", "1001")]
    await node.acd.ready(agent("1003", skills=("vip",)))
    assert node.pairs()[2:] == [("b", "1003")]


async def test_only_the_holder_of_the_fence_confirms_and_may_ask_twice(node: Node) -> None:
    await node.acd.ready(agent("1001"))
    await node.acd.enqueue(request("a"))
    [first] = node.offers
    await node.acd.reject(first, agent_ready=True)
    second = node.offers[1]
    assert not await node.acd.confirm(first)
    assert not await node.acd.reject(first)
    assert await node.acd.confirm(second)
    assert await node.acd.confirm(second)
    assert not await node.acd.reject(second)


async def test_a_caller_who_leaves_gives_the_agent_back_with_the_old_place(node: Node) -> None:
    await node.acd.ready(agent("1001"))
    await node.acd.ready(agent("1002"))
    await node.acd.enqueue(request("a"))
    assert await node.acd.cancel(TENANT, TicketId("a"))
    assert not await node.acd.cancel(TENANT, TicketId("a"))
    await node.acd.enqueue(request("b"))
    assert node.pairs() == [("a", "1001"), ("b", "1001")]


async def test_an_agent_given_back_takes_the_next_caller(node: Node) -> None:
    await node.acd.ready(agent("1001"))
    for ticket in ("a", "b"):
        await node.acd.enqueue(request(ticket))
    await node.acd.cancel(TENANT, TicketId("a"))
    assert node.pairs() == [("a", "1001"), ("b", "1001")]


async def test_an_agent_who_stays_ready_takes_a_call_of_another_queue(node: Node) -> None:
    await node.acd.ready(agent("1001", BILLING, FAULTS))
    await node.acd.ready(agent("1002"))
    await node.acd.enqueue(request("bill"))
    await node.acd.enqueue(request("fault", FAULTS))
    await node.acd.reject(node.offers[0], agent_ready=True)
    assert node.pairs() == [("bill", "1001"), ("bill", "1002"), ("fault", "1001")]


async def test_a_fence_of_an_earlier_offer_to_the_same_agent_is_refused(node: Node) -> None:
    await node.acd.ready(agent("1001"))
    await node.acd.enqueue(request("a"))
    await node.acd.cancel(TENANT, TicketId("a"))
    await node.acd.enqueue(request("b"))
    assert not await node.acd.confirm(node.offers[0])
    assert await node.acd.confirm(node.offers[1])
    assert not await node.acd.confirm(node.offers[0])


async def test_giving_back_may_leave_the_agents_state_to_the_agent(node: Node) -> None:
    await node.acd.ready(agent("1001"))
    await node.acd.enqueue(request("a"))
    await node.acd.reject(node.offers[0], agent_ready=None)
    assert len(node.offers) == 1
    await node.acd.ready(agent("1001"))
    await node.acd.not_ready(agent("1001"))
    await node.acd.ready(agent("1001"))
    await node.acd.reject(node.offers[1], agent_ready=None)
    assert len(node.offers) == 3


async def test_a_served_caller_cannot_be_cancelled(node: Node) -> None:
    await node.acd.ready(agent("1001"))
    await node.acd.enqueue(request("a"))
    await node.acd.confirm(node.offers[0])
    assert not await node.acd.cancel(TENANT, TicketId("a"))


async def test_a_reserved_agent_may_ask_for_not_ready(node: Node) -> None:
    await node.acd.ready(agent("1001"))
    await node.acd.enqueue(request("a"))
    await node.acd.not_ready(agent("1001"))
    await node.acd.cancel(TENANT, TicketId("a"))
    await node.acd.enqueue(request("b"))
    assert node.pairs() == [("a", "1001")]


async def test_a_full_queue_refuses(node: Node) -> None:
    await node.acd.enqueue(request("a", max_waiting=1))
    with pytest.raises(PlatformError) as refused:
        await node.acd.enqueue(request("b", max_waiting=1))
    assert refused.value.code is Code.QUEUE_FULL
    assert await node.acd.position(TENANT, TicketId("b")) == 0


async def test_a_queue_may_refuse_while_nobody_is_signed_in(node: Node) -> None:
    with pytest.raises(PlatformError) as refused:
        await node.acd.enqueue(request("a", refuse_without_agents=True))
    assert refused.value.code is Code.QUEUE_NO_AGENTS
    await node.acd.sign_in(agent("1001"))
    assert await node.acd.enqueue(request("a", refuse_without_agents=True)) == 1


async def test_an_unknown_queue_is_named(node: Node) -> None:
    with pytest.raises(PlatformError, match="nowhere") as refused:
        await node.acd.enqueue(request("a", QueueId("nowhere")))
    assert refused.value.code is Code.QUEUE_UNKNOWN


async def test_enqueue_is_idempotent(node: Node) -> None:
    await node.acd.enqueue(request("a"))
    assert await node.acd.enqueue(request("a")) == 1
    assert await node.acd.enqueue(request("b")) == 2


async def test_an_ended_lease_returns_the_call_and_sets_the_agent_not_ready(node: Node) -> None:
    await node.acd.ready(agent("1001"))
    await node.acd.enqueue(request("a", lease_ms=0))
    await node.acd.sweep()
    assert not await node.acd.confirm(node.offers[0])
    assert await node.acd.position(TENANT, TicketId("a")) == 1
    await node.acd.ready(agent("1002"))
    assert node.pairs() == [("a", "1001"), ("a", "1002")]


async def test_estimate_is_position_by_handling_time_by_agents(node: Node, redis: Redis) -> None:
    await node.acd.enqueue(request("a"))
    assert await node.acd.estimate(TENANT, TicketId("a")) is None
    await node.acd.ready(agent("1001"))
    await node.acd.confirm(node.offers[0])
    await node.acd.ready(agent("1001"))
    await redis.hset("{demo}:acd:queue:billing:figures", "handling_ms", 30_000)
    await node.acd.ready(agent("1002"))
    for ticket in ("b", "c", "d", "e", "f"):
        await node.acd.enqueue(request(ticket))
    assert await node.acd.position(TENANT, TicketId("f")) == 3
    assert await node.acd.estimate(TENANT, TicketId("f")) == 45


async def test_nothing_is_left_when_all_is_over(node: Node, redis: Redis) -> None:
    for name in ("1001", "1002", "1003"):
        await node.acd.sign_in(agent(name, BILLING, FAULTS))
        await node.acd.ready(agent(name, BILLING, FAULTS))
    for ticket in "abcdef":
        await node.acd.enqueue(request(ticket, BILLING if ticket < "d" else FAULTS))
    await node.acd.confirm(node.offers[0])
    await node.acd.reject(node.offers[1])
    for ticket in "abcdef":
        await node.acd.cancel(TENANT, TicketId(ticket))
    for name in ("1001", "1002", "1003"):
        await node.acd.sign_out(agent(name, BILLING, FAULTS))
    assert await keys_of(redis) == {"{demo}:acd:fence", "{demo}:acd:nodes"}


async def test_a_node_that_stops_leaves_nothing_of_its_own(node: Node, redis: Redis) -> None:
    stops = Node(redis, "node-2")
    await stops.acd.start()
    await stops.acd.ready(agent("2001"))
    await stops.acd.enqueue(request("a"))
    await stops.acd.enqueue(request("b"))
    await stops.acd.aclose()
    assert await node.acd.enqueue(request("c")) == 1
    assert await redis.hlen("{demo}:acd:agents") == 0


async def test_all_keys_share_the_tenants_slot(node: Node, redis: Redis) -> None:
    await node.acd.ready(agent("1001"))
    await node.acd.enqueue(request("a"))
    await node.acd.enqueue(request("b"))
    assert all(key.startswith("{demo}:acd:") for key in await keys_of(redis))


async def test_scripts_are_loaded_again_when_redis_forgot_them(node: Node, redis: Redis) -> None:
    await redis.script_flush()
    assert await node.acd.enqueue(request("a")) == 1


async def test_an_enqueue_whose_task_was_cancelled_leaves_no_ticket(
    node: Node, redis: Redis
) -> None:
    task = asyncio.ensure_future(node.acd.enqueue(request("a")))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await node.acd.cancel(TENANT, TicketId("a"))
    assert await redis.hlen("{demo}:acd:tickets") == 0


# Two nodes


@pytest.fixture
async def other(redis_process: RedisProcess, redis: Redis) -> AsyncIterator[Node]:
    client = redis_process.client()
    node = Node(client, "node-2")
    await node.acd.start()
    yield node
    await node.acd.aclose()
    await client.aclose()


async def test_an_offer_reaches_the_calls_node_at_once(
    node: Node, other: Node, redis: Redis
) -> None:
    await other.acd.enqueue(request("a"))
    await until(lambda: other.acd._tasks)
    await subscribed(redis, "node-2")
    await node.acd.ready(agent("1001"))
    assert node.offers == []
    await until(lambda: other.offers)
    assert other.offers[0].agent_node == "node-1"
    assert await other.acd.confirm(other.offers[0])


async def test_an_offer_that_was_not_heard_comes_with_the_sweep(node: Node, redis: Redis) -> None:
    deaf = Node(redis, "node-2")
    await deaf.acd.enqueue(request("a"))
    await node.acd.ready(agent("1001"))
    await deaf.acd.sweep()
    await deaf.acd.sweep()
    assert deaf.pairs() == [("a", "1001")]
    await deaf.acd.aclose()


async def test_cancelling_before_the_offer_was_heard_frees_the_agent_for_all_queues(
    node: Node, redis: Redis
) -> None:
    deaf = Node(redis, "node-2")
    await deaf.acd.enqueue(request("a"))
    await node.acd.ready(agent("1001", BILLING, FAULTS))
    await node.acd.enqueue(request("fault", FAULTS))
    assert await deaf.acd.cancel(TENANT, TicketId("a"))
    await node.acd.sweep()
    assert node.pairs() == [("fault", "1001")]
    await deaf.acd.aclose()


async def test_what_a_dead_node_held_returns(node: Node, redis: Redis) -> None:
    dead = Node(redis, "node-2", node_life_s=0)
    await dead.acd.sweep()
    await node.acd.ready(agent("1001"))
    await dead.acd.enqueue(request("dead"))
    await dead.acd.ready(agent("2001", FAULTS))
    await node.acd.enqueue(request("alive", FAULTS))
    await node.acd.enqueue(request("next"))
    assert dead.pairs() == [("dead", "1001")]
    assert node.pairs() == [("alive", "2001")]
    await node.acd.sweep()
    assert node.pairs() == [("alive", "2001"), ("next", "1001")]
    assert not await dead.acd.confirm(dead.offers[0])
    assert not await node.acd.confirm(node.offers[0])
    assert await node.acd.position(TENANT, TicketId("alive")) == 1
    await dead.acd.aclose()


async def test_a_node_taken_for_dead_tells_everything_again(node: Node, redis: Redis) -> None:
    slow = Node(redis, "node-2", node_life_s=0)
    await slow.acd.sweep()
    await slow.acd.enqueue(request("a"))
    await node.acd.sweep()
    await node.acd.enqueue(request("b"))
    assert await node.acd.position(TENANT, TicketId("b")) == 1
    await slow.acd.sweep()
    assert await node.acd.position(TENANT, TicketId("b")) == 2
    await slow.acd.aclose()


async def test_an_agent_is_signed_in_at_one_node_unless_taken_over(
    node: Node, other: Node, redis: Redis
) -> None:
    taken: list[str] = []
    other.acd.on_taken_over = lambda _tenant, who: taken.append(who)
    await subscribed(redis, "node-2")
    await other.acd.sign_in(agent("1001"))
    with pytest.raises(PlatformError) as refused:
        await node.acd.sign_in(agent("1001"))
    assert refused.value.code is Code.SIGNED_IN_ELSEWHERE
    await node.acd.sign_in(agent("1001"), take_over=True)
    await until(lambda: taken == ["1001"])
    with pytest.raises(PlatformError):
        await other.acd.ready(agent("1001"))


async def test_an_agent_with_a_call_is_not_taken_over(node: Node, other: Node) -> None:
    await other.acd.ready(agent("1001"))
    await other.acd.enqueue(request("a"))
    await other.acd.confirm(other.offers[0])
    with pytest.raises(PlatformError):
        await node.acd.sign_in(agent("1001"), take_over=True)


async def test_two_nodes_racing_serve_everybody_once(
    redis_process: RedisProcess, redis: Redis
) -> None:
    """Each node enqueues, cancels some, and has agents who take one call after the other."""
    calls_each, agents_each = 150, 10
    clients = [redis_process.client() for _ in range(2)]
    nodes = [Node(client, f"node-{i}", sweep_interval_s=0.05) for i, client in enumerate(clients)]
    served: dict[str, str] = {}
    talking: set[str] = set()
    cancelled: set[str] = set()
    work: set[asyncio.Task[None]] = set()

    def take(node: Node, offer: Offer) -> None:
        task = asyncio.create_task(handle(node, offer))
        work.add(task)
        task.add_done_callback(work.discard)

    async def handle(node: Node, offer: Offer) -> None:
        if offer.fence % 7 == 0:
            await node.acd.reject(offer, agent_ready=True)
            return
        if not await node.acd.confirm(offer):
            return
        assert offer.ticket not in served
        assert offer.agent not in talking
        served[offer.ticket] = offer.agent
        talking.add(offer.agent)
        await asyncio.sleep(0)
        talking.discard(offer.agent)
        home = nodes[int(offer.agent_node[-1])]
        await home.acd.ready(agent(offer.agent))

    async def caller(node: Node, name: str, leaves: bool) -> None:
        await node.acd.enqueue(request(name))
        if leaves and await node.acd.cancel(TENANT, TicketId(name)):
            cancelled.add(name)

    for node in nodes:
        node.acd.on_offer = functools.partial(take, node)
        await node.acd.start()
    names = [(i, f"{i}-{n}") for n in range(calls_each) for i in range(2)]
    await asyncio.gather(
        *(nodes[i].acd.ready(agent(f"{i}{n}")) for n in range(agents_each) for i in range(2)),
        *(caller(nodes[i], name, int(name[2:]) % 5 == 0) for i, name in names),
    )
    await until(lambda: len(served) + len(cancelled) == 2 * calls_each, 20)
    await until(lambda: not work)
    assert not set(served) & cancelled
    assert await redis.hlen("{demo}:acd:tickets") == 0
    assert await redis.zcard("{demo}:acd:leases") == 0
    for node, client in zip(nodes, clients, strict=True):
        await node.acd.aclose()
        await client.aclose()
