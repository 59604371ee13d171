"""What one process of the generator can do, against a far end that costs little.

That far end is sipp, which answers every call and echoes its RTP. It is no part of the platform, so
that nothing but the generator is measured.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.ports import free_port
from loadtest.cpu import usage_of
from loadtest.figures.report import Report
from loadtest.generator.platform import Entrance, UnderTest
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
    """What sipp spent and lost."""

    cores: float
    dropped: int
    """Datagrams that came faster than it took them."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """A run's figures, those of the far end apart."""

    report: Report
    far_end: FarEnd

    @property
    def full_cores(self) -> float | None:
        """Cores of the generator while all calls were up; None where no second shows it."""
        calls, spent = self.report.calls_each_s, self.report.platform_each_s
        live = dict(zip(map(_second, calls["t_s"]), calls["live"], strict=True))
        most = max((count for count in live.values() if count is not None), default=0.0)
        full = [
            cores
            for at_s, cores in zip(spent["t_s"], spent["generator_cpu_cores"], strict=True)
            if cores is not None and (live.get(_second(at_s)) or 0.0) >= _ALL * most
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
            {"do": "expect_prompt", "within_s": 5},
            {"do": "hold", "s": ramp_s + seconds},
            {"do": "hang_up"},
        ],
    )


def _scenario(name: str, *, per_s: float, steps: Sequence[Any], **fields: float) -> Scenario:
    callers = {"arrival": {"kind": "steady", "per_s": per_s}, "steps": steps}
    return Scenario.model_validate({"name": name, "callers": [callers], **fields})


async def capacity_run(directory: Path, scenario: Scenario, *, far_ends: int = 2) -> Capacity:
    """Play a scenario against `far_ends` processes of sipp, each with one port for all RTP."""
    entrances = [Entrance((_HOST, free_port()), "", "") for _ in range(far_ends)]
    media = [free_port(steps=_ECHO_PORTS) for _ in entrances]
    runs = [
        SippRun(directory / f"far{at}", "echo", local_port=entrance.sip[1], media_port=port)
        for at, (entrance, port) in enumerate(zip(entrances, media, strict=True))
    ]
    ports = {entrance.sip[1] for entrance in entrances} | set(media)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        for run in runs:
            await run.start(_HOST, "-rtp_echo")
            stack.push_async_callback(run.stop)
        async with asyncio.timeout(_STARTS_WITHIN_S):
            while not ports <= _drops().keys():  # noqa: ASYNC110 - sipp tells nobody
                await asyncio.sleep(_LOOK_EVERY_S)
        began_s = loop.time()
        report = await measured_run(scenario, _answering(entrances))
        spent_s = sum(sum(usage_of(run.pid).cpu_s.values()) for run in runs)
        drops = _drops()
        dropped = sum(drops.get(port, 0) for port in ports)
        return Capacity(report, FarEnd(spent_s / (loop.time() - began_s), dropped))


@asynccontextmanager
async def _answering(entrances: Sequence[Entrance]) -> AsyncIterator[UnderTest]:
    first, *others = entrances
    yield UnderTest(first.sip, _HOST, others=tuple(others))


def _drops() -> dict[int, int]:
    """Return the UDP ports that are bound here, and the datagrams each had no room for."""
    rows = [line.split() for line in _UDP.read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16): int(row[-1]) for row in rows}


def _second(at_s: float | None) -> int:
    return round(at_s or 0.0)
