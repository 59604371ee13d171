"""A scenario played against a platform, watched from its first second to its last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from loadtest.figures.machine import this_machine
from loadtest.figures.process_watch import Look, ProcessWatch
from loadtest.figures.report import Report, make_report
from loadtest.figures.series import Reading, read
from loadtest.figures.tally import Tally
from loadtest.generator.platform import UnderTest
from loadtest.generator.run import play
from loadtest.profile.profiler import Profiler
from loadtest.scenario.model import Scenario

_EVERY_S = 1.0


class StoppedBeforeError(Exception):
    """The run was ended by hand before its platform was ready: there is nothing to report."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, for those who look at it."""

    scenario: Scenario
    tally: Tally
    readings: list[Reading]
    looks: list[Look]
    elapsed_s: float
    """Since the platform was ready."""


async def measured_run(
    scenario: Scenario,
    platform: AbstractAsyncContextManager[UnderTest],
    *,
    smoke: bool = False,
    stop: asyncio.Event | None = None,
    on_second: Callable[[Progress], None] | None = None,
    profiler: Profiler | None = None,
) -> Report:
    """Play a scenario and report; `stop` ends it early, in order, and the report says so.

    `profiler` samples the platform's process while calls are counted; CPU figures are higher then.
    Raises what starting the platform or the generator raises, and StoppedBeforeError.
    """
    began_at = datetime.now(UTC)
    stopping = asyncio.create_task((stop or asyncio.Event()).wait())
    try:
        async with AsyncExitStack() as stack:
            under_test = await _entered(stack, platform, stopping)
            run = _Run(scenario, under_test, on_second, profiler)
            interrupted = await run.play(stopping)
            # What the machine is made of is asked last: it takes a child process.
            machine = await asyncio.to_thread(this_machine)
    finally:
        stopping.cancel()
    return make_report(
        scenario,
        run.tally,
        run.readings,
        run.watch.looks,
        machine=machine,
        began_at=began_at,
        smoke=smoke,
        interrupted=interrupted,
    )


async def _entered(
    stack: AsyncExitStack,
    platform: AbstractAsyncContextManager[UnderTest],
    stopping: asyncio.Task[bool],
) -> UnderTest:
    """Start the platform, which `stack` ends; give it up when `stopping` is done first."""
    entering = asyncio.create_task(stack.enter_async_context(platform))
    try:
        await asyncio.wait({entering, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not entering.done():
            entering.cancel()
            with suppress(asyncio.CancelledError):
                await entering
    if entering.cancelled():
        raise StoppedBeforeError
    return entering.result()


class _Run:
    def __init__(
        self,
        scenario: Scenario,
        under_test: UnderTest,
        on_second: Callable[[Progress], None] | None,
        profiler: Profiler | None,
    ) -> None:
        self._scenario, self._under_test = scenario, under_test
        self._on_second = on_second
        self._profiler = profiler
        self._profiling: asyncio.Task[None] | None = None
        urls = [each.http for each in under_test.entrances if each.http]
        self.watch = ProcessWatch(under_test.pids, urls)
        self.tally = Tally(time.monotonic, self._take_phase)
        self.readings: list[Reading] = []
        self._began_s = time.monotonic()

    async def play(self, stopping: asyncio.Task[bool]) -> bool:
        """Play to the end, or until `stopping` is done: True then."""
        self.watch.start()
        reading = asyncio.create_task(self._read_each_second())
        playing = asyncio.create_task(play(self._scenario, self._under_test, self.tally))
        try:
            await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                playing.result()
            return not playing.done()
        finally:
            if self.tally.ended_s is None:
                self.tally.stop_counting()
            for task in (playing, reading):
                task.cancel()
            # What went wrong in them has been raised; all of the rest is ended nevertheless.
            await asyncio.wait({playing, reading})
            self.readings.append(read(self.tally))
            await asyncio.to_thread(self.watch.stop)
            if self._profiler is not None and self._profiling is not None:
                await self._profiling
                await self._profiler.stop()

    def _take_phase(self) -> None:
        self.watch.look_now()
        pid = self._under_test.pid
        if self.tally.counting_from_s is None or self._profiler is None or pid is None:
            return
        if self._profiling is None:
            self._profiling = asyncio.create_task(self._profiler.start(pid))

    async def _read_each_second(self) -> None:
        due_s = time.monotonic()
        while True:
            self.readings.append(read(self.tally))
            if self._on_second is not None:
                elapsed_s = time.monotonic() - self._began_s
                self._on_second(
                    Progress(self._scenario, self.tally, self.readings, self.watch.looks, elapsed_s)
                )
            due_s += _EVERY_S
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
