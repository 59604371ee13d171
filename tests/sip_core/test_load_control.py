"""The control of the load against a model of a node: one queue, and calls that make more work."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cti.load_control import INTERVAL_S, Begun, Ended, LoadControl, LoadLimits, Signal

BEAT_S = 0.05
REFUSAL_S = 0.00003
BATCH = 64


@dataclass
class Second:
    let_in: int = 0
    refused: int = 0
    waits: list[float] = field(default_factory=list)


@dataclass
class Model:
    """A node on a virtual clock; a call's work is due in parts, some of it seconds later."""

    cost_s: float
    later: float = 0.4
    """The share of a call's work that is due one and three seconds after its beginning."""
    control: LoadControl = field(
        default_factory=lambda: LoadControl(spread=random.Random(1).randint)
    )
    seconds: list[Second] = field(default_factory=list)
    changes: list[Begun | Ended] = field(default_factory=list)

    @property
    def capacity(self) -> float:
        return 1 / self.cost_s

    def run(self, phases: Sequence[tuple[float, float]], seed: int = 1) -> None:
        """Have calls come for (seconds, a second), one phase after the other."""
        arrivals = _arrivals(phases, random.Random(seed))
        self.seconds = [Second() for _ in range(int(sum(each for each, _ in phases)) + 1)]
        end_s = sum(each for each, _ in phases)
        now, beat, at, turn = 0.0, BEAT_S, 0, 0.0
        work: list[tuple[float, float]] = []
        while now < end_s:
            if now >= beat:
                self.control.observe(Signal.LOOP, turn)
                change = self.control.tick(now)
                if change is not None:
                    self.changes.append(change)
                beat = now + BEAT_S
            began = now
            while work and work[0][0] <= began:
                now += heapq.heappop(work)[1]
            if at < len(arrivals) and arrivals[at] <= now:
                self.control.observe(Signal.DATAGRAMS, now - arrivals[at])
            batch_at, batch_end = now, at + BATCH
            while at < min(batch_end, len(arrivals)) and arrivals[at] <= batch_at:
                now += self._take(arrivals[at], now, work)
                at += 1
            turn = now - began
            if now == began:
                coming = [beat, *(arrivals[at : at + 1]), *(due for due, _ in work[:1])]
                now = max(now, min(coming))

    def _take(self, arrived: float, now: float, work: list[tuple[float, float]]) -> float:
        second = self.seconds[min(int(arrived), len(self.seconds) - 1)]
        second.waits.append(now - arrived)
        if not self.control.admits(now):
            second.refused += 1
            return REFUSAL_S
        second.let_in += 1
        for delay in (1.0, 3.0):
            heapq.heappush(work, (now + delay, self.cost_s * self.later / 2))
        return self.cost_s * (1 - self.later)

    def let_in(self, first: int, last: int) -> float:
        """Calls a second that were let in, on average of these seconds."""
        return sum(each.let_in for each in self.seconds[first:last]) / (last - first)

    def refused(self, first: int, last: int) -> int:
        return sum(each.refused for each in self.seconds[first:last])

    def wait(self, share: float, first: int, last: int) -> float:
        """So long did such a share of all INVITEs wait at most."""
        waits = sorted(wait for each in self.seconds[first:last] for wait in each.waits)
        return waits[int(share * (len(waits) - 1))]


def _arrivals(phases: Sequence[tuple[float, float]], chance: random.Random) -> list[float]:
    arrivals, began = [], 0.0
    for lasts, rate in phases:
        at = began + chance.expovariate(rate)
        while at < began + lasts:
            arrivals.append(at)
            at += chance.expovariate(rate)
        began += lasts
    return arrivals


costs = st.floats(0.001, 0.006)
shares = st.floats(0.0, 0.6)
seeds = st.integers(0, 1000)


@settings(max_examples=20, deadline=None)
@given(costs, shares, seeds, st.floats(1.6, 4.0))
@example(0.0010530112047031906, 0.5625, 0, 3.0)  # most of the work comes late: 0.59 s once
def test_what_is_served_in_an_overload_stays_near_the_capacity(
    cost_s: float, later: float, seed: int, times: float
) -> None:
    model = Model(cost_s, later)
    model.run([(3, model.capacity / 2), (17, times * model.capacity)], seed)
    assert model.let_in(8, 20) > 0.6 * model.capacity
    assert model.let_in(8, 20) < 1.1 * model.capacity
    # An INVITE that waits for 500 ms is sent again (RFC 3261 17.1.1.2).
    assert model.wait(0.99, 8, 20) < 0.5


@settings(max_examples=20, deadline=None)
@given(costs, shares, seeds)
def test_nobody_is_refused_where_there_is_time(cost_s: float, later: float, seed: int) -> None:
    model = Model(cost_s, later)
    model.run([(10, 0.7 * model.capacity)], seed)
    assert model.refused(0, 10) == 0
    assert not model.changes


@settings(max_examples=20, deadline=None)
@given(costs, shares, seeds, st.floats(2.0, 4.0))
def test_all_are_let_in_again_seconds_after_an_overload(
    cost_s: float, later: float, seed: int, times: float
) -> None:
    model = Model(cost_s, later)
    model.run([(8, times * model.capacity), (12, 0.5 * model.capacity)], seed)
    assert model.refused(0, 8)
    assert model.refused(12, 20) == 0
    assert isinstance(model.changes[-1], Ended)
    ended = [each for each in model.changes if isinstance(each, Ended)]
    assert sum(each.refused for each in ended) == model.refused(0, 20)


def control(**limits: float) -> LoadControl:
    return LoadControl(LoadLimits(**limits), spread=random.Random(1).randint)


def intervals(
    one: LoadControl, signal: Signal, values: Sequence[float], *, calls: int = 100
) -> list[Begun | Ended | None]:
    """Let intervals pass with so many calls and such a measurement in each."""
    told: list[Begun | Ended | None] = []
    one.tick(0.0)
    for nth, value in enumerate(values, 1):
        for call in range(calls):
            one.admits((nth - 1 + call / calls) * INTERVAL_S)
        one.observe(signal, value)
        told.append(one.tick(nth * INTERVAL_S))
    return told


def test_one_hiccup_is_no_overload() -> None:
    told = intervals(control(), Signal.LOOP, [0.0, 0.4, 0.0, 0.4, 0.0])
    assert told == [None] * 5


@pytest.mark.parametrize(
    ("signal", "value"), [(Signal.LOOP, 0.06), (Signal.DATAGRAMS, 0.06), (Signal.MEDIA, 0.06)]
)
def test_each_signal_alone_begins_an_overload(signal: Signal, value: float) -> None:
    one = control()
    *_, begun = intervals(one, signal, [value, value])
    assert isinstance(begun, Begun)
    assert (begun.signal, begun.value) == (signal, value)
    assert begun.rate_per_s == pytest.approx(0.8 * 100 / INTERVAL_S)
    assert one.is_shedding


def test_a_few_calls_are_let_in_however_slow_the_machine() -> None:
    one = control(least_per_s=10.0)
    assert intervals(one, Signal.LOOP, [5.0] * 8, calls=2) == [None] * 8
    intervals(one := control(least_per_s=10.0), Signal.LOOP, [5.0] * 200)
    assert one.rate_per_s == pytest.approx(10.0)


def test_calls_with_priority_are_let_in_always() -> None:
    one = control()
    intervals(one, Signal.LOOP, [1.0, 1.0])
    at = 2 * INTERVAL_S
    assert not all(one.admits(at) for _ in range(100))
    assert all(one.admits(at, has_priority=True) for _ in range(100))


def test_refused_callers_do_not_come_back_at_once() -> None:
    one = control()
    assert {one.retry_after_s() for _ in range(500)} == set(range(3, 13))
