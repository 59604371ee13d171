"""Tests in several processes at once, as `make test` runs them (`pytest -n auto`).

Each process has a network of its own: none meets the ports or packets of another one's tests.
Where that is not allowed the tests run one after the other.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

MOST_PROCESSES = 8
# What these rooms share is dear to start: one process runs them. The longest come first.
UNDIVIDED = ("peers", "kamailio")

settings.register_profile("any machine", deadline=None)  # how long things take is for benches
settings.load_profile("any machine")

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP_RUNNING = 0x41


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many as there are processors; 0, one test after the other, if they cannot be kept apart.

    Most tests wait, so two share one processor well enough.
    """
    unshare = [shutil.which("unshare") or "false", "--net", "true"]
    if subprocess.run(unshare, capture_output=True, check=False).returncode != 0:
        return 0
    return min(MOST_PROCESSES, max(2, len(os.sched_getaffinity(0))))


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        _enter_own_network()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _turn(item.nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    config.option.loadscopereorder = False
    return ByFile(config, log)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives the tests of a file, or of an undivided room, to one process."""

    def _split_scope(self, nodeid: str) -> str:
        return _unit(nodeid)


def _unit(nodeid: str) -> str:
    path = Path(nodeid.partition("::")[0])
    room = path.parts[1] if len(path.parts) > 2 else ""
    return room if room in UNDIVIDED else str(path)


def _turn(nodeid: str) -> int:
    unit = _unit(nodeid)
    return UNDIVIDED.index(unit) if unit in UNDIVIDED else len(UNDIVIDED)


def _enter_own_network() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no network of its own")
    with socket.socket() as probe:
        up = struct.pack("16sh", b"lo", _IFF_UP_RUNNING)
        fcntl.ioctl(probe, _SIOCSIFFLAGS, up)
