"""The supervisor of many workers, with small programs in the place of workers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from node.commands.running import Signals
from node.config import DEMO_CONFIG, load_config
from node.data_directory import DataDirectory
from node.stores.child import ChildServer, ChildSettings, wrapped
from node.supervisor import Supervisor
from node.workers import Worker, workers_of
from tests.node.running import until

PROGRAM = """
import json, os, pathlib, signal, sys

folder = pathlib.Path(sys.argv[1])
instance, said = folder / "instance.json", folder / "said"

def say(what):
    with said.open("a") as file:
        file.write(f"{os.getpid()} {what}\\n")

say("stale" if instance.exists() else "begins")
if (folder / "broken").exists():
    sys.exit(1)
signal.signal(signal.SIGUSR1, lambda *_: say("drains"))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
instance.write_text(json.dumps({"pid": os.getpid(), "addresses": {}}))
while True:
    signal.pause()
"""


@asynccontextmanager
async def supervised(root: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Supervisor]:
    for store in ("REDIS_URL", "DATABASE_URL"):
        monkeypatch.setenv(store, "unix:///nowhere")
    directory = DataDirectory.at(root)

    def command(worker: Worker) -> list[str]:
        folder = directory.of_worker(worker.name("node1")).root
        return [sys.executable, "-S", "-E", "-c", PROGRAM, str(folder)]

    supervisor = Supervisor(
        load_config(DEMO_CONFIG), directory, workers_of(2), services=(), command=command
    )
    for one in supervisor.workers:
        one.directory.instance_file.write_text("{}")  # the last one was killed
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.stop()


def said(supervisor: Supervisor, at: int) -> list[tuple[int, str]]:
    """What a worker's processes have said, with their numbers."""
    text = (supervisor.workers[at].directory.root / "said").read_text()
    return [(int(line.split()[0]), line.split()[1]) for line in text.splitlines()]


async def test_what_a_killed_worker_left_is_not_taken_for_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with supervised(tmp_path, monkeypatch) as supervisor:
        # Numbers of processes come again, most of all in a container.
        assert [said(supervisor, at)[0][1] for at in (0, 1)] == ["begins", "begins"]


async def test_a_worker_that_comes_back_while_all_drain_drains_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with supervised(tmp_path, monkeypatch) as supervisor:
        first = supervisor.workers[0].process
        assert first.pid is not None
        supervisor.drain()
        await until(lambda: (first.pid, "drains") in said(supervisor, 0))
        dead = first.pid
        os.kill(dead, signal.SIGKILL)
        await until(lambda: first.pid != dead and (first.pid, "drains") in said(supervisor, 0))


async def test_a_worker_that_cannot_begin_leaves_no_work_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with supervised(tmp_path, monkeypatch) as supervisor:
        one = supervisor.workers[0]
        assert one.process.pid is not None
        (one.directory.root / "broken").touch()
        os.kill(one.process.pid, signal.SIGKILL)
        await until(lambda: one.process.restarts >= 3)
        assert len(supervisor._work) == 1
        (one.directory.root / "broken").unlink()
        await until(lambda: not supervisor._work)
        assert one.is_ready


async def test_a_child_that_is_stopped_while_it_starts_is_not_begun_again(tmp_path: Path) -> None:
    async def is_ready() -> bool:
        await child.stop()
        return True

    child = ChildServer(
        ChildSettings(
            name="late",
            command=wrapped(["/bin/sleep", "60"], parent_death=signal.SIGKILL),
            log_path=tmp_path / "log",
            stop_signal=signal.SIGTERM,
        ),
        is_ready,
    )
    await child.start()
    assert "watch late" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_a_signal_to_drain_counts_from_the_very_beginning() -> None:
    signals = Signals()
    heard: list[str] = []
    os.kill(os.getpid(), signal.SIGUSR1)
    await until(lambda: signals.drains)
    signals.drain_by(lambda: heard.append("at once"))
    assert heard == ["at once"]
    os.kill(os.getpid(), signal.SIGUSR1)
    await until(lambda: len(heard) == 2)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        loop.remove_signal_handler(number)
