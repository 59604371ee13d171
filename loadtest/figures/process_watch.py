"""What the platform and the generator spend and hold, second by second, while a run goes on.

A thread looks, so that no call waits for it; a look costs the generator some 4 ms of CPU, and the
platform under 1 ms, since only these of its metrics are asked for.
"""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from loadtest.cpu import MachineTime, Usage, machine_time, usage_of

_EVERY_S = 1.0
_PATIENCE_S = 2.0
LOOP_DELAY = "event_loop_delay_seconds"
ROW_DELAY = "event_row_delay_seconds"
METRICS = (
    "media_packets_sent",
    "media_sent_within_1_ms",
    "media_sent_within_5_ms",
    "media_sent_later",
    "media_skipped_rounds",
    "media_dropped_frames",
    "sip_sessions",
    "sip_transactions",
    "sip_timers",
    "sip_internal_errors_total",
    "calls_live",
    "redis_round_trips_total",
    f"{LOOP_DELAY}_sum",
    f"{LOOP_DELAY}_count",
    f"{LOOP_DELAY}_bucket",
    f"{ROW_DELAY}_bucket",
)
_BUCKET = "_bucket"
_QUERY = urlencode([("name[]", name) for name in METRICS])


@dataclass(frozen=True, slots=True)
class Metrics:
    """What the platform told of itself, over all its nodes."""

    values: Mapping[str, float]
    bins: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    """Of each kind of delay, how many took up to so many seconds, each bin with all below it."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at everything; None where there was nothing to see."""

    at_s: float
    generator: Usage
    machine: MachineTime
    platform: Usage | None = None
    metrics: Metrics | None = None
    answer_s: float | None = None
    """How long /metrics took; None when it was not answered."""


class ProcessWatch:
    """Looks each second, and at once when a phase of the run ends."""

    def __init__(
        self,
        pids: Sequence[int] = (),
        metrics_urls: Sequence[str] = (),
        *,
        clock_s: Callable[[], float] = time.monotonic,
        every_s: float = _EVERY_S,
    ) -> None:
        """`pids`: the platform's nodes, none for one elsewhere; `metrics_urls`: http://HOST:PORT."""
        self.looks: list[Look] = []
        """All so far; appended to by the thread."""
        self._pids = tuple(pids)
        self._sources = [_Source(url) for url in metrics_urls]
        self._clock_s = clock_s
        self._every_s = every_s
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    @property
    def asks(self) -> bool:
        """Whether there are metrics to ask for."""
        return bool(self._sources)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def look_now(self) -> None:
        """Have the thread look at once, such as where counting starts."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread after a last look."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        due = self._clock_s()
        while True:
            stopping = self._stopping
            self.looks.append(self.look())
            if stopping:
                break
            now = self._clock_s()
            while due <= now:
                due += self._every_s
            if self._wake.wait(due - now):
                self._wake.clear()
        for source in self._sources:
            source.close()

    def look(self) -> Look:
        """Look once, in the caller's own thread."""
        at_s = self._clock_s()
        platform = _sum([usage_of(pid) for pid in self._pids]) if self._pids else None
        generator = usage_of(os.getpid(), without=self._pids)
        machine = machine_time()
        metrics = answer_s = None
        if self._sources:
            texts = [source.ask() for source in self._sources]
            if all(text is not None for text in texts):
                metrics = read_metrics("\n".join(text for text in texts if text))
                answer_s = self._clock_s() - at_s
        return Look(at_s, generator, machine, platform, metrics, answer_s)


class _Source:
    """One node's /metrics over a connection that is kept."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._path = f"/metrics?{_QUERY}"
        self._connection = http.client.HTTPConnection(
            address.hostname or "127.0.0.1", address.port, timeout=_PATIENCE_S
        )

    def ask(self) -> str | None:
        try:
            self._connection.request("GET", self._path)
            response = self._connection.getresponse()
            text = response.read().decode()
        except (OSError, http.client.HTTPException, UnicodeDecodeError):
            self._connection.close()
            return None
        return text if response.status == http.client.OK else None

    def close(self) -> None:
        self._connection.close()


def read_metrics(text: str) -> Metrics:
    """Read Prometheus's text form; figures of several labels or nodes are summed."""
    values: dict[str, float] = {}
    bins: dict[str, dict[float, float]] = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        key, _, value = line.rpartition(" ")
        name, _, labels = key.partition("{")
        if name.endswith(_BUCKET):
            bound = float(labels.partition('le="')[2].partition('"')[0])
            of_kind = bins.setdefault(name.removesuffix(_BUCKET), {})
            of_kind[bound] = of_kind.get(bound, 0.0) + float(value)
        else:
            values[name] = values.get(name, 0.0) + float(value)
    return Metrics(values, bins)


def _sum(usages: Sequence[Usage]) -> Usage:
    cpu_s: dict[str, float] = {}
    for usage in usages:
        for part, seconds in usage.cpu_s.items():
            cpu_s[part] = cpu_s.get(part, 0.0) + seconds
    return Usage(
        cpu_s,
        sum(usage.resident_bytes for usage in usages),
        sum(usage.descriptors for usage in usages),
        sum(usage.threads for usage in usages),
    )
