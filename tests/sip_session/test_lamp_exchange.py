"""Lamps of phones show the calls of every node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from cti.shared.lamp_exchange import LampExchange
from cti.sip.events.dialog_info import DialogStage, PhoneDialog
from cti.sip.events.phone_dialogs import PhoneDialogs
from domain.ids import NodeId
from domain.redis_line import RedisLine
from tests.peers.waiting import wait_until
from tests.routing.conftest import redis, redis_process  # noqa: F401 - fixtures
from tests.routing.redis_process import RedisProcess
from tests.sip_session.phones import OTHER_TENANT, TENANT

TALKING = PhoneDialog("call-1", DialogStage.CONFIRMED, "recipient", "138****5678", "李")
ENDED = PhoneDialog("call-1", DialogStage.TERMINATED, "recipient")


class Pool:
    """Nodes on one Redis."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.alive: set[NodeId] = set()

    def node(self, client: Redis, name: str) -> tuple[LampExchange, PhoneDialogs]:
        phones = PhoneDialogs(lambda _tenant, _user: True)
        node = NodeId(name)
        self.alive.add(node)
        exchange = LampExchange(
            client,
            RedisLine(client),
            phones,
            node=node,
            tenants=[TENANT, OTHER_TENANT],
            is_alive=self.alive.__contains__,
        )
        exchange.start()
        self._stack.push_async_callback(exchange.aclose)
        return exchange, phones


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with AsyncExitStack() as stack:
        yield Pool(stack)


async def shows(phones: PhoneDialogs, *dialogs: PhoneDialog, user: str = "1001") -> None:
    def as_wanted() -> bool:
        live = [
            each
            for each in phones.dialogs(TENANT, user) or ()
            if each.stage is not DialogStage.TERMINATED
        ]
        return live == list(dialogs)

    await wait_until(as_wanted, 5, f"lamp of {user}")


async def test_a_call_on_another_node(redis: Redis, pool: Pool) -> None:  # noqa: F811
    here, phones_here = pool.node(redis, "node-1")
    _, phones_there = pool.node(redis, "node-2")
    told: list[tuple[str, str]] = []
    phones_there.watch(lambda tenant, user: told.append((tenant, user)))
    here.tell(TENANT, "1001", TALKING)
    await shows(phones_here, TALKING)
    await shows(phones_there, TALKING)
    assert phones_there.dialogs(OTHER_TENANT, "1001") == ()
    here.tell(TENANT, "1001", ENDED)
    await shows(phones_there)
    assert told == [(TENANT, "1001")] * 2
    await wait_until(lambda: not here._untold, 5, "told")
    assert await redis.keys("*") == []


async def test_a_node_that_comes_later(redis: Redis, pool: Pool) -> None:  # noqa: F811
    here, _ = pool.node(redis, "node-1")
    here.tell(TENANT, "1001", TALKING)
    other = PhoneDialog("call-2", DialogStage.EARLY, "initiator")
    here.tell(TENANT, "1001", other)
    _, phones = pool.node(redis, "node-2")
    await shows(phones, TALKING, other)
    await here.aclose()
    await shows(phones)


async def test_a_node_that_starts_again(redis: Redis, pool: Pool) -> None:  # noqa: F811
    await redis.hset("{demo}:lamps", "node-1 1001", '[["x", "early", "recipient", "", ""]]')
    _, phones = pool.node(redis, "node-2")
    await shows(phones, PhoneDialog("x", DialogStage.EARLY, "recipient"))
    pool.node(redis, "node-1")
    await shows(phones)


async def test_a_node_that_dies(redis: Redis, pool: Pool) -> None:  # noqa: F811
    here, _ = pool.node(redis, "node-1")
    there, phones = pool.node(redis, "node-2")
    here.tell(TENANT, "1001", TALKING)
    await shows(phones, TALKING)
    pool.alive.discard(NodeId("node-1"))
    await there._sweep()
    await shows(phones, TALKING)  # it may only be late
    await there._sweep()
    await shows(phones)
    assert await redis.keys("*") == []


async def test_a_redis_that_forgot(redis_process: RedisProcess, pool: Pool) -> None:  # noqa: F811
    client = redis_process.client()
    await client.flushall()
    here, _ = pool.node(client, "node-1")
    _, phones = pool.node(client, "node-2")
    here.tell(TENANT, "1001", TALKING)
    await shows(phones, TALKING)
    redis_process.kill()
    here.tell(TENANT, "1001", ENDED)
    here.tell(TENANT, "1002", TALKING)
    redis_process.start()
    await shows(phones)
    await shows(phones, TALKING, user="1002")
    for task in (*here._tasks,):
        assert not task.done()
    await asyncio.wait_for(pool._stack.aclose(), 5)
    await client.aclose()


async def test_nonsense_does_not_stop_it(redis: Redis, pool: Pool) -> None:  # noqa: F811
    _, phones = pool.node(redis, "node-2")
    other, _ = pool.node(redis, "node-1")
    other.tell(TENANT, "1001", TALKING)
    await shows(phones, TALKING)
    await redis.publish("{demo}:lamps", "node-3 nonsense")
    other.tell(TENANT, "1001", ENDED)
    await shows(phones)
