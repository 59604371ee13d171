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
from structlog.testing import capture_logs

from node.commands.running import Signals
from node.config import DEMO_CONFIG, load_config
from node.data_directory import DataDirectory
from node.stores.child import ChildServer, ChildSettings, wrapped
from node.supervisor import Supervisor
from node.workers import Worker, workers_of
from tests.node.running import until

PROGRAM = """
import json, os, pathlib, signal, sys

beats = int(os.environ["CTI95598_HEARTBEAT_FD"])
signal.signal(signal.SIGALRM, lambda *_: os.write(beats, b"."))
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)

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
async def supervised(
    root: Path, monkeypatch: pytest.MonkeyPatch, *, hung_after_s: float = 30
) -> AsyncIterator[Supervisor]:
    for store in ("REDIS_URL", "DATABASE_URL"):
        monkeypatch.setenv(store, "unix:///nowhere")
    directory = DataDirectory.at(root)

    def command(worker: Worker) -> list[str]:
        folder = directory.of_worker(worker.name("node1")).root
        return [sys.executable, "-S", "-E", "-c", PROGRAM, str(folder)]

    supervisor = Supervisor(
        load_config(DEMO_CONFIG),
        directory,
        workers_of(2),
        services=(),
        command=command,
        hung_after_s=hung_after_s,
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


def process_folder(pid: int) -> Path:
    return Path(f"/proc/{pid}")


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


async def test_a_worker_comes_back_while_the_first_one_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with supervised(tmp_path, monkeypatch) as supervisor:
        first, second = supervisor.workers
        directory = DataDirectory.at(tmp_path)
        announced, dispatchers = directory.instance_file, directory.dispatcher_list
        (first.directory.root / "broken").touch()
        os.kill(first.process.pid or 0, signal.SIGKILL)
        await until(lambda: first.process.restarts >= 1)
        first.directory.instance_file.unlink()  # as one that ends in order does
        before = (announced.read_text(), dispatchers.read_text())
        for path in (announced, dispatchers):
            path.unlink()
        os.kill(second.process.pid or 0, signal.SIGKILL)
        await until(lambda: announced.exists() and dispatchers.exists())
        assert (announced.read_text(), dispatchers.read_text()) == before


async def test_a_worker_that_hangs_is_ended_and_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.supervisor._RENEW_WITHIN_S", 0.2)
    async with supervised(tmp_path, monkeypatch, hung_after_s=1.0) as supervisor:
        one = supervisor.workers[0]
        hung = one.process.pid
        assert hung is not None
        await until(lambda: one.pulse.has_beaten)
        with capture_logs() as logs:
            os.kill(hung, signal.SIGSTOP)  # it cannot even take a SIGTERM
            await until(lambda: one.process.pid != hung and one.is_ready and one.pulse.has_beaten)
        assert not process_folder(hung).exists()
        # Where the machine has no time for anybody, it may happen again.
        assert one.pulse.restarts["hung"] >= 1
        told = next(each for each in logs if each["event"] == "worker hangs, ending it")
        assert told["worker"] == "node1-1"
        assert "没有反应" in told["text"]
        assert "no sign" in told["text"]
        environment = (process_folder(one.process.pid or 0) / "environ").read_text()
        assert "CTI95598_WORKER_RESTARTS=hung=" in environment


async def test_a_worker_that_hangs_in_its_start_has_the_time_of_a_first_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with supervised(tmp_path, monkeypatch, hung_after_s=1.0) as supervisor:
        one = supervisor.workers[0]
        os.kill(one.process.pid or 0, signal.SIGSTOP)
        one.pulse.begin_again("died")  # whatever it had written before
        await until(lambda: one.pulse.silent_looks > 20)
        assert not one.is_hung
        os.kill(one.process.pid or 0, signal.SIGCONT)
        await until(lambda: one.pulse.has_beaten)


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
