"""How late the event loop runs what is due: a node that is too busy shows it here first."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

from prometheus_client import Histogram

_EVERY_S = 0.1
_DELAY = Histogram(
    "event_loop_delay_seconds",
    f"How late a timer of {_EVERY_S} s ran",
    buckets=(0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5),
)


class LoopDelay:
    """Measures while its block runs, ten times a second."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._again()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _again(self) -> None:
        self._due_s = time.monotonic() + _EVERY_S
        self._timer = self._loop.call_later(_EVERY_S, self._measure)

    def _measure(self) -> None:
        # uvloop's own clock stands still while a callback runs.
        _DELAY.observe(max(0.0, time.monotonic() - self._due_s))
        self._again()
