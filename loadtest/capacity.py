"""What one process of the generator can do, against a far end that costs little.

For calls that far end is sipp, which answers each and echoes its RTP. For streams it is a process
of `loadtest.far_end`: sipp has one thread a port for all echoes, which each packet has to wake.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.ports import free_port, wide_rtp
from loadtest.figures.report import Report
from loadtest.generator.platform import Entrance, UnderTest
from loadtest.generator.sip_text import Address
from loadtest.measured_run import measured_run
from loadtest.scenario.model import Scenario
from loadtest.sipp import SippRun

_HOST = "127.0.0.1"
_ECHO_PORTS = (0, 2)
"""What sipp echoes on, from its media port on; calls are given the first."""
_TALK_S = 1.0
_RAMP_PER_S = 200
_STARTS_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.05
_UDP = Path("/proc/net/udp")
_ALL = 0.99
"""This share of the streams counts as all of them."""


@dataclass(frozen=True, slots=True)
class FarEnd:
    """A process that takes calls."""

    sip: Address
    pid: int
    ports: Collection[int]
    """Where its datagrams come."""


FarEnds = AbstractAsyncContextManager[Sequence[FarEnd]]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What came of a run."""

    report: Report
    """What it says of the platform is the far ends'."""
    dropped: int
    """Datagrams that the far ends had no room for, as they came faster than they were read."""

    def while_full(self, column: str) -> float | None:
        """Return the median of a column of the report while all calls were up, if it was seen."""
        calls, spent = self.report.calls_each_s, self.report.platform_each_s
        live = dict(zip(map(_second, calls["t_s"]), calls["live"], strict=True))
        most = max((count for count in live.values() if count is not None), default=0.0)
        full = [
            value
            for at_s, value in zip(spent["t_s"], spent[column], strict=True)
            if value is not None and (live.get(_second(at_s)) or 0.0) >= _ALL * most
        ]
        return statistics.median(full) if full else None


def calls_scenario(rate: float, seconds: float, *, warm_up_s: float = 2.0) -> Scenario:
    """Return new calls at a rate, each answered, heard, with a key, spoken in and hung up."""
    return _scenario(
        "generator-calls",
        duration_s=warm_up_s + seconds,
        warm_up_s=warm_up_s,
        per_s=rate,
        steps=[
            {"do": "dial", "number": "95598", "answer_within_s": 10},
            {"do": "expect_prompt", "within_s": 5},
            {"do": "press", "keys": "1"},
            {"do": "hold", "s": _TALK_S},
            {"do": "hang_up"},
        ],
    )


def streams_scenario(streams: int, seconds: float) -> Scenario:
    """Return so many calls that are all up, with RTP both ways, for `seconds`."""
    ramp_s = max(1.0, streams / _RAMP_PER_S)
    return _scenario(
        "generator-streams",
        duration_s=ramp_s,
        per_s=streams / ramp_s,
        steps=[
            {"do": "dial", "number": "95598", "answer_within_s": 10},
            {"do": "hold", "s": ramp_s + seconds},
            {"do": "hang_up"},
        ],
    )


def _scenario(name: str, *, per_s: float, steps: Sequence[Any], **fields: float) -> Scenario:
    callers = {"arrival": {"kind": "steady", "per_s": per_s}, "steps": steps}
    return Scenario.model_validate({"name": name, "callers": [callers], **fields})


async def capacity_run(scenario: Scenario, far_ends: FarEnds) -> Capacity:
    """Play a scenario against far ends, to which calls go in turn."""
    async with far_ends as ends:
        report = await measured_run(scenario, _answering(ends))
        drops = _drops()
        ports = {port for end in ends for port in end.ports}
        return Capacity(report, sum(drops.get(port, 0) for port in ports))


@asynccontextmanager
async def _answering(ends: Sequence[FarEnd]) -> AsyncIterator[UnderTest]:
    first, *others = ends
    yield UnderTest(
        first.sip,
        _HOST,
        pid=first.pid,
        others=tuple(Entrance(end.sip, "", "") for end in others),
        other_pids=tuple(end.pid for end in others),
    )


@asynccontextmanager
async def echoing_sipp(directory: Path, count: int) -> AsyncIterator[Sequence[FarEnd]]:
    """Start processes of sipp that answer calls and echo RTP, each on one port for all calls."""
    async with AsyncExitStack() as stack:
        ends = []
        for at in range(count):
            sip, media = free_port(), free_port(steps=_ECHO_PORTS)
            run = SippRun(directory / f"far{at}", "echo", local_port=sip, media_port=media)
            await run.start(_HOST, "-rtp_echo")
            stack.push_async_callback(run.stop)
            ends.append(FarEnd((_HOST, sip), run.pid, (sip, media)))
        ports = {port for end in ends for port in end.ports}
        async with asyncio.timeout(_STARTS_WITHIN_S):
            while not ports <= _drops().keys():  # noqa: ASYNC110 - sipp tells nobody
                await asyncio.sleep(_LOOK_EVERY_S)
        yield ends


@asynccontextmanager
async def own_far_end() -> AsyncIterator[Sequence[FarEnd]]:
    """Start a process of `loadtest.far_end`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtest.far_end", _HOST,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_STARTS_WITHIN_S):
            port = int(await process.stdout.readline()) if process.stdout is not None else 0
        first, last = wide_rtp()
        yield [FarEnd((_HOST, port), process.pid, (port, *range(first, last + 1)))]
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()


def _drops() -> dict[int, int]:
    """Return the UDP ports that are bound here, and the datagrams each had no room for."""
    rows = [line.split() for line in _UDP.read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16): int(row[-1]) for row in rows}


def _second(at_s: float | None) -> int:
    return round(at_s or 0.0)
