"""The stores of one instance: embedded ones where the environment names no others."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack

from node.data_directory import DataDirectory, InstanceLock
from node.stores.postgres_server import PostgresServer
from node.stores.redis_server import RedisServer


async def start_stores(
    directory: DataDirectory, lock: InstanceLock, stack: AsyncExitStack
) -> tuple[str, str]:
    """Start what is missing, to be ended by the stack; return the URLs of Redis and PostgreSQL.

    The lock has to be held. Raises PlatformError.
    """
    redis_url = os.environ.get("REDIS_URL")
    database_url = os.environ.get("DATABASE_URL", "")
    starting = []
    if not redis_url:
        redis_server = RedisServer(directory, lock)
        redis_url = redis_server.url
        stack.push_async_callback(redis_server.stop)
        starting.append(redis_server.start())
    if not database_url:
        postgres_server = PostgresServer(directory, lock)
        database_url = postgres_server.url
        stack.push_async_callback(postgres_server.stop)
        starting.append(postgres_server.start())
    results = await asyncio.gather(*starting, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return redis_url, database_url
