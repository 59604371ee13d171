"""Give a user agent spoilt messages by the hundred thousand, and see that nothing breaks or stays.

Run: python -m loadtest.fuzz_sip --messages 1000000 --seed 1

There is no network and no waiting: bytes go in and out by call, and the clock jumps.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import cast
from unittest import mock

import structlog

from cti.sip.messages.message import SipSyntaxError, parse_message
from cti.sip.transports.transport import Hop
from loadtest.fuzz_agent import Application
from loadtest.fuzz_peer import HOST, PORT, Peer
from loadtest.virtual_loop import VirtualLoop, run_virtually

_WIRE = Path(__file__).parent.parent / "tests" / "sip_core" / "wire"
_STREAMS = range(2, 22)
_ROUNDS = 10
_QUIET_S = 9_000.0  # longer than any timer, session or subscription
_PAGE_KIB = 4
_LOSS = 0.005  # of what is sent cannot be
_MOST_FINDINGS = 20


@dataclass
class Report:
    """What a run found."""

    seed: int
    messages: int = 0
    calls: int = 0
    sent: int = 0
    malformed: int = 0
    cpu_s: float = 0.0
    findings: Counter[str] = field(default_factory=Counter)
    """Exceptions, messages that cannot be read, and what was left, by their description."""
    examples: dict[str, bytes] = field(default_factory=dict)
    """For each finding the message it came with."""
    memory_kib: list[int] = field(default_factory=list)
    """Resident memory after each tenth of the run, when all was quiet."""
    objects: list[int] = field(default_factory=list)
    """Live Python objects then."""

    def find(self, what: str, message: bytes) -> None:
        """Note a finding."""
        self.findings[what] += 1
        if len(self.examples) < _MOST_FINDINGS:
            self.examples.setdefault(what, message)


class _Run:
    """One run: the peer talks, the application is watched."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._random = Random(report.seed)  # noqa: S311 - to be repeated, not to be secret
        corpus = [file.read_bytes() for file in sorted(_WIRE.rglob("*.sip"))]
        self._peer = Peer(self._random, corpus)
        self._application = Application(self._random, self._on_sent)
        self._peer.routes = tuple(
            self._application.edge.route_of(Hop(transport, HOST, PORT, 3))
            for transport in ("udp", "tcp")
        )
        self._message = b""
        self._is_malformed = False
        structlog.configure(processors=[self._on_log])

    def _on_log(
        self, _logger: object, _level: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        if event.pop("exc_info", None):
            error = cast("BaseException", sys.exc_info()[1])
            frame = traceback.extract_tb(error.__traceback__)[-1]
            self._report.find(
                f"{type(error).__name__}: {error} at {Path(frame.filename).name}:{frame.lineno}",
                self._message,
            )
        raise structlog.DropEvent

    def _on_sent(self, data: bytes, _hop: Hop) -> bool:
        self._report.sent += 1
        try:
            self._peer.hear(data)
        except SipSyntaxError as error:
            # A refusal echoes what was wrong; all else that we send must be right.
            if not self._is_malformed:
                self._report.find(f"sent what cannot be read: {error}", data)
        return self._random.random() > _LOSS

    async def run(self, messages: int) -> None:
        """Talk, with a quiet time after each tenth."""
        for _ in range(_ROUNDS):
            began_s = time.process_time()
            for _ in range(messages // _ROUNDS):
                self._say()
                if self._random.random() < 0.1:
                    await asyncio.sleep(self._random.expovariate(5.0))
                if self._random.random() < 0.02:
                    self._application.start_something()
            self._report.cpu_s += time.process_time() - began_s
            await self._settle()
        await self._application.aclose()
        self._report.calls = self._application.calls
        self._check_loop()

    def _say(self) -> None:
        self._report.messages += 1
        data = self._message = self._peer.next()
        endpoint = self._application.endpoint
        if self._random.random() < 0.1:
            self._is_malformed = True  # a stream may end in the middle of anything
            stream = self._random.choice(_STREAMS)
            cut = self._random.randint(0, len(data))
            if endpoint.take_stream(data[:cut], HOST, stream):
                endpoint.take_stream(data[cut:], HOST, stream)
            return
        try:
            parse_message(data)
            self._is_malformed = False
        except SipSyntaxError:
            self._report.malformed += 1
            self._is_malformed = True
        endpoint.take_datagram(data, HOST, PORT)

    async def _settle(self) -> None:
        """Let all timers pass; then nothing may be left."""
        for stream in _STREAMS:
            self._application.endpoint.close_stream(stream)
        self._is_malformed = False
        await asyncio.sleep(_QUIET_S)
        for kind, count in self._application.left.items():
            if count:
                self._report.find(f"{kind} left after all timers", str(count).encode())
        gc.collect()
        self._report.memory_kib.append(_resident_kib())
        self._report.objects.append(len(gc.get_objects()))

    def _check_loop(self) -> None:
        loop = cast("VirtualLoop", asyncio.get_running_loop())
        for failure in loop.failures:
            self._report.find(failure, b"")
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            self._report.find(f"task left: {task.get_coro()}", b"")


def _resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_KIB


def fuzz(messages: int, seed: int) -> Report:
    """Run and return what was found."""
    report = Report(seed)
    before = structlog.get_config()
    random.seed(seed)
    try:
        # All that is random is to be the same again with the same seed.
        with (
            mock.patch("os.urandom", Random(seed).randbytes),  # noqa: S311
            mock.patch("cti.sip.messages.message._TAG_KEY", bytes(16)),
        ):
            run_virtually(_run(report, messages))
    finally:
        structlog.configure(**before)
    return report


async def _run(report: Report, messages: int) -> None:
    await _Run(report).run(messages)


def main() -> int:
    """Run as asked, print the figures; 1 when there are findings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    report = fuzz(arguments.messages, arguments.seed)
    print(
        f"{report.messages} messages, {report.malformed} of them malformed, {report.calls} calls, "
        f"{report.sent} messages sent, seed {report.seed}\n"
        f"{report.messages / report.cpu_s:.0f} messages a second, those sent and made included\n"
        f"memory after each tenth: {', '.join(f'{each / 1024:.1f}' for each in report.memory_kib)}"
        f" MiB\nobjects after each tenth: {', '.join(map(str, report.objects))}"
    )
    for what, count in report.findings.most_common():
        print(f"FINDING ×{count}: {what}\n    {report.examples.get(what)!r}")
    print("no findings" if not report.findings else f"{len(report.findings)} findings")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
