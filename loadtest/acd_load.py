"""The ACD alone, on a real Redis: how soon an agent is offered once a call and an agent are there.

Callers come as they do, by chance; agents talk and are ready again. Nearly all are busy, so that
both happen: calls that find an agent, and agents who find a call that waits.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis

from domain.failures import PlatformError
from domain.ids import AgentId, CallId, NodeId, QueueId, TenantId, TicketId
from domain.redis_line import RedisLine
from loadtest.cpu import usage_of
from loadtest.figures.durations import Durations
from node.data_directory import DataDirectory, InstanceLock
from node.stores.redis_server import RedisServer
from routing.acd import AgentProfile, Offer, QueueRequest
from routing.redis_acd import RedisAcd

_TENANT = TenantId("load")
_QUEUES = 5
_BUSY_SHARE = 0.95
_SPREAD = 0.3
"""Talks are between 1 - this and 1 + this of their mean."""


@dataclass(slots=True)
class AcdFigures:
    """What came of a run."""

    calls: int = 0
    agent_waited: Durations = field(default_factory=Durations)
    """From a call's arrival at a queue with agents to its offer."""
    call_waited: Durations = field(default_factory=Durations)
    """From an agent's being ready, with calls that wait, to the offer."""
    failed: int = 0
    served: int = 0
    python_cpu_s: float = 0.0
    redis_cpu_s: float = 0.0
    round_trips: int = 0


async def acd_run(data: Path, *, agents: int, rate: float, seconds: float) -> AcdFigures:
    """Calls at `rate` a second for agents who are busy nearly all of the time.

    Raises PlatformError when Redis cannot be started.
    """
    async with AsyncExitStack() as stack:
        directory = DataDirectory.at(data)
        lock = InstanceLock(directory)
        lock.acquire()
        stack.callback(lock.release)
        server = RedisServer(directory, lock)
        stack.push_async_callback(server.stop)
        await server.start()
        redis = Redis.from_url(server.url)
        stack.push_async_callback(redis.aclose)
        centre = _Centre(redis, agents, talk_s=_BUSY_SHARE * agents / rate)
        stack.push_async_callback(centre.aclose)
        await centre.open()
        await centre.warm(rate)
        before, redis_before = time.process_time(), _cpu_s(server)
        figures = centre.figures = AcdFigures()
        await centre.call(rate, seconds)
        figures.python_cpu_s = time.process_time() - before
        figures.redis_cpu_s = _cpu_s(server) - redis_before
        return figures


def _cpu_s(server: RedisServer) -> float:
    return sum(usage_of(server.pid).cpu_s.values()) if server.pid is not None else 0.0


class _Centre:
    """A node's calls and agents, as far as the ACD knows them."""

    def __init__(self, redis: Redis, agents: int, *, talk_s: float) -> None:
        self.figures = AcdFigures()
        self._talk_s = talk_s
        self._random = random.Random(95598)  # noqa: S311 - a load, not a secret
        self._queues = [QueueId(f"queue-{number}") for number in range(_QUEUES)]
        self._line = RedisLine(redis, on_round_trip=self._count_trip)
        self._acd = RedisAcd(
            redis, self._line, node=NodeId("load-1"), tenants={_TENANT: self._queues}
        )
        self._acd.on_offer = self._offered
        self._agents: Mapping[AgentId, AgentProfile] = {
            (agent := AgentId(f"{number:04}")): AgentProfile(
                _TENANT, agent, (self._queues[number % _QUEUES],)
            )
            for number in range(agents)
        }
        self._arrived_s: dict[TicketId, float] = {}
        self._unserved = 0
        self._ready_s: dict[AgentId, float] = {}
        self._all_served = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls = 0

    async def open(self) -> None:
        """Have all agents sign in and be ready."""
        await self._acd.start()
        await asyncio.gather(*(self._come(profile) for profile in self._agents.values()))

    async def aclose(self) -> None:
        """Leave the queues."""
        for task in self._tasks:
            task.cancel()
        await self._acd.aclose()
        await self._line.aclose()

    async def warm(self, rate: float) -> None:
        """Have as many talk as will, so that what is measured is the usual state."""
        await self.call(2 * rate, _BUSY_SHARE * len(self._agents) / (2 * rate))

    async def call(self, rate: float, seconds: float) -> None:
        """Let calls arrive for so long, and wait until all that were begun are served."""
        due_s = time.monotonic()
        until_s = due_s + seconds
        while (due_s := due_s + self._random.expovariate(rate)) < until_s:
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            self._unserved += 1
            self._spawn(self._enqueue())
        if self._unserved:
            self._all_served.clear()
            await self._all_served.wait()

    async def _come(self, profile: AgentProfile) -> None:
        await self._acd.sign_in(profile)
        await self._ready(profile)

    async def _ready(self, profile: AgentProfile) -> None:
        self._ready_s[profile.agent] = time.monotonic()
        await self._acd.ready(profile)

    async def _enqueue(self) -> None:
        self._calls += 1
        self.figures.calls += 1
        ticket = TicketId(f"t{self._calls}")
        queue = self._queues[self._calls % _QUEUES]
        self._arrived_s[ticket] = time.monotonic()
        try:
            await self._acd.enqueue(QueueRequest(_TENANT, ticket, CallId(f"c{self._calls}"), queue))
        except PlatformError:
            self.figures.failed += 1
            del self._arrived_s[ticket]
            self._one_less()

    def _offered(self, offer: Offer) -> None:
        now_s = time.monotonic()
        arrived_s, ready_s = self._arrived_s.pop(offer.ticket), self._ready_s.pop(offer.agent)
        if arrived_s >= ready_s:
            self.figures.agent_waited.add(now_s - arrived_s)
        else:
            self.figures.call_waited.add(now_s - ready_s)
        self._spawn(self._talk(offer))

    async def _talk(self, offer: Offer) -> None:
        if await self._acd.confirm(offer):
            self.figures.served += 1
        else:
            self.figures.failed += 1
        self._one_less()
        await asyncio.sleep(self._talk_s * self._random.uniform(1 - _SPREAD, 1 + _SPREAD))
        await self._ready(self._agents[offer.agent])

    def _one_less(self) -> None:
        self._unserved -= 1
        if not self._unserved:
            self._all_served.set()

    def _count_trip(self) -> None:
        self.figures.round_trips += 1

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
