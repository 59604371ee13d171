"""Many workers on one machine: one process that owns the stores and looks after the others."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import structlog

from node.config import Config
from node.credentials import ensure_credentials
from node.data_directory import DataDirectory, InstanceLock, write_private
from node.heartbeat import Pulse
from node.services import Service, check_ports
from node.stores.child import ChildServer, ChildSettings, wrapped
from node.stores.embedded import start_stores
from node.workers import Worker, check_workers, dispatcher_list, worker_config

log = structlog.get_logger(__name__)

_READY_WITHIN_S = 600.0  # a first start makes all prompts
_STOP_WITHIN_S = 30.0
_LONGEST_PAUSE_S = 30.0
_READY_POLL_S = 0.05
HUNG_AFTER_S = 30
"""A healthy loop is never silent for a second; this is for a machine that has no time at all."""
_LOOKS = 10  # in that time
_RENEW_WITHIN_S = 5.0


@dataclass(slots=True)
class RunningWorker:
    """One worker, and its process."""

    worker: Worker
    config: Config
    directory: DataDirectory
    process: ChildServer = field(init=False)
    pulse: Pulse = field(default_factory=Pulse)
    environment: dict[str, str] = field(default_factory=dict)
    is_hung: bool = False
    """Whether its process is ended because it hangs."""

    @property
    def name(self) -> str:
        """Its node's name."""
        return self.config.settings.node

    @property
    def is_ready(self) -> bool:
        """Whether the process that runs now has said that it is there."""
        with suppress(OSError, ValueError):
            facts = json.loads(self.directory.instance_file.read_text(encoding="utf-8"))
            return bool(facts["pid"] == self.process.pid)
        return False


class Supervisor:
    """Starts, watches and stops the workers of one data directory."""

    def __init__(
        self,
        config: Config,
        directory: DataDirectory,
        workers: Sequence[Worker],
        *,
        services: Collection[Service],
        command: Callable[[Worker], Sequence[str]],
        hung_after_s: float = HUNG_AFTER_S,
    ) -> None:
        """`command` starts a worker; one that gives no sign for `hung_after_s` is begun again.

        Raises ConfigError where the configuration is too narrow.
        """
        check_workers(config, list(workers))
        self._config = config
        self._directory = directory
        self._services = frozenset(services)
        self._command = command
        self._hung_after_s = hung_after_s
        self._stack = AsyncExitStack()
        self._work: set[asyncio.Task[None]] = set()
        self._returning: set[str] = set()
        self._is_draining = False
        self._addresses: dict[str, str] = {}
        self.workers = [
            RunningWorker(
                worker,
                worker_config(config, worker),
                directory.of_worker(worker.name(config.settings.node)),
            )
            for worker in workers
        ]
        for one in self.workers:
            self._stack.callback(one.pulse.close)

    async def start(self) -> None:
        """Start stores and workers; raises PlatformError, and then nothing is left running."""
        for one in self.workers:
            check_ports(one.config.settings, self._services)
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        lock = InstanceLock(self._directory)
        lock.acquire()
        self._stack.callback(lock.release)
        redis_url, database_url = await start_stores(self._directory, lock, self._stack)
        # Once, and by one process: each worker would make passwords of its own.
        self._ensure_credentials(self._config)
        environment = {**os.environ, "REDIS_URL": redis_url, "DATABASE_URL": database_url}
        for one in self.workers:
            # What a killed one has left would be taken for the new one with the same number.
            one.directory.instance_file.unlink(missing_ok=True)
            one.process = self._child(one, lock, environment)
        self._stack.push_async_callback(self._stop_workers)
        first, *others = self.workers
        # The first one brings the database up to date and makes the prompts for all.
        await first.process.start()
        for one in others:
            await asyncio.to_thread(_share_prompts, first.directory, one.directory)
        await asyncio.gather(*(one.process.start() for one in others))
        self._write_files()
        looking = asyncio.create_task(self._look(), name="look at workers")
        self._stack.callback(looking.cancel)

    def _child(
        self, one: RunningWorker, lock: InstanceLock, environment: dict[str, str]
    ) -> ChildServer:
        async def is_ready() -> bool:
            return one.is_ready

        # Read again for each process, with what `_restarted` has changed.
        one.environment = {**environment, **one.pulse.environment()}
        return ChildServer(
            ChildSettings(
                name=one.name,
                kind="worker",
                command=wrapped(self._command(one.worker), parent_death=signal.SIGTERM),
                log_path=None,
                stop_signal=signal.SIGTERM,
                ready_within_s=_READY_WITHIN_S,
                stop_within_s=_STOP_WITHIN_S,
                longest_pause_s=_LONGEST_PAUSE_S,
                inherited=(lock.handle, one.pulse.writing),
                environment=one.environment,
            ),
            is_ready,
            on_restart=self._restarted,
        )

    def _restarted(self, name: str) -> None:
        one = next(each for each in self.workers if each.name == name)
        one.pulse.begin_again("hung" if one.is_hung else "died")
        one.is_hung = False
        one.environment |= one.pulse.environment()
        if name not in self._returning:
            self._returning.add(name)
            self._spawn(self._note_return(one))

    async def _look(self) -> None:
        """Begin again, for ever, whichever worker gives no sign of life."""
        every_s = self._hung_after_s / _LOOKS
        while True:
            await asyncio.sleep(every_s)
            for one in self.workers:
                one.pulse.look()
                # One that is still starting has as long as at the first start.
                patience_s = self._hung_after_s if one.pulse.has_beaten else _READY_WITHIN_S
                silent_s = one.pulse.silent_looks * every_s
                if silent_s >= patience_s and one.process.is_running and not one.is_hung:
                    one.is_hung = True
                    self._spawn(self._renew(one, silent_s))

    async def _renew(self, one: RunningWorker, silent_s: float) -> None:
        log.error(
            "worker hangs, ending it",
            worker=one.name,
            silent_s=round(silent_s, 1),
            text=f"工作进程 {one.name} 已 {silent_s:.0f} 秒没有反应,结束后重启 "
            f"{one.name} has given no sign for {silent_s:.0f} s: it is ended and begun again",
        )
        await one.process.renew(within_s=_RENEW_WITHIN_S)

    async def _note_return(self, one: RunningWorker) -> None:
        await self._ready(one)
        self._returning.discard(one.name)
        if self._is_draining:
            one.process.send_signal(signal.SIGUSR1)
        log.warning("worker is back", worker=one.name, restarts=one.process.restarts)
        self._write_files()

    async def stop(self) -> None:
        """Have no worker take new calls, then end them all, then the stores."""
        await self._stack.aclose()

    async def _stop_workers(self) -> None:
        for task in self._work:
            task.cancel()
        for one in self.workers:
            # None shall get the calls that another one, already gone, has refused.
            if one.is_ready:
                one.process.send_signal(signal.SIGUSR1)
        await asyncio.gather(*(one.process.stop() for one in self.workers))

    async def reload(self, config: Config) -> None:
        """Have all workers read the configuration again; raises PlatformError, and none does."""
        check_workers(config, [one.worker for one in self.workers])
        await asyncio.to_thread(self._ensure_credentials, config)
        self.forward(signal.SIGHUP)

    def drain(self) -> None:
        """Have no worker take new calls, nor one that comes back."""
        self._is_draining = True
        for one in self.workers:
            if one.is_ready:
                one.process.send_signal(signal.SIGUSR1)

    def forward(self, number: signal.Signals) -> None:
        """Send a signal to all workers; to one that is starting once it is there."""
        for one in self.workers:
            if one.is_ready:
                one.process.send_signal(number)
            else:
                self._spawn(self._signal_later(one, number))

    async def _signal_later(self, one: RunningWorker, number: signal.Signals) -> None:
        await self._ready(one)
        one.process.send_signal(number)

    @staticmethod
    async def _ready(one: RunningWorker) -> None:
        while True:
            if one.is_ready:
                return
            await asyncio.sleep(_READY_POLL_S)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def _ensure_credentials(self, config: Config) -> None:
        directory = self._directory
        ensure_credentials(config.settings, directory.secrets, directory.demo_credentials)

    def _write_files(self) -> None:
        """Tell operators' commands, and Kamailio, where the workers are."""
        # One that has ended in order has taken its file away; it will say the same again.
        with suppress(FileNotFoundError, ValueError):
            first = json.loads(self.workers[0].directory.instance_file.read_text(encoding="utf-8"))
            self._addresses = first["addresses"]
        self._directory.write_instance(
            {
                "node": self._config.settings.node,
                "addresses": self._addresses,
                "workers": {one.name: str(one.directory.root) for one in self.workers},
            }
        )
        configs = [one.config for one in self.workers]
        write_private(self._directory.dispatcher_list, dispatcher_list(configs))


def leftovers(directory: DataDirectory, workers: Sequence[RunningWorker]) -> list[str]:
    """Name the directories, of workers that are not started now, that hold events to be sent."""
    known = {one.directory.root for one in workers}
    return [
        str(path.parent)
        for path in sorted(directory.workers.glob("*/spool"))
        if path.parent not in known and any(path.iterdir())
    ]


def _share_prompts(source: DataDirectory, target: DataDirectory) -> None:
    """Link prompts that one worker has made: each forgets those it does not use on its own."""
    for path in source.prompts.rglob("*.wav"):
        link = target.prompts / path.relative_to(source.prompts)
        link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(OSError):  # it is there, or the other one makes it again
            link.hardlink_to(path)
