"""What is left of a call once it is decided: its events, the stream, the rows, on real stores.

How many events share an entry of the stream, a transaction and a row is what their price hangs on;
so they come as far apart as in calls, and as many a second as at the rate that is asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

import recording
import reports
from domain.events import EventStamp
from domain.ids import NodeId, TenantId
from domain.redis_line import RedisLine
from loadtest.call_events import EVENTS_A_CALL, calls_events
from loadtest.cpu import usage_of
from node.data_directory import DataDirectory, InstanceLock
from node.event_bus import EventBus, stream_name
from node.stores.migrations import migrate
from node.stores.postgres_server import PostgresServer
from node.stores.redis_server import RedisServer
from recording.index import RecordingIndex
from reports.agent_records import AgentRecords
from reports.call_records import CallRecords
from reports.consumer import EventConsumer

_TENANT = TenantId("load")
_NODE = NodeId("load-1")
_MIGRATIONS = {one.__name__: Path(one.__path__[0]) / "migrations" for one in (reports, recording)}
_AGENTS = 400
_TICK_S = 0.01
_STORED_WITHIN_S = 60.0

_COMPLETE = """
SELECT count(*) FROM call_record c
JOIN queue_visit v USING (tenant, call_id) JOIN call_leg l USING (tenant, call_id)
JOIN conversation t USING (tenant, call_id) JOIN recording r USING (tenant, call_id)
JOIN agent_offer o USING (tenant, call_id)
WHERE c.outcome = 'completed' AND c.arrived_at < c.ended_at AND (c.talk_ms, c.offers) = (2000, 1)
    AND v.outcome = 'agent' AND l.sip_status = 200 AND t.talk_ms = 2000 AND r.size_bytes > 0
    AND o.outcome = 'answered'
    AND 2 = (SELECT count(*) FROM call_step s WHERE (s.tenant, s.call_id) = (c.tenant, c.call_id)
        AND s.entered_at < s.left_at)
"""
_WRITTEN = """
SELECT (SELECT sum(n_tup_ins) FROM pg_stat_user_tables) AS rows_inserted,
    (SELECT sum(n_tup_upd) FROM pg_stat_user_tables) AS rows_updated,
    (SELECT sum(n_tup_hot_upd) FROM pg_stat_user_tables) AS updated_without_indexes,
    wal_records, wal_bytes, wal_fpi AS wal_full_pages FROM pg_stat_wal
"""


@dataclass(slots=True)
class RecordFigures:
    """What came of a run, and what it cost."""

    calls: int = 0
    events: int = 0
    stored: int = 0
    complete: int = 0
    """Calls of which the rows hold what the events told."""
    making_cpu_s: float = 0.0
    """To make and stamp the events, which a node does where they happen."""
    python_cpu_s: float = 0.0
    """For all that comes after: from the bus to what PostgreSQL is sent."""
    redis_cpu_s: float = 0.0
    postgres_cpu_s: float = 0.0
    written: Mapping[str, int] = field(default_factory=dict)
    """Rows, and what went to the write-ahead log."""


async def records_run(data: Path, *, rate: float, seconds: float) -> RecordFigures:
    """Make events of calls at `rate` a second, and wait until all of them are rows.

    Raises PlatformError when a store cannot be started.
    """
    figures = RecordFigures(calls=round(rate * seconds))
    figures.events = figures.calls * EVENTS_A_CALL
    async with AsyncExitStack() as stack:
        directory = DataDirectory.at(data)
        lock = InstanceLock(directory)
        lock.acquire()
        stack.callback(lock.release)
        redis_server = RedisServer(directory, lock)
        postgres_server = PostgresServer(directory, lock)
        stack.push_async_callback(redis_server.stop)
        stack.push_async_callback(postgres_server.stop)
        await asyncio.gather(redis_server.start(), postgres_server.start())
        redis = Redis.from_url(redis_server.url)
        stack.push_async_callback(redis.aclose)
        # One session, which tells its own counts at once.
        pool = await asyncpg.create_pool(postgres_server.url, min_size=1, max_size=1)
        stack.push_async_callback(pool.close)
        await _migrate(pool)
        before = await _written(pool)
        redis_s, postgres_s = _cpu_s(redis_server), _cpu_s(postgres_server)
        began_s = time.process_time()
        figures.making_cpu_s = await _play(redis, pool, directory, rate, figures.calls)
        figures.python_cpu_s = time.process_time() - began_s - figures.making_cpu_s
        figures.redis_cpu_s = _cpu_s(redis_server) - redis_s
        figures.postgres_cpu_s = _cpu_s(postgres_server) - postgres_s
        after = await _written(pool)
        figures.written = {name: after[name] - before[name] for name in after}
        figures.stored = await pool.fetchval("SELECT count(*) FROM event_log")
        figures.complete = await pool.fetchval(_COMPLETE)
    return figures


async def _migrate(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        await migrate(connection, _MIGRATIONS)


async def _play(
    redis: Redis, pool: asyncpg.Pool, directory: DataDirectory, rate: float, calls: int
) -> float:
    """Have the events go the way they go in a node; return the CPU seconds to make them."""
    consumer = EventConsumer(
        redis,
        pool,
        streams=[stream_name(_TENANT)],
        member=_NODE,
        projections=[CallRecords(), AgentRecords(), RecordingIndex()],
        prepare=lambda: _migrate(pool),
    )
    line = RedisLine(redis)
    bus = EventBus(line, directory.spool)
    consumer.start()
    bus.start()
    try:
        return await _make(bus, rate, calls)
    finally:
        await bus.stop()
        await consumer.stop(within_s=_STORED_WITHIN_S)
        await line.aclose()


async def _make(bus: EventBus, rate: float, calls: int) -> float:
    """Publish the events when they are due; return the CPU seconds that took."""
    stamp = EventStamp(_NODE, bus)
    events = calls_events(rate=rate, count=calls, agents=_AGENTS)
    took_s = 0.0
    began_s = time.monotonic()
    upcoming = next(events, None)
    while upcoming is not None:
        from_s = time.process_time()
        now_s = time.monotonic() - began_s
        while upcoming is not None and upcoming[0] <= now_s:
            _, call_id, body, cause = upcoming
            stamp.publish(_TENANT, body, call_id=call_id, cause=cause)
            upcoming = next(events, None)
        took_s += time.process_time() - from_s
        await asyncio.sleep(_TICK_S)
    return took_s


async def _written(pool: asyncpg.Pool) -> dict[str, int]:
    async with pool.acquire() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        row = await connection.fetchrow(_WRITTEN)
    return {name: int(count or 0) for name, count in row.items()}


def _cpu_s(server: RedisServer | PostgresServer) -> float:
    return sum(usage_of(server.pid).cpu_s.values()) if server.pid is not None else 0.0
