"""A real Redis of the test's own, which can be killed and started again, empty."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry as BlockingRetry

from node.stores.redis_server import redis_program

_START_WITHIN_S = 10.0


class RedisProcess:
    """A redis-server on a private socket, nothing kept on disk."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                redis_program(), "--port", "0", "--unixsocket", str(self.socket),
                "--save", "", "--appendonly", "no", "--loglevel", "warning",
            ],
            stdout=subprocess.DEVNULL,
            cwd=self.socket.parent,
        )  # fmt: skip
        self._wait_until_up()

    def _wait_until_up(self) -> None:
        assert self._process is not None
        deadline_s = time.monotonic() + _START_WITHIN_S
        # By default the client waits for seconds between tries of its own.
        once = BlockingRetry(NoBackoff(), 0)
        with BlockingRedis(unix_socket_path=str(self.socket), retry=once) as client:
            while self._process.poll() is None and time.monotonic() < deadline_s:
                try:
                    client.ping()
                except (RedisError, OSError):
                    continue
                return
        raise RuntimeError(f"redis-server did not start: {self._process.poll()}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.socket.unlink(missing_ok=True)

    def hang(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0))


async def until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Let the loop turn until the condition holds."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        while not condition():
            turn = loop.create_future()
            loop.call_later(0.002, turn.set_result, None)
            await turn


async def subscribed(client: Redis, node: str) -> None:
    """Wait until the node hears offers that others make."""
    async with asyncio.timeout(5):
        while (await client.pubsub_numsub(f"cti95598:acd:{node}"))[0][1] == 0:
            await client.ping()


async def keys_of(client: Redis) -> set[str]:
    """All keys there are."""
    return {key.decode() if isinstance(key, bytes) else key for key in await client.keys("*")}
