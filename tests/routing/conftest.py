import pytest

from tests.routing.redis_process import RedisProcess


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory):
    process = RedisProcess(tmp_path_factory.mktemp("redis"))
    process.start()
    yield process
    process.kill()


@pytest.fixture
async def redis(redis_process):
    client = redis_process.client()
    await client.flushall()
    yield client
    await client.aclose()
