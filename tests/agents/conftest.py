"""A desk, a queue and an ACD on a real Redis, with fake calls on top."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from agents.desk import AgentDesk
from agents.directory import Directory
from agents.distribution import QueueDistribution
from agents.live_agent import LiveAgent
from agents.passwords import PasswordCheck
from agents.settings import AgentSettings
from cti.call import Call
from cti95598.events.v1.events_pb2 import Event
from domain.events import EventStamp
from domain.failures import Code, PlatformError
from domain.ids import AgentId, NodeId, TenantId
from domain.redis_line import RedisLine
from ivr.queueing import QueueCall, QueueResult
from routing.redis_acd import RedisAcd
from routing.settings import QueueSettings
from tests.fakes.call import FakeCall, FakePhone
from tests.routing import conftest as stores

TENANT = TenantId("demo")

redis_process, redis = stores.redis_process, stores.redis  # fixtures


class Events(list[Event]):
    """An event sink that answers questions."""

    def publish(self, event: Event) -> None:
        self.append(event)

    def told(self, call_id: str = "") -> list[str | None]:
        """Names of the bodies, for one call or all."""
        return [event.WhichOneof("body") for event in self if call_id in ("", event.call_id)]

    def last(self, body: str) -> Any:
        return next(
            getattr(event, body) for event in reversed(self) if event.WhichOneof("body") == body
        )

    def all(self, body: str) -> list[Any]:
        return [getattr(event, body) for event in self if event.WhichOneof("body") == body]


class Centre:
    """One node's queues and agents; phones 1001, 1002 … belong to agents of the same number."""

    def __init__(
        self,
        redis: Redis,
        *,
        node: str = "node-1",
        queue: dict[str, Any] | None = None,
        agents: list[AgentSettings] | None = None,
        grace_s: float = 30.0,
    ) -> None:
        self.events = Events()
        queue = {"id": "billing", "after_call_work_s": 60} | (queue or {})
        agents = agents or [
            AgentSettings(id=f"{n}", name=f"agent {n}", phone=f"{n}", queues=("billing",))
            for n in (1001, 1002)
        ]
        self.directory = Directory({TENANT: agents}, {TENANT: [QueueSettings(**queue)]})
        self.acd = RedisAcd(
            redis,
            RedisLine(redis),
            node=NodeId(node),
            tenants=self.directory.queue_ids(),
            sweep_interval_s=0.05,
        )
        self.loop = asyncio.get_running_loop()
        self.stamp = EventStamp(NodeId(node), self.events)
        self.unregistered: set[str] = set()
        self.desk = AgentDesk(
            acd=self.acd,
            directory=self.directory,
            events=self.stamp,
            passwords=PasswordCheck(lambda _t, _a, word: word == "right", self.loop.time),
            phone_registered=self._registered,
            grace_s=grace_s,
        )
        self.acd.on_taken_over = self.desk.taken_over
        self.queue = QueueDistribution(
            acd=self.acd, desk=self.desk, directory=self.directory, events=self.stamp
        )
        self.phones = {agent.phone: FakePhone(manual=True) for agent in agents}
        self.calls: list[asyncio.Task[None]] = []
        self.results: list[QueueResult] = []

    async def _registered(self, tenant: TenantId, phone: str) -> bool:
        return phone not in self.unregistered

    async def sign_in(self, number: str, *, ready: bool = True) -> LiveAgent:
        live = await self.desk.sign_in(TENANT, AgentId(number), "right")
        if ready:
            await self.desk.ready(live)
        return live

    def caller(self, **asked: Any) -> FakeCall:
        """A call that enters the queue at once; its results collect in `results`."""
        call = FakeCall(phones=self.phones)
        usual: dict[str, Any] = {
            "queue": "billing",
            "priority": 100,
            "skills": (),
            "max_wait_ms": 60_000,
            "music": (),
            "release_key": "",
        }
        request = QueueCall(**(usual | asked))

        async def handler(call: Call) -> None:
            await call.answer()
            self.results.append(await self.queue.serve(call, request))

        self.calls.append(asyncio.create_task(call.run(handler)))
        return call

    async def finish(self) -> None:
        """Wait until all handlers have returned."""
        async with asyncio.timeout(5):
            await asyncio.gather(*self.calls)

    async def aclose(self) -> None:
        for task in self.calls:
            task.cancel()
        await asyncio.gather(*self.calls, return_exceptions=True)
        await self.desk.aclose()
        await self.acd.aclose()


@pytest.fixture
async def centre(redis: Redis) -> AsyncIterator[Centre]:
    centre = Centre(redis)
    await centre.acd.start()
    yield centre
    await centre.aclose()


def refusal(code: Code) -> pytest.RaisesExc[PlatformError]:
    """Expect a PlatformError of this code."""
    return pytest.raises(PlatformError, match=f"^{code}:")
