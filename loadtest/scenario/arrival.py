"""When calls begin: a pure plan, by inverting the integral of the rate.

A call begins whenever that integral grows by one, or by an exponential draw where callers know
nothing of each other; so the count over any stretch is what its rate says, without a step size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, pairwise
from random import Random

from loadtest.scenario.model import Arrival, Poisson, Profile, Ramp, Steady


def start_times_s(arrival: Arrival, duration_s: float, random: Random) -> Iterator[float]:
    """Yield when calls begin, in seconds of the run, in order and before `duration_s`."""
    stretches = _stretches(arrival, duration_s)
    is_even = isinstance(arrival, Steady | Ramp)
    return _inverted(stretches, map(float, count()) if is_even else _exponential_sums(random))


def expected_calls(arrival: Arrival, duration_s: float) -> float:
    """Return the integral of the rate: the calls of the run, or their mean where they are drawn."""
    return math.fsum(stretch.area for stretch in _stretches(arrival, duration_s))


def peak_per_s(arrival: Arrival) -> float:
    """Return the highest rate."""
    match arrival:
        case Ramp():
            return max(arrival.from_per_s, arrival.to_per_s)
        case Profile():
            return max(rate for _, rate in arrival.points)
        case _:
            return arrival.per_s


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A time whose rate goes from one value to another in a straight line."""

    begin_s: float
    end_s: float
    from_per_s: float
    to_per_s: float

    @property
    def area(self) -> float:
        return (self.end_s - self.begin_s) * (self.from_per_s + self.to_per_s) / 2

    def when_s(self, area: float) -> float:
        """Return when this much of the area lies behind; the form that cancels nothing."""
        slope = (self.to_per_s - self.from_per_s) / (self.end_s - self.begin_s)
        rate_then = math.sqrt(max(0.0, self.from_per_s**2 + 2 * slope * area))
        if not self.from_per_s + rate_then:
            return self.begin_s
        return self.begin_s + 2 * area / (self.from_per_s + rate_then)


def _stretches(arrival: Arrival, duration_s: float) -> list[_Stretch]:
    match arrival:
        case Steady() | Poisson():
            rates = [(0.0, arrival.per_s), (duration_s, arrival.per_s)]
        case Ramp():
            rates = [(0.0, arrival.from_per_s), (duration_s, arrival.to_per_s)]
        case Profile():
            (first_s, first), (last_s, last) = arrival.points[0], arrival.points[-1]
            before = [(0.0, first)] if first_s > 0 else []
            after = [(duration_s, last)] if last_s < duration_s else []
            rates = [*before, *arrival.points, *after]
    whole = (_Stretch(a_s, b_s, a, b) for (a_s, a), (b_s, b) in pairwise(rates))
    return [_cut(one, duration_s) for one in whole if one.begin_s < min(one.end_s, duration_s)]


def _cut(stretch: _Stretch, duration_s: float) -> _Stretch:
    if stretch.end_s <= duration_s:
        return stretch
    share = (duration_s - stretch.begin_s) / (stretch.end_s - stretch.begin_s)
    rate = stretch.from_per_s + share * (stretch.to_per_s - stretch.from_per_s)
    return _Stretch(stretch.begin_s, duration_s, stretch.from_per_s, rate)


_SAME = 1e-9
"""Shares of a call that are rounding: 3 calls a second for 10 s are 30 calls, never 31."""


def _inverted(stretches: list[_Stretch], areas: Iterable[float]) -> Iterator[float]:
    behind, rest = 0.0, iter(stretches)
    stretch = next(rest, None)
    for area in areas:
        while stretch is not None and area >= behind + stretch.area - _SAME:
            behind += stretch.area
            stretch = next(rest, None)
        if stretch is None:
            return
        inside_s = stretch.when_s(max(0.0, area - behind))
        yield min(inside_s, math.nextafter(stretch.end_s, 0))


def _exponential_sums(random: Random) -> Iterator[float]:
    total = 0.0
    while True:
        total += random.expovariate(1.0)
        yield total
