"""sipp as the load generator: it is cheap, and no part of the platform measures itself."""

from __future__ import annotations

import asyncio
import csv
import signal
from dataclasses import dataclass
from pathlib import Path

SCENARIOS = Path(__file__).parent / "scenarios"
_END_GRACE_S = 90.0


@dataclass(frozen=True, slots=True)
class CallFigures:
    """What sipp counted over a whole run."""

    successful: int
    failed: int
    retransmissions: int
    seconds: float
    mean_answer_ms: float
    refused: int = 0
    """Of the failed ones: those that got 503 and left it at that."""

    @property
    def rate(self) -> float:
        """Calls a second, over all of the run."""
        return (self.successful + self.failed) / self.seconds if self.seconds else 0.0


class SippRun:
    """One sipp process in a directory of its own."""

    def __init__(
        self,
        directory: Path,
        scenario: str,
        *,
        local_port: int,
        media_port: int,
        host: str = "127.0.0.1",
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._scenario = scenario
        self._host = host
        self._local_port = local_port
        self._media_port = media_port
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, remote: str, *arguments: str) -> None:
        """Start sipp; `arguments` are its own."""
        # Paths of captures in a scenario are looked up from the working directory.
        scenario = SCENARIOS / f"{self._scenario}.xml"
        self._process = await asyncio.create_subprocess_exec(
            "sipp", remote, "-sf", str(scenario), "-nostdin", "-nd",
            "-i", self._host, "-p", str(self._local_port),
            "-mi", self._host, "-mp", str(self._media_port),
            "-trace_stat", "-stf", str(self._statistics), "-fd", "1",
            "-trace_err", "-error_file", str(self._directory / "errors.log"),
            "-buff_size", "4000000", *arguments,
            cwd=self._directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    async def wait(self, seconds: float) -> CallFigures:
        """Wait for the end of a bounded run and return its figures."""
        process = self._running()
        try:
            async with asyncio.timeout(seconds + _END_GRACE_S):
                await process.wait()
        except TimeoutError:
            await self.stop()
        return self.figures()

    @property
    def pid(self) -> int:
        """The process."""
        return self._running().pid

    def freeze(self) -> None:
        """Stop it in its tracks: its socket still takes what nobody will answer."""
        self._running().send_signal(signal.SIGSTOP)

    async def stop(self) -> None:
        """End sipp at once."""
        process = self._running()
        if process.returncode is None:
            process.kill()
            await process.wait()

    @property
    def _statistics(self) -> Path:
        return self._directory / f"{self._scenario}.csv"

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("sipp was not started")
        return self._process

    def figures(self) -> CallFigures:
        """Return what it had counted when it last wrote that down."""
        with self._statistics.open() as file:
            rows = list(csv.DictReader(file, delimiter=";"))
        if not rows:
            return CallFigures(0, 0, 0, 0.0, 0.0)
        last = rows[-1]
        refused = int(last.get("refused(C)") or 0)  # for sipp they are successful too
        return CallFigures(
            successful=int(last["SuccessfulCall(C)"]) - refused,
            failed=int(last["FailedCall(C)"]) + refused,
            refused=refused,
            retransmissions=int(last["Retransmissions(C)"]),
            seconds=_seconds(last["ElapsedTime(C)"]),
            mean_answer_ms=1000 * _seconds(last.get("ResponseTimeanswer(C)", "0:0:0")),
        )


def _seconds(clock: str) -> float:
    """Read sipp's H:M:S:microseconds."""
    hours, minutes, seconds, *micros = clock.split(":")
    fraction = int(micros[0]) / 1e6 if micros else 0.0
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds) + fraction
