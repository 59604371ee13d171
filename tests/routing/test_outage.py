"""Redis goes away and comes back empty: callers keep their places, agents their states."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from domain.failures import Code, PlatformError
from domain.ids import TicketId
from tests.fakes.turn import turn
from tests.routing.redis_process import RedisProcess, until
from tests.routing.test_redis_acd import BILLING, FAULTS, TENANT, Node, agent, request

pytestmark = pytest.mark.stores


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path)
    process.start()
    yield process
    process.kill()


@pytest.fixture
async def node(own_redis: RedisProcess) -> AsyncIterator[Node]:
    client = own_redis.client()
    node = Node(client, sweep_interval_s=0.02)
    await node.acd.start()
    yield node
    await node.acd.aclose()
    await client.aclose()


async def test_nothing_can_be_asked_while_redis_is_away(
    node: Node, own_redis: RedisProcess
) -> None:
    own_redis.kill()
    with pytest.raises(PlatformError) as refused:
        await node.acd.enqueue(request("a"))
    assert refused.value.code is Code.QUEUE_UNAVAILABLE


async def test_a_node_may_start_before_redis(own_redis: RedisProcess) -> None:
    own_redis.kill()
    client = own_redis.client()
    node = Node(client, sweep_interval_s=0.02)
    await node.acd.start()
    own_redis.start()
    await until(lambda: not node.acd._stale)
    assert await node.acd.enqueue(request("a")) == 1
    await node.acd.aclose()
    await client.aclose()


async def test_an_emptied_redis_is_told_everything_again(
    node: Node, own_redis: RedisProcess
) -> None:
    for ticket in ("first", "second", "third", "leaves"):
        await node.acd.enqueue(request(ticket))
    await node.acd.ready(agent("1001"))  # rings for "first"
    await node.acd.enqueue(request("fault", FAULTS))
    await node.acd.ready(agent("2001", FAULTS))
    assert await node.acd.confirm(node.offers[1])  # talks
    own_redis.kill()

    # What people do meanwhile is refused by the store, and remembered.
    for doing in (
        node.acd.cancel(TENANT, TicketId("leaves")),
        node.acd.ready(agent("1002", FAULTS)),
        node.acd.sign_in(agent("1003")),
    ):
        with pytest.raises(PlatformError):
            await doing

    own_redis.start()
    await until(lambda: not node.acd._stale)
    assert await node.acd.position(TENANT, TicketId("second")) == 1
    assert await node.acd.position(TENANT, TicketId("third")) == 2
    assert await node.acd.position(TENANT, TicketId("leaves")) == 0
    assert await node.acd.confirm(node.offers[0])  # it rang all the time

    await node.acd.enqueue(request("fault-2", FAULTS))
    assert node.pairs()[2:] == [("fault-2", "1002")]
    await node.acd.ready(agent("1003", BILLING))
    assert node.pairs()[3:] == [("second", "1003")]
    assert node.offers[2].fence > node.offers[1].fence  # though Redis has forgotten that one


async def test_a_returned_call_is_at_the_head_after_the_outage_too(
    node: Node, own_redis: RedisProcess
) -> None:
    await node.acd.ready(agent("1001"))
    await node.acd.enqueue(request("returned"))
    await node.acd.enqueue(request("important", priority=254))
    await node.acd.reject(node.offers[0])
    own_redis.kill()
    own_redis.start()
    node.acd._store_failed()  # whether the client has noticed is another test's matter
    await until(lambda: not node.acd._stale)
    assert await node.acd.position(TENANT, TicketId("returned")) == 1


async def test_callers_and_agents_of_an_outage_meet_when_it_is_over(
    node: Node, own_redis: RedisProcess
) -> None:
    await node.acd.enqueue(request("a"))
    own_redis.kill()
    with pytest.raises(PlatformError):
        await node.acd.ready(agent("1001"))
    own_redis.start()
    await until(lambda: node.offers)
    assert node.pairs() == [("a", "1001")]
    assert node.offers[0].waited_ms > 0


async def test_an_answer_during_the_outage_is_kept(node: Node, own_redis: RedisProcess) -> None:
    await node.acd.ready(agent("1001"))
    await node.acd.enqueue(request("a"))
    own_redis.kill()
    with pytest.raises(PlatformError):
        await node.acd.confirm(node.offers[0])
    own_redis.start()
    await until(lambda: not node.acd._stale)
    assert await node.acd.enqueue(request("b")) == 1  # the agent talks, nobody is free
    await node.acd.ready(agent("1001"))
    assert node.pairs() == [("a", "1001"), ("b", "1001")]


async def test_a_redis_that_hangs_is_a_redis_that_is_away(own_redis: RedisProcess) -> None:
    client = own_redis.client()
    node = Node(client, within_s=0.05)
    await node.acd.sweep()
    own_redis.hang()
    with pytest.raises(PlatformError) as refused:
        await node.acd.enqueue(request("a"))
    assert refused.value.code is Code.QUEUE_UNAVAILABLE
    own_redis.go_on()
    await node.acd.sweep()
    assert await node.acd.enqueue(request("b")) == 1  # nothing was left of "a"
    await node.acd.aclose()
    await client.aclose()


@pytest.mark.parametrize("turns", range(8))
async def test_a_node_that_stops_while_it_connects(own_redis: RedisProcess, turns: int) -> None:
    client = own_redis.client()
    node = Node(client)
    await node.acd.start()
    for _ in range(turns):
        await turn()
    await asyncio.wait_for(node.acd.aclose(), 5)
    await client.aclose()
