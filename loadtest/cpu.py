"""CPU time, memory and what else a process and its children hold, as the kernel counts them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
# proc_pid_stat(5), counted from the field after the command's closing bracket.
_UTIME, _STIME, _CUTIME, _CSTIME, _THREADS = 11, 12, 13, 14, 17
_SHARED = ("RssFile", "RssShmem")
_STORES = (("redis", "redis"), ("valkey", "redis"), ("postgres", "postgres"))
_PYTHON = ("python", "cti95598", "pt_main")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds by part since its processes began, and what all parts hold now."""

    cpu_s: dict[str, float]
    resident_bytes: int
    descriptors: int
    """Of Python processes: stores keep files open as they like."""
    threads: int

    def since(self, earlier: Usage) -> dict[str, float]:
        """Return the CPU seconds of each part since then."""
        return {part: now - earlier.cpu_s.get(part, 0.0) for part, now in self.cpu_s.items()}


@dataclass(frozen=True, slots=True)
class MachineTime:
    """Seconds of all cores together since the machine began."""

    busy_s: float
    stolen_s: float
    total_s: float


def usage_of(pid: int, *, without: Collection[int] = ()) -> Usage:
    """Measure the process tree of `pid` but for the trees of `without`; gone ones count nothing.

    Python processes' media threads are a part of their own. Children that have ended count with the
    parent that took their status.
    """
    cpu_s: dict[str, float] = {}
    descriptors = threads = 0
    memory = _Memory()
    for member in _tree(pid, without):
        stat = _stat(_PROC / str(member) / "stat")
        if stat is None:
            continue
        name, fields = stat
        part = _part(name, is_root=member == pid)
        spent = _cpu_s(fields, _UTIME, _STIME, _CUTIME, _CSTIME)
        if part == "python":
            media = _media_s(member)
            cpu_s["media"] = cpu_s.get("media", 0.0) + media
            spent -= media
            descriptors += _descriptors(member)
        cpu_s[part] = cpu_s.get(part, 0.0) + spent
        memory.add(name, member)
        threads += int(fields[_THREADS])
    return Usage(cpu_s, memory.resident_bytes, descriptors, threads)


def machine_time() -> MachineTime:
    """Measure the whole machine."""
    line = (_PROC / "stat").read_text().partition("\n")[0]
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, line.split()[1:9])
    busy = user + nice + system + irq + softirq
    total = busy + idle + iowait + steal
    return MachineTime(busy / _TICKS_PER_S, steal / _TICKS_PER_S, total / _TICKS_PER_S)


def _part(name: str, *, is_root: bool) -> str:
    if is_root or name.startswith(_PYTHON):
        return "python"
    return next((part for begin, part in _STORES if begin in name), "other")


def _tree(root: int, without: Collection[int]) -> Iterator[int]:
    waiting = [root]
    while waiting:
        member = waiting.pop()
        yield member
        for thread in _tasks(member):
            try:
                children = (thread / "children").read_text().split()
            except OSError:
                continue
            waiting += [int(child) for child in children if int(child) not in without]


def _tasks(pid: int) -> list[Path]:
    try:
        return list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return []


def _media_s(pid: int) -> float:
    stats = (_stat(task / "stat") for task in _tasks(pid))
    return sum(_cpu_s(stat[1], _UTIME, _STIME) for stat in stats if stat and "media" in stat[0])


class _Memory:
    """Resident memory of processes; what those of one program share counts once.

    PostgreSQL's processes share buffers: each counted whole, they seem to grow while they are used.
    What is shared is taken to be what the process has that has most of it. The kernel's own answer
    (`Pss` of smaps_rollup) walks every page: 1 ms a process, and a lock on its memory meanwhile.
    """

    def __init__(self) -> None:
        self._own = 0
        self._shared: dict[tuple[str, str], int] = {}

    def add(self, program: str, pid: int) -> None:
        """Take a process in; one that is gone has nothing."""
        try:
            lines = (_PROC / str(pid) / "status").read_text().splitlines()
        except OSError:
            return
        for line in lines:
            kind, _, size = line.partition(":")
            if kind == "RssAnon":
                self._own += int(size.split()[0])
            elif kind in _SHARED:
                key = program, kind
                self._shared[key] = max(self._shared.get(key, 0), int(size.split()[0]))

    @property
    def resident_bytes(self) -> int:
        return 1024 * (self._own + sum(self._shared.values()))


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(_PROC / str(pid) / "fd"))  # noqa: PTH208 - thousands, only counted
    except OSError:
        return 0


def _stat(path: Path) -> tuple[str, list[str]] | None:
    try:
        text = path.read_text()
    except OSError:
        return None
    head, _, tail = text.rpartition(")")
    return head.partition("(")[2], tail.split()


def _cpu_s(fields: list[str], *which: int) -> float:
    return sum(int(fields[one]) for one in which) / _TICKS_PER_S
