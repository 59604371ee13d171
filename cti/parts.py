"""Counts what a call still waits for before its last event: handler, ports, legs, recordings."""

from __future__ import annotations

from collections.abc import Callable


class OpenParts:
    """Tells once when no part is open any more."""

    __slots__ = ("_on_none", "count")

    def __init__(self, on_none: Callable[[], None]) -> None:
        self.count = 0
        self._on_none = on_none

    def open(self) -> None:
        """Count a part in."""
        self.count += 1

    def close(self) -> None:
        """Count a part out."""
        self.count -= 1
        if self.count == 0:
            self._on_none()
