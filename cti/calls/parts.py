"""What a call still waits for before its last event: handler, ports, legs, recordings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from domain.ids import CallId

_log = structlog.get_logger(__name__)

# How long after its end a call waits for its parts before it is closed without them.
_SETTLE_TIMEOUT_S = 30.0


class OpenParts:
    """Tells once, after the end of the call, that no part is open any more."""

    __slots__ = ("_call_id", "_count", "_is_ended", "_on_settled", "_timer")

    def __init__(self, call_id: CallId, on_settled: Callable[[], None]) -> None:
        self._call_id = call_id
        self._count = 0
        self._is_ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._on_settled: Callable[[], None] | None = on_settled

    def open(self) -> None:
        """Count a part in."""
        self._count += 1

    def close(self) -> None:
        """Count a part out."""
        self._count -= 1
        if self._count == 0 and self._is_ended:
            self._settle()

    def call_ended(self) -> None:
        """The call has ended: wait for its parts, but not for ever."""
        self._is_ended = True
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_SETTLE_TIMEOUT_S, self._settle_late)

    def _settle_late(self) -> None:
        _log.error("call_did_not_settle", call_id=self._call_id, open_parts=self._count)
        self._settle()

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        on_settled, self._on_settled = self._on_settled, None
        if on_settled is not None:
            on_settled()
