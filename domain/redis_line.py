"""One connection to Redis for what the parts of a node ask at every call.

What is asked during a round trip goes together in the next one. The client's pipelines take some
60 µs of the event loop each, a trip of this line about 10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hiredis import PushNotification, Reader, pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoScriptError, RedisError, ResponseError

from domain.tasks import end_tasks

Command = tuple[str | int | float | bytes, ...]

_pack: Callable[[Command], bytes] = pack_command  # type: ignore[assignment]  # it takes any tuple
_COMPANY_WITHIN_S = 0.01
_READ_BYTES = 65_536
_NOTHING_YET = object()


@dataclass(slots=True, eq=False)
class _Asked:
    commands: Sequence[Command]
    replies: asyncio.Future[list[Any]]


class RedisLine:
    """Asks in the order in which it is asked; it connects when needed, and again after failures."""

    def __init__(
        self,
        redis: Redis,
        *,
        on_round_trip: Callable[[], None] = lambda: None,
        within_s: float = 2.0,
    ) -> None:
        """A round trip that takes longer than `within_s` has failed, and the connection with it."""
        self._pool = redis.connection_pool
        self._on_round_trip = on_round_trip
        self._within_s = within_s
        self._waiting: list[_Asked] = []
        self._worker: asyncio.Task[None] | None = None
        self._link: _Link | None = None

    async def ask(self, *commands: Command, at_once: bool = True) -> list[Any]:
        """Return the replies; refusals of single commands (`ResponseError`) are among them.

        Raises RedisError when it is not known what became of them, in twice `within_s` at most.
        What is given up before it was sent is not sent. What need not be done at once waits 10 ms
        for others, to share their round trip.
        """
        loop = asyncio.get_running_loop()
        asked = _Asked(commands, loop.create_future())
        self._waiting.append(asked)
        if at_once:
            self._begin()
        elif len(self._waiting) == 1:
            loop.call_later(_COMPANY_WITHIN_S, self._begin)
        return await asked.replies

    def _begin(self) -> None:
        if self._worker is None and self._waiting:
            self._worker = asyncio.create_task(self._work(), name="redis line")

    async def run(self, script: str, sha1: str, keys: Sequence[str], arguments: Command) -> Any:  # noqa: ANN401 - Redis answers anything
        """Run a Lua script, by its text where Redis does not know it. Raises RedisError."""
        rest: Command = (len(keys), *keys, *arguments)
        [reply] = await self.ask(("EVALSHA", sha1, *rest))
        if isinstance(reply, NoScriptError):
            [reply] = await self.ask(("EVAL", script, *rest))
        return accepted([reply])[0]

    async def aclose(self) -> None:
        """Give up what waits, and the connection."""
        if self._worker is not None:
            await end_tasks([self._worker])
        given_up, self._waiting = self._waiting, []
        for each in given_up:
            each.replies.cancel()
        await self._hang_up()

    async def _work(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                if asked := [each for each in waiting if not each.replies.done()]:
                    await self._serve(asked)
        finally:
            self._worker = None

    async def _serve(self, asked: Sequence[_Asked]) -> None:
        try:
            async with asyncio.timeout(self._within_s):
                link = await self._connected()
                self._on_round_trip()
                replies = await link.exchange([one for each in asked for one in each.commands])
        except (RedisError, OSError, TimeoutError) as error:
            await self._hang_up()
            for each in asked:
                if not each.replies.done():
                    each.replies.set_exception(RedisConnectionError(str(error) or "no reply"))
            return
        except BaseException:
            for each in asked:
                each.replies.cancel()
            await self._hang_up()
            raise
        first = 0
        for each in asked:
            after = first + len(each.commands)
            if not each.replies.done():
                each.replies.set_result(replies[first:after])
            first = after

    async def _connected(self) -> _Link:
        if self._link is not None and self._link.is_gone:
            await self._hang_up()
        if self._link is None:
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            self._link = _Link(connection)
        return self._link

    async def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.connection.disconnect(nowait=True)
            await self._pool.release(link.connection)


class _Link:
    """The streams of a connection that the client has made: it knows addresses, names and keys."""

    def __init__(self, connection: AbstractConnection) -> None:
        self.connection = connection
        reader, writer = connection._reader, connection._writer  # noqa: SLF001 - no other way
        if reader is None or writer is None:
            raise RedisConnectionError("not connected")
        self._reader = reader
        self._writer = writer
        self._parser = Reader(
            protocolError=InvalidResponse, replyError=_refusal, notEnoughData=_NOTHING_YET
        )

    @property
    def is_gone(self) -> bool:
        """Whether Redis has closed the connection."""
        return self._reader.at_eof() or self._reader.exception() is not None

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send all, and return a reply for each."""
        self._writer.write(b"".join(map(_pack, commands)))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._parser.gets()
            if reply is _NOTHING_YET:
                data = await self._reader.read(_READ_BYTES)
                if not data:
                    raise RedisConnectionError("connection closed by Redis")
                self._parser.feed(data)
            elif type(reply) is not PushNotification:
                replies.append(reply)
        return replies


def accepted(replies: list[Any]) -> list[Any]:
    """Return the replies of `RedisLine.ask`; raises the first refusal among them."""
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise reply
    return replies


def _refusal(text: str) -> ResponseError:
    return (NoScriptError if text.startswith("NOSCRIPT") else ResponseError)(text)
