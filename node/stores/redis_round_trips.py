"""Counts what a node asks of Redis, since each time it asks it waits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import Counter
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

_ROUND_TRIPS = Counter("redis_round_trips", "Commands sent to Redis; those of one pipeline are one")

if TYPE_CHECKING:
    _Base = AbstractConnection
else:
    _Base = object


def count_round_trip() -> None:
    """Count one of those that do not go through a client."""
    _ROUND_TRIPS.inc()


class _Counted(_Base):
    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        _ROUND_TRIPS.inc()
        await super().send_packed_command(command, check_health)


def count_round_trips(client: Redis) -> None:
    """Count what this client sends from now on; called before it is used."""
    pool = client.connection_pool
    kind = pool.connection_class
    pool.connection_class = type(f"Counted{kind.__name__}", (_Counted, kind), {})
