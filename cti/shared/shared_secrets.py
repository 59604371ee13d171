"""Secrets that all nodes on one Redis share: one signs by them, another checks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from domain.tasks import end_tasks

log = structlog.get_logger(__name__)

_S_PER_DAY = 86_400
_KEPT_S = 3 * _S_PER_DAY
_RETRY_S = 10.0
_LOOK_AGAIN_S = 3600.0
_REDIS_PATIENCE_S = 3.0
_SECRET_BYTES = 32


class SharedSecrets:
    """The secrets of yesterday, today and tomorrow; whichever node needs one first makes it.

    While Redis is away, days that are not known yet have a secret of this process alone.
    """

    def __init__(
        self, redis: Redis, *, purpose: str, unix_clock: Callable[[], float] = time.time
    ) -> None:
        self._redis = redis
        self._purpose = purpose
        self._unix_clock = unix_clock
        self._local = os.urandom(_SECRET_BYTES)
        self._known: dict[int, bytes] = {}
        self._task: asyncio.Task[None] | None = None

    def of(self, day: int) -> bytes:
        """Return the secret of a day, in days since 1970."""
        return self._known.get(day, self._local)

    async def start(self) -> None:
        """Fetch the secrets, and those of the days to come."""
        await self._try_refresh()
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def aclose(self) -> None:
        """Fetch no more."""
        if self._task is not None:
            await end_tasks([self._task])

    async def refresh(self) -> None:
        """Fetch the secrets of these days, and forget those of others."""
        today = int(self._unix_clock()) // _S_PER_DAY
        days = (today - 1, today, today + 1)
        async with asyncio.timeout(_REDIS_PATIENCE_S), self._redis.pipeline() as pipeline:
            for day in days:
                key = f"{{cti95598}}:secret:{self._purpose}:{day}"
                # A Redis that came back empty is told what is in use.
                secret = self._known.get(day) or os.urandom(_SECRET_BYTES)
                pipeline.set(key, secret, nx=True, ex=_KEPT_S)
                pipeline.get(key)
            answers = await pipeline.execute()
        self._known = dict(zip(days, answers[1::2], strict=True))

    async def _try_refresh(self) -> bool:
        try:
            await self.refresh()
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("shared secrets are not known yet", error=str(error))
            return False
        return True

    async def _keep(self) -> None:
        is_known = bool(self._known)
        while True:
            await asyncio.sleep(_LOOK_AGAIN_S if is_known else _RETRY_S)
            is_known = await self._try_refresh()
