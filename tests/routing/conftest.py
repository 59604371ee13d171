from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from tests.routing.redis_process import RedisProcess


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("redis"))
    process.start()
    yield process
    process.kill()


@pytest.fixture
async def redis(redis_process: RedisProcess) -> AsyncIterator[Redis]:
    client = redis_process.client()
    await client.flushall()
    yield client
    await client.aclose()
