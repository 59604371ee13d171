"""A server as our child: started, watched, restarted when it dies, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import Counter

from domain.failures import Code, PlatformError

log = structlog.get_logger(__name__)

STORE_RESTARTS = Counter("store_restarts_total", "Restarts of a store that died", ["store"])

_READY_POLL_S = 0.02
_FIRST_PAUSE_S = 0.1
_SETTLED_AFTER_S = 30.0
_UNPRIVILEGED_USERS = ("cti95598", "nobody")


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """How to run a server."""

    name: str
    command: Sequence[str]
    """As `wrapped` returns it."""
    log_path: Path | None
    """Where its output goes; None: where ours goes."""
    stop_signal: signal.Signals
    """Ends the server in order."""
    stop_within_s: float = 15.0
    inherited: tuple[int, ...] = ()
    """Descriptors the server keeps open: the instance's lock."""
    kind: str = "store"
    """What the log calls it."""
    ready_within_s: float = 60.0
    longest_pause_s: float = 5.0
    """Between two restarts of a server that keeps dying."""
    environment: Mapping[str, str] | None = None
    """None: ours."""


def unprivileged_user() -> pwd.struct_passwd | None:
    """Return the user for servers that refuse to run as root, None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED_USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PlatformError(Code.CONFIG_INVALID, "there is no user cti95598; run make setup as root")


def wrapped(
    command: Sequence[str],
    *,
    parent_death: signal.Signals,
    user: pwd.struct_passwd | None = None,
    needs: Sequence[Path] = (),
) -> list[str]:
    """Prefix a command so that it dies with us and, as root, runs as `user`.

    Where that user cannot reach the paths of `needs` (a checkout below /root), the process keeps
    the one capability that opens them, rather than our opening root's directories to everybody.
    """
    setpriv = shutil.which("setpriv", path=os.defpath + ":/usr/sbin:/sbin")
    if setpriv is None:
        raise PlatformError(Code.CONFIG_INVALID, "setpriv is missing; install util-linux")
    # The kernel sends the signal when the thread that started the server ends.
    prefix = [setpriv, "--pdeathsig", parent_death.name.removeprefix("SIG")]
    if user is not None:
        prefix += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        if not all(_open_to_others(path) for path in needs):
            # access(2) asks for the real user's rights, and heeds the capability only so.
            prefix += ["--securebits=+no_setuid_fixup"]
            prefix += ["--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override"]
    return [*prefix, "--", *command]


def _open_to_others(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def _count_restart(name: str) -> None:
    STORE_RESTARTS.labels(name).inc()


class ChildServer:
    """Keeps one server running until `stop`."""

    def __init__(
        self,
        settings: ChildSettings,
        is_ready: Callable[[], Awaitable[bool]],
        *,
        on_restart: Callable[[str], None] = _count_restart,
    ) -> None:
        """`on_restart` hears the server's name each time before it is begun again."""
        self.restarts = 0
        self._on_restart = on_restart
        self._settings = settings
        self._is_ready = is_ready
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The server's process id, None while there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the server and wait until it answers; raises PlatformError STORE_UNAVAILABLE."""
        process = self._spawn()
        exited = asyncio.ensure_future(_exit_of(process))
        try:
            async with asyncio.timeout(self._settings.ready_within_s):
                while not await self._is_ready():
                    if exited.done():
                        raise self._failure("it ended at once")
                    await asyncio.sleep(_READY_POLL_S)
        except TimeoutError:
            raise self._failure("it does not answer") from None
        finally:
            if not exited.done():
                exited.cancel()
        if self._stopping:
            return
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {self._settings.name}")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is a process to take it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    @property
    def is_running(self) -> bool:
        """Whether there is a process, whatever it does."""
        return self._process is not None and self._process.poll() is None

    async def renew(self, *, within_s: float) -> None:
        """End the process, by force when it takes longer, so that another one is begun."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(self._settings.stop_signal)
        try:
            async with asyncio.timeout(within_s):
                await _exit_of(process)
        except TimeoutError:
            process.kill()
            await _exit_of(process)

    async def stop(self) -> None:
        """End the server in order, by force when it does not end."""
        self._stopping = True
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(self._settings.stop_signal)
        try:
            async with asyncio.timeout(self._settings.stop_within_s):
                await _exit_of(process)
        except TimeoutError:
            self._log(logging.WARNING, "does not stop, killing it")
            process.kill()
            await _exit_of(process)

    def _spawn(self) -> subprocess.Popen[bytes]:
        path = self._settings.log_path
        with contextlib.nullcontext() if path is None else path.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the command is our own
                self._settings.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C at the terminal is for us; the stores end after the last event is in.
                start_new_session=True,
                pass_fds=self._settings.inherited,
                env=self._settings.environment,
            )
        return self._process

    async def _watch(self) -> None:
        pause_s = _FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        while True:
            if self._process is not None:
                status = await _exit_of(self._process)
                self._log(logging.ERROR, "died, restarting it", status=status)
            if loop.time() - started_at > _SETTLED_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._settings.longest_pause_s)
            started_at = loop.time()
            self.restarts += 1
            self._on_restart(self._settings.name)
            try:
                self._spawn()
            except OSError as error:
                self._log(logging.WARNING, "cannot be started", error=str(error))
                self._process = None

    def _log(self, level: int, what: str, **more: object) -> None:
        kind = self._settings.kind
        event = f"{kind} {what}"
        log.log(level, event, **{kind: self._settings.name}, **more)

    def _failure(self, why: str) -> PlatformError:
        path = self._settings.log_path
        seen = "see above" if path is None else f"{_last_line(path)}; see {path}"
        return PlatformError(
            Code.STORE_UNAVAILABLE, f"{self._settings.name} could not be started: {why}: {seen}"
        )


async def _exit_of(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process to end, by its descriptor (pidfd_open(2))."""
    status = process.poll()
    if status is not None:
        return status
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    handle = os.pidfd_open(process.pid)

    def note_end() -> None:
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(handle, note_end)
    try:
        await ended
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return process.wait()


def _last_line(path: Path) -> str:
    with contextlib.suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "no output"
    return "no output"
