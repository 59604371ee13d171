"""The bus keeps every event, in order, through the death of Redis and its own restart."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from cti95598.events.v1.events_pb2 import CallAnswered, Event, EventBatch, NodeEntered
from domain.events import EventStamp
from domain.ids import CallId, NodeId, TenantId
from domain.redis_line import Command, RedisLine
from node.event_bus import EventBus, stream_name
from node.event_spool import EventSpool
from tests.node.running import running_redis, until

DEMO = TenantId("demo")
NODE = NodeId("n1")


def publish(bus: EventBus, first: int, count: int, tenant: TenantId = DEMO) -> None:
    stamp = EventStamp(NODE, bus)
    for number in range(first, first + count):
        stamp.publish(tenant, NodeEntered(step=number), call_id=CallId("c"))


async def steps_in_stream(redis: Redis, tenant: str = "demo") -> list[int]:
    entries: Any = await redis.xrange(stream_name(tenant))
    return [
        event.node_entered.step
        for _, fields in entries
        for event in EventBatch.FromString(fields[b"batch"]).events
    ]


def once(steps: list[int]) -> list[int]:
    return list(dict.fromkeys(steps))


@pytest.mark.stores
async def test_events_reach_the_stream_of_their_tenant_in_order(tmp_path: Path) -> None:
    async with running_redis(tmp_path) as (directory, _, redis):
        bus = EventBus(RedisLine(redis), directory.spool)
        bus.start()
        publish(bus, 0, 1200)
        publish(bus, 0, 3, TenantId("other"))
        await bus.stop()
        assert await steps_in_stream(redis) == list(range(1200))
        assert await steps_in_stream(redis, "other") == [0, 1, 2]
        assert not list(directory.spool.iterdir())


@pytest.mark.stores
async def test_events_that_come_during_a_write_gather_for_the_next(tmp_path: Path) -> None:
    async with running_redis(tmp_path) as (directory, _, redis):
        line = _BusyLine(redis)
        bus = EventBus(line, directory.spool)
        line.during_write = lambda: _publish_two(bus)
        bus.start()
        publish(bus, 0, 1)
        await until(lambda: _has(redis, 3))
        await bus.stop()
        entries: Any = await redis.xrange(stream_name("demo"))
        assert [
            [event.node_entered.step for event in EventBatch.FromString(fields[b"batch"]).events]
            for _, fields in entries
        ] == [[0], [1, 2]]


def _publish_two(bus: EventBus) -> None:
    """One event at once, the other when one that does not gather has written the first."""
    publish(bus, 1, 1)
    asyncio.get_running_loop().call_later(0.02, publish, bus, 2, 1)


class _BusyLine(RedisLine):
    """Something happens during the first write."""

    during_write: Callable[[], None] | None = None

    async def ask(self, *commands: Command, at_once: bool = True) -> list[Any]:
        happens, self.during_write = self.during_write, None
        if happens is not None:
            happens()
        return await super().ask(*commands, at_once=at_once)


@pytest.mark.stores
async def test_no_event_is_lost_when_redis_dies_and_returns(tmp_path: Path) -> None:
    async with running_redis(tmp_path) as (directory, server, redis):
        bus = EventBus(RedisLine(redis), directory.spool)
        bus.start()
        publish(bus, 0, 100)
        await until(lambda: _has(redis, 100))
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)  # it neither answers nor refuses
        publish(bus, 100, 100)
        os.kill(server.pid, signal.SIGKILL)
        publish(bus, 200, 30_000)
        await until(lambda: _has(redis, 30_200))
        assert once(await steps_in_stream(redis)) == list(range(30_200))
        await until(lambda: bus.is_up)
        await bus.stop()
        assert not list(directory.spool.iterdir())


async def _has(redis: Redis, count: int) -> bool:
    try:
        return len(once(await steps_in_stream(redis))) >= count
    except (RedisError, OSError):
        return False


@pytest.mark.stores
async def test_events_of_a_stop_without_redis_come_with_the_next_start(tmp_path: Path) -> None:
    nobody = Redis(unix_socket_path=str(tmp_path / "nothing.sock"))
    async with running_redis(tmp_path / "data") as (directory, _, redis):
        bus = EventBus(RedisLine(nobody), directory.spool)
        bus.start()
        publish(bus, 0, 700)
        await bus.stop(within_s=0.2)
        assert list(directory.spool.iterdir())
        later = EventBus(RedisLine(redis), directory.spool)
        later.start()
        publish(later, 700, 10)
        await later.stop()
        assert once(await steps_in_stream(redis)) == list(range(710))
        assert not list(directory.spool.iterdir())
    await nobody.aclose()


@pytest.mark.stores
async def test_a_stream_that_nobody_reads_does_not_fill_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.event_bus._MOST_ENTRIES", 3)
    async with running_redis(tmp_path) as (directory, _, redis):
        bus = EventBus(RedisLine(redis), directory.spool)
        bus.start()
        publish(bus, 0, 1500)  # three entries
        await until(lambda: _has(redis, 1500))
        publish(bus, 1500, 10)
        await until(lambda: not bus.is_up)
        assert await redis.xlen(stream_name("demo")) == 3
        await redis.delete(stream_name("demo"))
        await until(lambda: _has(redis, 10))
        assert await steps_in_stream(redis) == list(range(1500, 1510))
        await bus.stop()


def events(*numbers: int) -> list[Event]:
    return [Event(id=str(number), call_answered=CallAnswered()) for number in numbers]


def drain(spool: EventSpool) -> list[str]:
    ids: list[str] = []
    while spool:
        ids += [event.id for batch in spool.oldest() for event in batch]
        spool.drop_oldest()
    return ids


def test_spool_keeps_order_over_restarts(tmp_path: Path) -> None:
    spool = EventSpool(tmp_path)
    spool.append(events(3, 4))
    spool.append(events(5))
    spool.prepend(events(1, 2))
    again = EventSpool(tmp_path)
    again.append(events(6))
    assert drain(again) == ["1", "2", "3", "4", "5", "6"]
    assert not list(tmp_path.iterdir())


def test_spool_goes_on_while_it_is_drained(tmp_path: Path) -> None:
    spool = EventSpool(tmp_path)
    spool.append(events(1))
    first = [event.id for batch in spool.oldest() for event in batch]
    spool.append(events(2))
    spool.drop_oldest()
    assert first + drain(spool) == ["1", "2"]


@pytest.mark.parametrize("cut", [1, 5, 8, 12])
def test_a_cut_record_costs_only_itself(tmp_path: Path, cut: int) -> None:
    spool = EventSpool(tmp_path)
    spool.append(events(1))
    spool.append(events(2))
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:-cut])
    assert drain(EventSpool(tmp_path)) == ["1"]


def test_a_spoilt_record_is_not_read(tmp_path: Path) -> None:
    spool = EventSpool(tmp_path)
    spool.append(events(1))
    file = next(tmp_path.iterdir())
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert drain(EventSpool(tmp_path)) == []
