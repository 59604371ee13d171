"""The timers of RFC 3261 17 and RFC 6026, and one heap that holds those of all transactions."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar


class Timer(Enum):
    """Timers by their names in the RFCs (RFC 3261 table 4, RFC 6026 8.7)."""

    A = "INVITE request retransmission"
    B = "INVITE transaction timeout"
    D = "wait for response retransmissions"
    E = "non-INVITE request retransmission"
    F = "non-INVITE transaction timeout"
    G = "INVITE response retransmission"
    H = "wait for ACK"
    I = "wait for ACK retransmissions"  # noqa: E741 - the RFC's name
    J = "wait for non-INVITE request retransmissions"
    K = "wait for non-INVITE response retransmissions"
    L = "wait for accepted INVITE retransmissions"
    M = "wait for retransmitted or forked 2xx"
    TRYING = "time the TU has before a 100 is sent (RFC 3261 17.2.1)"
    CANCELLED = "wait for the final response after CANCEL (RFC 3261 9.1)"
    ABANDONED = "the client of a non-INVITE request has given up (RFC 4320 4.2)"


@dataclass(frozen=True, slots=True)
class Timers:
    """Base values; every other duration is a multiple of them."""

    t1_s: float = 0.5
    t2_s: float = 4.0
    t4_s: float = 5.0
    trying_s: float = 0.2

    @property
    def timeout_s(self) -> float:
        """64 * T1: timers B, D, F, H, J, L and M."""
        return 64 * self.t1_s


T = TypeVar("T")


class TimerHeap(Generic[T]):
    """Owners and timers by due time. Nothing is ever cancelled: an owner ignores what is stale."""

    __slots__ = ("_heap", "_sequence")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T, Timer]] = []
        self._sequence = 0

    def push(self, at_s: float, owner: T, timer: Timer) -> None:
        """Let `timer` of `owner` be due at `at_s`."""
        self._sequence += 1
        heapq.heappush(self._heap, (at_s, self._sequence, owner, timer))

    @property
    def next_s(self) -> float:
        """When the next timer is due; infinity when there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def pop_due(self, now_s: float) -> tuple[T, Timer] | None:
        """Take the earliest timer that is due, None when none is."""
        if not self._heap or self._heap[0][0] > now_s:
            return None
        _, _, owner, timer = heapq.heappop(self._heap)
        return owner, timer

    def clear(self) -> None:
        """Forget all."""
        self._heap.clear()

    def __len__(self) -> int:
        return len(self._heap)
