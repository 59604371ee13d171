"""Twice as many callers as a node can serve: are they refused early, and the others served?"""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from agents.toolbar_client import ToolbarClient
from demo.platform import RunningPlatform
from loadtest.runs import callers_run, load_configuration, load_ports
from loadtest.sipp import CallFigures

_TENANT = "demo"
_PROBE_EVERY_S = 0.1
_BEFORE_S = 8
_AFTER_S = 8
_MEDIA_PORTS = itertools.count(50_000, 100)  # of runs side by side


@dataclass(slots=True)
class Probes:
    """How long questions to the platform took, in milliseconds, while it was busy."""

    health_ms: list[float] = field(default_factory=list)
    toolbar_ms: list[float] = field(default_factory=list)
    refused: list[tuple[float, float]] = field(default_factory=list)
    """Calls refused so far for want of time, by the time of the question."""


@dataclass(frozen=True, slots=True)
class OverloadResult:
    """Figures of what came before, of the overload itself, and of what came after."""

    before: CallFigures
    during: CallFigures
    after: CallFigures
    probes: Probes
    ended_s: float
    """When the overload's last call had been sent."""

    @property
    def refused_last_after_s(self) -> float:
        """How long after the overload a call was still refused."""
        return max(0.0, _last_growth(self.probes.refused) - self.ended_s)

    @property
    def refused(self) -> float:
        """Calls refused for want of time."""
        return self.probes.refused[-1][1] if self.probes.refused else 0.0


async def overload_run(data: Path, *, rate: int, times: float, seconds: int) -> OverloadResult:
    """Callers at `rate`, then at so many times of it, then at half of it, without a pause."""
    ports = load_ports()
    platform = RunningPlatform(data, ports, load_configuration(ports, "load-ivr", agents=1))
    await platform.start()
    probing: asyncio.Task[None] | None = None
    try:
        await _callers(platform, data, "warm-up", 20, 1)
        before = await _callers(platform, data, "before", rate, _BEFORE_S)
        probes = Probes()
        probing = asyncio.create_task(_probe(platform, probes))
        overload = asyncio.create_task(
            _callers(platform, data, "during", round(times * rate), seconds)
        )
        await asyncio.sleep(seconds)
        ended_s = time.monotonic()
        after = await _callers(platform, data, "after", rate // 2, _AFTER_S)
        return OverloadResult(before, await overload, after, probes, ended_s)
    finally:
        if probing is not None:
            probing.cancel()
        await platform.stop()


async def _callers(
    platform: RunningPlatform, data: Path, name: str, rate: int, seconds: int
) -> CallFigures:
    return await callers_run(
        platform, data / name, "ivr_caller", rate * seconds, rate,
        pause_ms=1000, media_port=next(_MEDIA_PORTS),
    )  # fmt: skip


async def _probe(platform: RunningPlatform, probes: Probes) -> None:
    """Ask again and again what an operator and an agent ask."""
    gateway = f"http://127.0.0.1:{platform.ports.http}"
    ((agent, password),) = platform.passwords().agents[_TENANT].items()
    toolbar = ToolbarClient(platform.grpc)
    try:
        await toolbar.sign_in(_TENANT, agent, password)
        async with aiohttp.ClientSession(gateway) as session:
            while True:
                began = time.perf_counter()
                async with session.get("/healthz") as response:
                    await response.read()
                asked = time.perf_counter()
                await toolbar.not_ready("rest")
                probes.health_ms.append((asked - began) * 1000)
                probes.toolbar_ms.append((time.perf_counter() - asked) * 1000)
                async with session.get("/metrics?name[]=overload_refused_total") as response:
                    text = await response.text()
                probes.refused.append((time.monotonic(), _value(text, "overload_refused_total")))
                await asyncio.sleep(_PROBE_EVERY_S)
    finally:
        await toolbar.aclose()


def _value(text: str, name: str) -> float:
    return sum(float(row.split()[1]) for row in text.splitlines() if row.startswith(name + " "))


def _last_growth(counts: list[tuple[float, float]]) -> float:
    """When a count was last found higher than before; zero: never."""
    found, highest = 0.0, 0.0
    for at, count in counts:
        if count > highest:
            found, highest = at, count
    return found
