"""A clock that jumps, for tests over real sockets: what is bounded is then no time of the machine.

Timers pass at once, but only when no socket has had anything to say for a while. All ends of a
test have to run on the one loop.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

# How long the kernel may take to bring an octet from one socket of ours to another.
_QUIET_S = 0.03


class _PatientSelector(selectors.DefaultSelector):
    now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; with nothing to come, let `timeout` pass at once."""
        if timeout is None:
            return super().select(None)
        ready = super().select(min(timeout, _QUIET_S))
        if not ready:
            self.now_s += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop on real sockets whose timers need not be waited for."""

    def __init__(self) -> None:
        self._patient = _PatientSelector()
        super().__init__(self._patient)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._patient.now_s


def play(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario on a loop of its own, on the clock that jumps."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(scenario())
