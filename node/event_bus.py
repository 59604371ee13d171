"""The event bus: takes events without waiting, and writes them to one Redis stream a tenant.

Order of age: what is in flight, then the spool on disk, then memory. An event leaves one place only
when the next has it, so that none is lost; after a failure some may be written twice, and readers
know them by their ids. A killed process loses what is only in memory: at most the last 50 ms while
Redis answers, half a second while it does not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from itertools import groupby
from pathlib import Path

import structlog
from prometheus_client import Counter, Gauge
from redis.exceptions import RedisError

from cti95598.events.v1.events_pb2 import Event, EventBatch
from domain.ids import TenantId
from domain.redis_line import Command, RedisLine, accepted
from node.event_spool import EventSpool

log = structlog.get_logger(__name__)

EVENTS_WRITTEN = Counter("events_written_total", "Events that the stream took")
EVENTS_SPOOLED = Counter("events_spooled_total", "Events that went to disk while Redis was away")
EVENTS_LOST = Counter("events_lost_total", "Events lost because disk and memory were full")
EVENTS_WAITING = Gauge("events_waiting", "Events in memory that the stream has not got yet")
EVENT_STORE_UP = Gauge("event_store_up", "1 while the stream takes events")

BATCH_FIELD = "batch"
_BATCH_EVENTS = 500
_GATHER_S = 0.04  # and 10 ms that the line may wait
_RETRY_S = 0.5
_SPILL_EVENTS = 20_000
"""More in memory than this go to disk, although Redis answers."""
_MOST_IN_MEMORY = 500_000
_MOST_ENTRIES = 50_000
"""A stream of this length has no reader: events wait on disk instead of filling Redis."""


def stream_name(tenant: TenantId | str) -> str:
    """Return the key of a tenant's stream; the braces keep a tenant's keys on one cluster node."""
    return f"{{{tenant}}}:events"


class _StreamFullError(Exception):
    """Nobody reads the stream."""


class EventBus:
    """EventSink of a node."""

    def __init__(self, line: RedisLine, spool_directory: Path) -> None:
        self._line = line
        self._spool = EventSpool(spool_directory)
        self._memory: deque[Event] = deque()
        self._in_flight: list[Event] = []
        self._full: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._is_up = True
        EVENT_STORE_UP.set(1)

    @property
    def is_up(self) -> bool:
        """Whether the stream took the last batch."""
        return self._is_up

    def publish(self, event: Event) -> None:
        """Take one stamped event, which nobody changes any more."""
        self._memory.append(event)
        self._wake.set()

    def start(self) -> None:
        """Begin to write, the spool of an earlier run first."""
        if self._spool:
            self._wake.set()
        self._task = asyncio.create_task(self._write_always(), name="event bus")

    async def stop(self, *, within_s: float = 3.0) -> None:
        """Write everything to the stream, or to disk where that does not work in time."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._task, within_s)
        if self._in_flight:
            self._spool.prepend(self._in_flight)
            self._in_flight = []
        self._spill()
        self._spool.sync()

    async def _write_always(self) -> None:
        while not (self._stopping and self._is_idle()):
            if not self._stopping:
                await self._wake.wait()
                await asyncio.sleep(_GATHER_S)  # more events for the same round trip
            self._wake.clear()
            try:
                await self._write_all()
                self._note(up=True)
            except (RedisError, OSError, _StreamFullError) as error:
                self._note(up=False, reason=str(error) or type(error).__name__)
            except Exception:
                log.exception("events cannot be written for a fault of ours")
                self._note(up=False, reason="internal error")
            else:
                continue
            self._wake.set()
            self._spill()
            if self._stopping:
                return
            await asyncio.sleep(_RETRY_S)

    def _is_idle(self) -> bool:
        return not (self._in_flight or self._spool or self._memory)

    async def _write_all(self) -> None:
        if self._in_flight:
            await self._write(self._in_flight)
            self._in_flight = []
        while self._spool:
            for batch in self._spool.oldest():
                await self._write(batch)
            self._spool.drop_oldest()
        gathered = len(self._memory)  # what comes meanwhile gathers for the next time
        while gathered > 0:
            if len(self._memory) > _SPILL_EVENTS:
                self._spill()
                self._wake.set()
                return
            count = min(_BATCH_EVENTS, gathered)
            gathered -= count
            self._in_flight = [self._memory.popleft() for _ in range(count)]
            await self._write(self._in_flight)
            self._in_flight = []
        EVENTS_WAITING.set(len(self._memory))

    async def _write(self, events: list[Event]) -> None:
        """Append one entry a tenant, and see how long the streams have become."""
        tenants: dict[str, list[Event]] = {}
        for tenant, run in groupby(events, key=lambda event: event.tenant):
            tenants.setdefault(tenant, []).extend(run)
        for tenant in self._full & tenants.keys():
            [length] = accepted(await self._line.ask(("XLEN", stream_name(tenant))))
            if length >= _MOST_ENTRIES:
                raise _StreamFullError(f"the stream of {tenant} is full: nobody reads it")
        commands: list[Command] = []
        for tenant, batch in tenants.items():
            body = EventBatch(events=batch).SerializeToString()
            commands.append(("XADD", stream_name(tenant), "*", BATCH_FIELD, body))
            commands.append(("XLEN", stream_name(tenant)))
        lengths = accepted(await self._line.ask(*commands, at_once=False))[1::2]
        for tenant, length in zip(tenants, lengths, strict=True):
            (self._full.add if length >= _MOST_ENTRIES else self._full.discard)(tenant)
        EVENTS_WRITTEN.inc(len(events))

    def _spill(self) -> None:
        """Move memory to disk; what the disk refuses stays in memory, up to its bound."""
        spooled = 0
        try:
            while self._memory:
                count = min(_BATCH_EVENTS, len(self._memory))
                self._spool.append([self._memory[at] for at in range(count)])
                for _ in range(count):
                    self._memory.popleft()
                spooled += count
        except OSError as error:
            log.warning("event spool cannot be written", error=str(error))
            while len(self._memory) > _MOST_IN_MEMORY:
                self._memory.popleft()
                EVENTS_LOST.inc()
        EVENTS_SPOOLED.inc(spooled)
        EVENTS_WAITING.set(len(self._memory))

    def _note(self, *, up: bool, reason: str = "") -> None:
        EVENT_STORE_UP.set(int(up))
        if up and not self._is_up:
            log.info("event stream takes events again")
        elif not up and self._is_up:
            log.warning("event stream takes no events, they go to disk", reason=reason)
        self._is_up = up
