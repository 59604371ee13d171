"""A worker's sign of life: its event loop writes to a pipe, and its supervisor looks at that.

A loop that hangs writes nothing, whatever it hangs in. The supervisor counts its looks and not
seconds: where the machine itself stood still, it did not look either, and nobody is ended for that.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

from prometheus_client import Counter as Metric

BEAT_S = 0.5

_PIPE = "CTI95598_HEARTBEAT_FD"
_RESTARTS = "CTI95598_WORKER_RESTARTS"
_MOST_BYTES = 65_536  # as much as a pipe holds

_RESTARTED = Metric("worker_restarts", "Restarts of this worker by its supervisor", ["cause"])


class Pulse:
    """The supervisor's end of one worker's pipe, for all its processes, one after the other."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()
        for end in (self._reading, self.writing):
            os.set_blocking(end, False)
        self.restarts: Counter[str] = Counter()
        """How often the worker was begun again, by cause: `died` or `hung`."""
        self.has_beaten = False
        """Whether the present process has ever given a sign."""
        self.silent_looks = 0
        """How many of the last looks, in a row, have found none."""

    def look(self) -> None:
        """Take what has come since the last look."""
        if self._read():
            self.has_beaten = True
            self.silent_looks = 0
        else:
            self.silent_looks += 1

    def begin_again(self, cause: str) -> None:
        """Expect another process, since the last one `died` or `hung`."""
        self.restarts[cause] += 1
        self._read()
        self.has_beaten = False
        self.silent_looks = 0

    def environment(self) -> dict[str, str]:
        """Return what the next process has to be told; it inherits the descriptor `writing`."""
        restarts = ",".join(f"{cause}={count}" for cause, count in self.restarts.items())
        return {_PIPE: str(self.writing), _RESTARTS: restarts}

    def close(self) -> None:
        """Close both ends."""
        os.close(self._reading)
        os.close(self.writing)

    def _read(self) -> bytes:
        with suppress(BlockingIOError):
            return os.read(self._reading, _MOST_BYTES)
        return b""


class Heartbeat:
    """The worker's end: beats while its block runs. Without a supervisor it does nothing."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        told = environment.get(_PIPE, "")
        self._writing = int(told) if told.isdecimal() else None
        self._timer: asyncio.TimerHandle | None = None
        for one in filter(None, environment.get(_RESTARTS, "").split(",")):
            cause, _, count = one.partition("=")
            _RESTARTED.labels(cause).inc(int(count))

    def __enter__(self) -> Self:
        if self._writing is not None:
            # Programs that we start have no part in it.
            os.set_inheritable(self._writing, False)
            self._beat()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        assert self._writing is not None  # noqa: S101 - __enter__ has looked
        # Full: nobody has looked for hours. Closed: the supervisor is gone, and we go with it.
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._writing, b".")
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
