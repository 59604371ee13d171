"""The data directory of one instance: its layout, its lock, and where its sockets fit."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from domain.failures import Code, PlatformError

# sockaddr_un.sun_path holds 108 bytes with its final zero (unix(7)); PostgreSQL's socket has the
# longest name of ours.
_LONGEST_SOCKET_NAME = ".s.PGSQL.5432"
_MAX_SOCKET_PATH_BYTES = 107
_LOCK_WAIT_S = 10.0
_LOCK_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """Where an instance keeps what it owns; nothing outside of `root` but long socket paths."""

    root: Path
    shared: Path | None = None
    """Of a worker: the directory of the instance, for what all workers have in common."""

    @classmethod
    def at(cls, path: Path) -> DataDirectory:
        """Open a data directory, and make it and its parts if they are missing."""
        return cls._made(cls(path.expanduser().resolve()))

    @staticmethod
    def _made(directory: DataDirectory) -> DataDirectory:
        root = directory.root
        try:
            root.mkdir(parents=True, exist_ok=True)
            # PostgreSQL runs as another user when we are root, and has to pass through.
            root.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for part in (directory.log, directory.spool, directory.recordings, directory.prompts):
                part.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise PlatformError(
                Code.CONFIG_INVALID, f"data directory {root}: {error.strerror}; choose another"
            ) from error
        return directory

    def of_worker(self, name: str) -> DataDirectory:
        """Return, and make, the part that is a worker's own; raises PlatformError."""
        return self._made(DataDirectory(self.workers / name, self.root))

    @property
    def workers(self) -> Path:
        """What each of many workers keeps for itself."""
        return self.root / "workers"

    @property
    def dispatcher_list(self) -> Path:
        """The workers, as Kamailio reads them."""
        return self.root / "dispatcher.list"

    @property
    def _common(self) -> Path:
        return self.shared or self.root

    @property
    def log(self) -> Path:
        """Logs of the platform and of its children."""
        return self.root / "log"

    @property
    def spool(self) -> Path:
        """Events that wait for Redis."""
        return self.root / "spool"

    @property
    def recordings(self) -> Path:
        """Recordings, by tenant and date."""
        return self._common / "recordings"

    @property
    def prompts(self) -> Path:
        """Prompts made from text."""
        return self.root / "prompts"

    @property
    def redis(self) -> Path:
        """What the embedded Redis keeps."""
        return self.root / "redis"

    @property
    def postgres(self) -> Path:
        """What the embedded PostgreSQL keeps."""
        return self.root / "postgres"

    @property
    def secrets(self) -> Path:
        """Password hashes; what the platform checks against."""
        return self._common / "secrets.yaml"

    @property
    def demo_credentials(self) -> Path:
        """The passwords of a first start in plain text, for people and the demo."""
        return self._common / "demo-credentials.yaml"

    @property
    def instance_file(self) -> Path:
        """What the running instance tells other commands: its process and addresses."""
        return self.root / "instance.json"

    def write_instance(self, facts: Mapping[str, str | int | dict[str, str]]) -> None:
        """Say that this process is the running instance."""
        text = json.dumps({"pid": os.getpid(), **facts}, indent=2, ensure_ascii=False)
        write_private(self.instance_file, text + "\n")

    def socket_directory(self, name: str) -> Path:
        """Return a private directory whose path leaves room for a socket's name."""
        return socket_directory(self.root / name)


def socket_directory(wanted: Path) -> Path:
    """Return `wanted`, or where its path is too long a directory of the same life under /tmp."""
    path = wanted
    if len(os.fsencode(wanted / _LONGEST_SOCKET_NAME)) > _MAX_SOCKET_PATH_BYTES:
        digest = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"cti95598-{os.geteuid()}-{digest}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode) or (facts.st_uid != os.geteuid() and os.geteuid() != 0):
        # Someone else's directory under /tmp could hold someone else's server.
        raise PlatformError(
            Code.CONFIG_INVALID,
            f"{path} belongs to another user; use a data directory of fewer letters",
        )
    return path


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner only."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class InstanceLock:
    """One instance a data directory.

    The children inherit the lock's descriptor: a new instance after a killed one waits until the
    last server of the old one is gone.
    """

    def __init__(self, directory: DataDirectory) -> None:
        self._path = directory.root / "lock"
        self._handle: int | None = None

    @property
    def handle(self) -> int:
        """The descriptor that children inherit."""
        if self._handle is None:
            raise RuntimeError("the lock is not held")
        return self._handle

    def acquire(
        self, *, wait_s: float = _LOCK_WAIT_S, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """Take the lock, or raise PlatformError naming who holds it."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_up_at = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
                # A living holder keeps it; a dead one's servers are about to end.
                if time.monotonic() >= give_up_at or _is_alive(holder):
                    os.close(handle)
                    raise PlatformError(
                        Code.CONFIG_INVALID,
                        f"data directory {self._path.parent} is in use by process {holder or '?'}; "
                        "stop that one or choose another with --data",
                    ) from None
                pause(_LOCK_POLL_S)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        self._handle = handle

    def release(self) -> None:
        """Give the lock back; a child that still runs keeps it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _is_alive(pid_text: str) -> bool:
    return pid_text.isdigit() and Path(f"/proc/{pid_text}").exists()
