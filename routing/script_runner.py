"""Runs Lua scripts in the order in which they were asked for, many in one round trip.

A script asked for is run even when whoever asked has been cancelled meanwhile: its effect and its
reply are the node's, not the task's. Without that a caller who hangs up while being enqueued would
leave a ticket that nobody owns.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from prometheus_client import Counter
from redis.exceptions import NoScriptError, RedisError, ResponseError

from domain.failures import Code, PlatformError
from domain.redis_line import Command, RedisLine, accepted

log = structlog.get_logger(__name__)

STORE_FAILURES = Counter("acd_store_failures_total", "Round trips of the ACD to Redis that failed")
SCRIPT_ERRORS = Counter("acd_script_errors_total", "Errors that ACD scripts ended with", ["script"])

MAX_BATCH = 64
_COMPANY_WITHIN_S = 0.01

Reply = list[Any]
T = TypeVar("T")


@dataclass(slots=True)
class _Asked:
    script: str
    keys: Sequence[str]
    args: Sequence[str]
    handle: Callable[[Reply], Any]
    future: asyncio.Future[Any]


class ScriptRunner:
    """One ordered line of scripts to Redis."""

    def __init__(
        self,
        line: RedisLine,
        scripts: Mapping[str, str],
        *,
        on_failure: Callable[[], None],
    ) -> None:
        self._line = line
        self._texts = list(scripts.values())
        self._shas = {
            name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            for name, text in scripts.items()
        }
        self._on_failure = on_failure
        self._waiting: list[_Asked] = []
        self._pump: asyncio.Task[None] | None = None

    def run(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[str],
        handle: Callable[[Reply], T],
        *,
        at_once: bool = True,
    ) -> asyncio.Future[T]:
        """Queue a script now. `handle` sees its reply in any case, the future gets the result.

        What need not be done at once waits a little for others, to share their round trip.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Asked(script, keys, args, handle, future))
        if at_once:
            self._begin()
        elif len(self._waiting) == 1:
            loop.call_later(_COMPANY_WITHIN_S, self._begin)
        return future

    def _begin(self) -> None:
        if self._pump is None and self._waiting:
            self._pump = asyncio.create_task(self._drain(), name="acd-scripts")

    async def aclose(self) -> None:
        """Run what was asked for, then stop."""
        self._begin()
        while self._pump is not None:
            await self._pump

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self._run_batch(batch)
        finally:
            self._pump = None

    async def _run_batch(self, batch: list[_Asked]) -> None:
        try:
            replies = await self._send(batch)
        except RedisError as error:
            STORE_FAILURES.inc()
            log.debug("acd store unreachable", error=str(error))
            self._on_failure()
            for asked in batch:
                _fail(asked.future, Code.QUEUE_UNAVAILABLE, "the queues' store cannot be reached")
            return
        for asked, reply in zip(batch, replies, strict=True):
            self._settle(asked, reply)

    async def _send(self, batch: list[_Asked]) -> list[Any]:
        commands: list[Command] = [
            ("EVALSHA", self._shas[asked.script], len(asked.keys), *asked.keys, *asked.args)
            for asked in batch
        ]
        replies = await self._line.ask(*commands)
        if all(isinstance(reply, NoScriptError) for reply in replies):  # a fresh Redis
            accepted(await self._line.ask(*(("SCRIPT", "LOAD", text) for text in self._texts)))
            replies = await self._line.ask(*commands)
        return replies

    def _settle(self, asked: _Asked, reply: Any) -> None:  # noqa: ANN401 - Redis answers anything
        if isinstance(reply, ResponseError):
            SCRIPT_ERRORS.labels(asked.script).inc()
            log.error("acd script failed", script=asked.script, error=str(reply))
            self._on_failure()
            _fail(asked.future, Code.QUEUE_UNAVAILABLE, f"script {asked.script} failed")
            return
        try:
            result = asked.handle(reply)
        except PlatformError as error:
            if not asked.future.done():
                asked.future.set_exception(error)
        else:
            if not asked.future.done():
                asked.future.set_result(result)


def _fail(future: asyncio.Future[Any], code: Code, detail: str) -> None:
    if not future.done():
        future.set_exception(PlatformError(code, detail))
