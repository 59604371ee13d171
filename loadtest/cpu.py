"""CPU time and memory of a process and of its children, as the kernel counts them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# proc_pid_stat(5), counted from the field after the command's closing bracket.
_PPID, _UTIME, _STIME, _RSS = 1, 11, 12, 21


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds by part, and resident memory of all parts."""

    cpu_s: dict[str, float]
    resident_bytes: int

    def since(self, earlier: Usage) -> dict[str, float]:
        """Return the CPU seconds of each part since then."""
        return {part: now - earlier.cpu_s.get(part, 0.0) for part, now in self.cpu_s.items()}


def usage_of(pid: int) -> Usage:
    """Measure the process tree of `pid`; its media threads are a part of their own."""
    cpu_s: dict[str, float] = {}
    resident = 0
    for member in _tree(pid):
        for thread in _threads(member):
            name, fields = thread
            part = _part(name, is_platform=member == pid)
            cpu_s[part] = cpu_s.get(part, 0.0) + _cpu_s(fields)
        stat = _stat(Path("/proc") / str(member) / "stat")
        if stat is not None:
            resident += int(stat[1][_RSS]) * _PAGE_BYTES
    return Usage(cpu_s, resident)


def _part(name: str, *, is_platform: bool) -> str:
    if not is_platform:
        return "redis" if "redis" in name or "valkey" in name else "postgres"
    return "media" if name.startswith("media") else "python"


def _tree(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(entry / "stat")) is not None:
            parents[int(entry.name)] = int(stat[1][_PPID])
    members = [root]
    for member in members:
        members += [pid for pid, parent in parents.items() if parent == member]
    return members


def _threads(pid: int) -> list[tuple[str, list[str]]]:
    try:
        entries = list((Path("/proc") / str(pid) / "task").iterdir())
    except OSError:
        return []
    return [stat for entry in entries if (stat := _stat(entry / "stat")) is not None]


def _stat(path: Path) -> tuple[str, list[str]] | None:
    try:
        text = path.read_text()
    except OSError:
        return None
    head, _, tail = text.rpartition(")")
    return head.partition("(")[2], tail.split()


def _cpu_s(fields: list[str]) -> float:
    return (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS_PER_S
