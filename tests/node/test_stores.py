"""The embedded stores for real: started, killed, restarted, ended, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from domain.failures import PlatformError
from node.data_directory import DataDirectory, InstanceLock, socket_directory
from node.stores.child import ChildServer, ChildSettings, wrapped
from reports.database import DATABASE_ERRORS
from tests.node.running import running_redis, running_stores, until

pytestmark = pytest.mark.stores

_HOLDER = """
import asyncio, sys
from pathlib import Path
from reports.database import DATABASE_ERRORS
from tests.node.running import running_stores

async def main():
    async with running_stores(Path(sys.argv[1])) as stores:
        print("PIDS", stores.redis_server.pid, stores.postgres_server.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_killed_stores_come_back_with_their_data(tmp_path: Path) -> None:
    async with running_stores(tmp_path) as stores:
        await stores.redis.set("kept", "yes")
        await stores.pool.execute("CREATE TABLE kept (n int)")
        for server in (stores.redis_server, stores.postgres_server):
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)

        async def both_answer() -> bool:
            try:
                kept = await stores.redis.get("kept")
                count = await stores.pool.fetchval("SELECT count(*) FROM kept")
            except (RedisError, *DATABASE_ERRORS):
                return False
            return bool(kept == b"yes" and count == 0)

        await until(both_answer)


async def test_stores_end_in_order_and_start_again(tmp_path: Path) -> None:
    async with running_stores(tmp_path) as stores:
        pids = (stores.redis_server.pid, stores.postgres_server.pid)
        await stores.redis.set("kept", "yes")
        await stores.pool.execute("CREATE TABLE kept (n int)")
    assert not any(is_alive(pid) for pid in pids if pid)
    async with running_stores(tmp_path) as stores:
        assert await stores.redis.get("kept") == b"yes"
        assert await stores.pool.fetchval("SELECT count(*) FROM kept") == 0


async def test_nothing_is_left_of_a_killed_parent(tmp_path: Path) -> None:
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HOLDER, str(tmp_path), stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        async with asyncio.timeout(30):
            while not (line := await holder.stdout.readline()).startswith(b"PIDS"):
                assert line, "the holder ended"
        pids = [int(pid) for pid in line.split()[1:]]
        assert all(is_alive(pid) for pid in pids)
    finally:
        holder.kill()
        await holder.wait()
    # A new instance waits for the old one's servers by the lock they hold.
    async with running_stores(tmp_path) as stores:
        assert not any(is_alive(pid) for pid in pids)
        assert await stores.redis.ping()


async def test_a_second_instance_runs_beside_the_first(tmp_path: Path) -> None:
    async with (
        running_redis(tmp_path / "one") as (_, _, one),
        running_redis(tmp_path / "two") as (_, _, two),
    ):
        await one.set("whose", "one")
        assert await two.get("whose") is None


async def test_one_data_directory_has_one_instance(tmp_path: Path) -> None:
    async with running_redis(tmp_path) as (directory, _, _):
        with pytest.raises(PlatformError, match=f"process {os.getpid()}"):
            InstanceLock(directory).acquire()


async def test_sockets_of_a_long_path_lie_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    async with running_stores(deep) as stores:
        assert await stores.redis.ping()
        assert await stores.pool.fetchval("SELECT 1") == 1


def test_somebody_elses_socket_directory_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(PlatformError, match="another user"):
        socket_directory(link)


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", "echo disk full >&2; exit 3"]

    async def never() -> bool:
        return False

    child = ChildServer(
        ChildSettings(
            name="broken",
            command=wrapped(command, parent_death=signal.SIGTERM),
            log_path=tmp_path / "log",
            stop_signal=signal.SIGTERM,
        ),
        never,
    )
    with pytest.raises(PlatformError, match=r"broken could not be started.*disk full"):
        await child.start()
    await child.stop()


def test_the_data_directory_is_private(tmp_path: Path) -> None:
    directory = DataDirectory.at(tmp_path / "data")
    assert directory.root.stat().st_mode & 0o066 == 0
    assert directory.recordings.stat().st_mode & 0o077 == 0
