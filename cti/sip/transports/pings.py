"""Pings on connections we opened (RFC 5626 3.5.1 and 4.4.1); sans-IO."""

from __future__ import annotations

import random
from enum import Enum

from cti.sip.transports.transport import ConnectionLimits

_SPREAD = 25 / 95  # 95 s to 120 s


class PingDue(Enum):
    """What is to be done now."""

    NOTHING = "nothing"
    SEND = "send a ping"
    DEAD = "give the connection up"


class Pings:
    """When to ping, and whether a pong is overdue.

    A pong is required only of a peer that has sent one before: many servers know no pings, and
    those that died are found out by TCP itself, as a ping is data that must be acknowledged.
    """

    __slots__ = ("_answers", "_limits", "_next_s", "_sent_s")

    def __init__(self, limits: ConnectionLimits, now_s: float) -> None:
        self._limits = limits
        self._answers = False
        self._sent_s: float | None = None
        self._next_s = self._from(now_s)

    def _from(self, now_s: float) -> float:
        # Spread, so that a thousand connections of one moment are not pinged at one moment.
        return now_s + self._limits.ping_s * (1 + random.random() * _SPREAD)  # noqa: S311

    def heard(self, *, pong: bool) -> bool:
        """Take note of bytes of the peer; tell whether they are the pong to our ping."""
        is_answer = pong and self._sent_s is not None
        self._answers = self._answers or is_answer
        self._sent_s = None
        return is_answer

    def due(self, now_s: float) -> PingDue:
        """Return what is to be done."""
        if self._sent_s is not None:
            if now_s - self._sent_s <= self._limits.pong_s:
                return PingDue.NOTHING
            if self._answers:
                return PingDue.DEAD
            self._sent_s = None
        if now_s < self._next_s:
            return PingDue.NOTHING
        self._sent_s = now_s
        self._next_s = self._from(now_s)
        return PingDue.SEND
