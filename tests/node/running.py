"""Real stores for a test, on private sockets below its own directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from node.data_directory import DataDirectory, InstanceLock
from node.stores.postgres_server import PostgresServer
from node.stores.redis_server import RedisServer


@dataclass
class RunningStores:
    directory: DataDirectory
    redis_server: RedisServer
    postgres_server: PostgresServer
    redis: Redis
    pool: asyncpg.Pool


@asynccontextmanager
async def running_redis(path: Path) -> AsyncIterator[tuple[DataDirectory, RedisServer, Redis]]:
    directory = DataDirectory.at(path)
    lock = InstanceLock(directory)
    lock.acquire()
    server = RedisServer(directory, lock)
    async with AsyncExitStack() as stack:
        stack.callback(lock.release)
        stack.push_async_callback(server.stop)
        await server.start()
        client = Redis.from_url(server.url, retry=Retry(NoBackoff(), 0))
        stack.push_async_callback(client.aclose)
        yield directory, server, client


@asynccontextmanager
async def running_stores(path: Path) -> AsyncIterator[RunningStores]:
    directory = DataDirectory.at(path)
    lock = InstanceLock(directory)
    lock.acquire()
    redis_server = RedisServer(directory, lock)
    postgres_server = PostgresServer(directory, lock)
    async with AsyncExitStack() as stack:
        stack.callback(lock.release)
        stack.push_async_callback(redis_server.stop)
        stack.push_async_callback(postgres_server.stop)
        await asyncio.gather(redis_server.start(), postgres_server.start())
        redis = Redis.from_url(redis_server.url, retry=Retry(NoBackoff(), 0))
        stack.push_async_callback(redis.aclose)
        pool = await asyncpg.create_pool(postgres_server.url, min_size=0, max_size=3)
        stack.push_async_callback(pool.close)
        yield RunningStores(directory, redis_server, postgres_server, redis, pool)


async def until(condition: Callable[[], Awaitable[bool] | bool], *, within_s: float = 20.0) -> None:
    """Ask until the condition holds: other processes tell nobody when they are done."""
    turn = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(within_s):
        while True:
            answer = condition()
            if answer if isinstance(answer, bool) else await answer:
                return
            turn.clear()
            loop.call_later(0.02, turn.set)
            await turn.wait()
