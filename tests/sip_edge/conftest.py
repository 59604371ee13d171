"""Two nodes on one Redis, and a phone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.routing.conftest import redis, redis_process
from tests.sip_edge.platform import Phone, PlatformNode, known_to_each_other

__all__ = ["redis", "redis_process"]


@pytest.fixture
async def main(redis: Redis) -> AsyncIterator[PlatformNode]:
    node = PlatformNode("main", redis)
    await node.start()
    yield node
    await node.aclose()


@pytest.fixture
async def standby(redis: Redis, main: PlatformNode) -> AsyncIterator[PlatformNode]:
    node = PlatformNode("standby", redis)
    await node.start()
    await known_to_each_other(main, node)
    yield node
    await node.aclose()


@pytest.fixture
async def phone() -> AsyncIterator[Phone]:
    phone = Phone()
    await phone.start()
    yield phone
    await phone.aclose()
