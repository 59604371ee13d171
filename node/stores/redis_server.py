"""The embedded Redis or Valkey: a child on a private socket, with its data on disk."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from domain.failures import Code, PlatformError
from node.data_directory import DataDirectory, InstanceLock, write_private
from node.stores.child import ChildServer, ChildSettings, wrapped

MAX_MEMORY_MB = 512
_PROGRAMS = ("redis-server", "valkey-server")


def redis_program() -> str:
    """Return the server's path: the system's, or the one beside our Python."""
    places = os.environ.get("PATH", os.defpath).split(":")
    places += ["/usr/bin", "/usr/sbin", "/usr/local/bin", str(Path(sys.executable).parent)]
    for program in _PROGRAMS:
        found = shutil.which(program, path=":".join(places))
        if found:
            return found
    raise PlatformError(
        Code.STORE_UNAVAILABLE,
        "neither redis-server nor valkey-server is installed; run make setup, or set REDIS_URL",
    )


class RedisServer:
    """Redis of one instance."""

    def __init__(self, directory: DataDirectory, lock: InstanceLock) -> None:
        directory.redis.mkdir(mode=0o700, exist_ok=True)
        self._socket = directory.socket_directory("redis") / "redis.sock"
        configuration = directory.redis / "redis.conf"
        write_private(configuration, _configuration(directory.redis, self._socket))
        self._child = ChildServer(
            ChildSettings(
                name="redis",
                command=wrapped([redis_program(), str(configuration)], parent_death=signal.SIGTERM),
                log_path=directory.log / "redis.log",
                stop_signal=signal.SIGTERM,
                inherited=(lock.handle,),
            ),
            self._is_ready,
        )

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        """The server's process id."""
        return self._child.pid

    async def start(self) -> None:
        """Start, and wait until the data is loaded."""
        await self._child.start()

    async def stop(self) -> None:
        """Write what is not on disk yet, and end."""
        await self._child.stop()

    async def _is_ready(self) -> bool:
        client = aioredis.Redis.from_url(self.url)
        try:
            return bool(await client.ping())
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()


def _configuration(directory: Path, socket: Path) -> str:
    # noeviction: queues and agents must never be dropped for want of memory; the event bus turns
    # to its spool when Redis refuses a write.
    return f"""\
port 0
unixsocket "{socket}"
unixsocketperm 700
dir "{directory}"
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory {MAX_MEMORY_MB}mb
maxmemory-policy noeviction
"""
