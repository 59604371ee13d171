"""The reader of the event stream: batches of events into SQL, each event exactly once.

Entries are acknowledged after the transaction that stored them; what is read twice is known by the
event's id, which the log of events keeps. PostgreSQL or Redis may go and come back at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import structlog
from google.protobuf.message import DecodeError
from prometheus_client import Counter, Gauge, Histogram
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from cti95598.events.v1.events_pb2 import Event, EventBatch
from domain.tasks import end_tasks
from reports.database import DATABASE_ERRORS
from reports.projection import KindAndEvent, Projection, event_time, in_turns

log = structlog.get_logger(__name__)

EVENTS_STORED = Counter("events_stored_total", "Events that became rows")
EVENTS_REPEATED = Counter("events_repeated_total", "Events that had been stored already")
EVENTS_REFUSED = Counter("events_refused_total", "Events that SQL refused or that are unreadable")
STORE_SECONDS = Histogram("events_store_seconds", "Time to store a batch of events")
ROW_DELAY = Histogram(
    "event_row_delay_seconds",
    "From an event to its row, of the first of each batch, which waits longest",
    buckets=(0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 180, 600, 3600),
)
RECORDS_UP = Gauge("records_up", "1 while events become rows")

GROUP = "reports"
_FIELD = b"batch"
_READ_ENTRIES = 16
_BLOCK_MS = 1000
_GATHER_S = 0.5
"""Between two batches; the price of a transaction is paid for all events of that time."""
_RETRY_S = 1.0
_REPLY_WITHIN_S = 10.0
_ABANDONED_AFTER_MS = 60_000
_KEEP_READ_MS = 60_000
_KEEP_ENTRIES = 10_000

_LOG_COLUMNS = ("event_id", "at", "tenant", "node", "call_id", "kind", "cause", "body")
_LOG_NEW = f"""
INSERT INTO event_log ({", ".join(_LOG_COLUMNS)})
SELECT {", ".join(_LOG_COLUMNS)} FROM unnest($1::event_log[])
ON CONFLICT DO NOTHING RETURNING event_id
"""  # noqa: S608 - the names above
_REFUSED = """
INSERT INTO event_refused (event_id, reason, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""

Entry = tuple[bytes, dict[bytes, bytes]]
LogEvents = Callable[
    [asyncpg.Connection, Sequence[KindAndEvent]], Awaitable[Sequence[KindAndEvent]]
]


class EventConsumer:
    """Follows the streams of all tenants as one member of the group `reports`."""

    def __init__(
        self,
        redis: Redis,
        pool: asyncpg.Pool,
        *,
        streams: Iterable[str],
        member: str,
        projections: Sequence[Projection],
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        """`prepare` brings the schema up to date; it is called until it succeeds."""
        self._redis = redis
        self._pool = pool
        self._streams = list(streams)
        self._member = member
        self._projections = projections
        self._prepare = prepare
        self._unfinished: set[str] = set()
        """Streams of which this member may have read what it did not acknowledge."""
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._is_up = True

    @property
    def is_up(self) -> bool:
        """Whether the last attempt to store went well."""
        return self._is_up

    def start(self) -> None:
        """Begin to follow the streams."""
        self._tasks = [
            asyncio.create_task(self._follow(stream), name=f"records of {stream}")
            for stream in self._streams
        ]

    async def stop(self, *, within_s: float = 5.0) -> None:
        """Store what the streams hold by now, and end; what remains is stored after a start."""
        self._stopping.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=within_s)
            await end_tasks(late)

    async def _follow(self, stream: str) -> None:
        prepared = False
        while True:
            try:
                if not prepared:
                    await self._prepare()
                    await self._join(stream)
                    prepared = True
                if await self._step(stream) == 0 and self._stopping.is_set():
                    return
                self._note(up=True)
            except (RedisError, *DATABASE_ERRORS) as error:
                self._note(up=False, reason=str(error) or type(error).__name__)
            except Exception:
                log.exception("records cannot be written for a fault of ours")
                self._note(up=False, reason="internal error")
            else:
                continue
            if self._stopping.is_set():
                return
            prepared = False  # a store that lost its data has lost group or schema too
            await self._pool.expire_connections()  # they know the tables as they were
            await self._pause(_RETRY_S)

    async def _join(self, stream: str) -> None:
        """Make the group, and take over what members that are gone had read."""
        try:
            await self._redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        cursor: Any = "0-0"
        while True:
            cursor, *_ = await self._redis.xautoclaim(
                stream, GROUP, self._member, _ABANDONED_AFTER_MS, start_id=cursor
            )
            if cursor in {b"0-0", "0-0"}:
                self._unfinished.add(stream)
                return

    async def _step(self, stream: str) -> int:
        """Store one batch; return how many entries it had."""
        entries: list[Entry] = []
        if stream in self._unfinished:  # after a failure or a restart
            entries = await self._read(stream, "0", block_ms=None)
        if not entries:
            self._unfinished.discard(stream)
            block_ms = None if self._stopping.is_set() else _BLOCK_MS
            entries = await self._read(stream, ">", block_ms=block_ms)
        if not entries:
            return 0
        events: list[Event] = []
        for entry in entries:
            events += _events(entry)
            await asyncio.sleep(0)  # calls have a turn after each
        await self._store(events)
        await self._forget(stream, [entry_id for entry_id, _ in entries])
        if len(entries) < _READ_ENTRIES:
            await self._pause(_GATHER_S)
        return len(entries)

    async def _read(self, stream: str, start: str, *, block_ms: int | None) -> list[Entry]:
        async with asyncio.timeout(_REPLY_WITHIN_S):
            reply: Any = await self._redis.xreadgroup(
                GROUP, self._member, {stream: start}, count=_READ_ENTRIES, block=block_ms
            )
        if not reply:
            return []
        # RESP2 answers with pairs, RESP3 with a map whose values are wrapped once more.
        entries: list[Entry] = (
            next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]
        )
        return entries

    async def _forget(self, stream: str, stored: Sequence[bytes]) -> None:
        """Drop what every row has, but for a minute's worth that live readers may still want."""
        last = stored[-1]
        oldest_ms = int(last.split(b"-")[0]) - _KEEP_READ_MS
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xack(stream, GROUP, *stored)
            pipeline.xtrim(stream, minid=f"{oldest_ms}-0", approximate=True)
            pipeline.xlen(stream)
            *_, length = await pipeline.execute()
        if length >= _KEEP_ENTRIES:
            await self._redis.xtrim(stream, minid=last, approximate=True)

    async def _store(self, events: list[Event]) -> None:
        if not events:
            return
        try:
            with STORE_SECONDS.time():  # as a decorator it would time the making of the coroutine
                await self._store_together(events)
        except (asyncpg.DataError, ValueError, OverflowError):
            # One bad event must neither stop the others nor come back for ever.
            for event in events:
                await self._store_alone(event)

    async def _store_together(self, events: list[Event]) -> None:
        once = list({event.id: event for event in events}.values())
        try:
            new = await self._write(once, _log_all)
        except asyncpg.UniqueViolationError:  # some are read for the second time
            new = await self._write(once, _log_new)
        if new:
            ROW_DELAY.observe(max(0.0, time.time() - new[0][1].time_unix_us / 1e6))
        EVENTS_STORED.inc(len(new))
        EVENTS_REPEATED.inc(len(events) - len(new))

    async def _write(
        self, events: Sequence[Event], log_events: LogEvents
    ) -> Sequence[KindAndEvent]:
        """Write the log and what the events that are new to it mean; return these."""
        pairs = [(event.WhichOneof("body") or "", event) for event in events]
        async with self._pool.acquire() as connection, connection.transaction():
            new = await log_events(connection, pairs)
            for projection in self._projections:
                await projection.apply(connection, new)
        return new

    async def _store_alone(self, event: Event) -> None:
        try:
            await self._store_together([event])
        except (asyncpg.DataError, ValueError, OverflowError) as error:
            EVENTS_REFUSED.inc()
            log.warning("event refused by the database", event_id=event.id, reason=str(error))
            async with self._pool.acquire() as connection:
                await connection.execute(
                    _REFUSED,
                    event.id.replace("\0", ""),
                    str(error).replace("\0", ""),
                    event.SerializeToString(),
                )

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _note(self, *, up: bool, reason: str = "") -> None:
        RECORDS_UP.set(int(up))
        if up and not self._is_up:
            log.info("records are written again")
        elif not up and self._is_up:
            log.warning("records cannot be written, events wait in the stream", reason=reason)
        self._is_up = up


async def _log_all(
    connection: asyncpg.Connection, pairs: Sequence[KindAndEvent]
) -> Sequence[KindAndEvent]:
    """Write events of which the log has none, at half the price; else UniqueViolationError."""
    await connection.copy_records_to_table(
        "event_log", columns=_LOG_COLUMNS, records=_log_rows(pairs)
    )
    return pairs


async def _log_rows(pairs: Sequence[KindAndEvent]) -> AsyncIterator[tuple[object, ...]]:
    async for some in in_turns(pairs):
        for pair in some:
            yield _log_row(pair)


async def _log_new(
    connection: asyncpg.Connection, pairs: Sequence[KindAndEvent]
) -> Sequence[KindAndEvent]:
    """Write the events that the log does not have, and return these."""
    new: list[KindAndEvent] = []
    async for some in in_turns(pairs):
        rows = [dict(zip(_LOG_COLUMNS, _log_row(pair), strict=True)) for pair in some]
        written = await connection.fetch(_LOG_NEW, rows)
        ids = {row["event_id"].hex for row in written}
        new += [pair for pair in some if UUID(pair[1].id).hex in ids]
    return new


def _log_row(pair: KindAndEvent) -> tuple[object, ...]:
    kind, event = pair
    return (
        event.id,
        event_time(event),
        event.tenant,
        event.node,
        event.call_id,
        kind,
        event.cause,
        event.SerializeToString(),
    )


def _events(entry: Entry) -> Sequence[Event]:
    """Return the events of one entry; one that was trimmed while it was pending has none."""
    body = (entry[1] or {}).get(_FIELD)
    if body is None:
        return []
    try:
        return EventBatch.FromString(body).events
    except DecodeError:
        EVENTS_REFUSED.inc()
        log.warning("entry of the event stream is unreadable", entry=entry[0].decode())
        return []
