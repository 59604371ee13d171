"""How many calls there may be at once, and how many may begin in a second."""

from __future__ import annotations


class TokenBucket:
    """A rate: holds up to one second's worth, and at least one."""

    __slots__ = ("_capacity", "_last_s", "_rate", "_tokens")

    def __init__(self, per_second: float) -> None:
        self._rate = per_second
        self._capacity = self._tokens = max(1.0, per_second)
        self._last_s = 0.0

    def has_token(self, now: float) -> bool:
        """Tell whether `take` is allowed now."""
        if now > self._last_s:
            refilled = self._tokens + (now - self._last_s) * self._rate
            self._tokens = min(self._capacity, refilled)
            self._last_s = now
        return self._tokens >= 1.0

    def take(self) -> None:
        """Use one token, after `has_token`."""
        self._tokens -= 1.0

    @property
    def used(self) -> float:
        """How much of the last second's worth is used up, as of the last question."""
        return self._capacity - self._tokens


class CallLimit:
    """A limit of live calls and of calls a second, both directions together.

    `reserve` channels are kept for calls that go out; calls that come in take the others.
    """

    __slots__ = (
        "_bucket",
        "calls",
        "max_calls",
        "max_calls_per_second",
        "outbound_calls",
        "reserve",
    )

    def __init__(self, max_calls: int, max_calls_per_second: int, reserve: int = 0) -> None:
        self.calls = 0
        self.outbound_calls = 0
        self.change(max_calls, max_calls_per_second, reserve)

    def change(self, max_calls: int, max_calls_per_second: int, reserve: int = 0) -> None:
        """Set other bounds; live calls stay counted."""
        self.max_calls = max_calls
        self.max_calls_per_second = max_calls_per_second
        self.reserve = reserve
        self._bucket = TokenBucket(max_calls_per_second)

    def has_room(self, now: float, *, outbound: bool = False) -> bool:
        """Tell whether one more call fits now."""
        reserved = 0 if outbound else max(0, self.reserve - self.outbound_calls)
        return self.calls < self.max_calls - reserved and self._bucket.has_token(now)

    def calls_per_second(self, now: float) -> float:
        """Return how much of the rate is in use: the calls of a moment ago that weigh on it."""
        self._bucket.has_token(now)
        return self._bucket.used

    def take(self, *, outbound: bool = False) -> None:
        """Count one call in, after `has_room`."""
        self._bucket.take()
        self.calls += 1
        self.outbound_calls += outbound

    def release(self, *, outbound: bool = False) -> None:
        """Count one call out."""
        self.calls -= 1
        self.outbound_calls -= outbound
