"""Calls begin as often as the rate says, in order, within the run, and the same way each time."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.scenario.arrival import expected_calls, peak_per_s, start_times_s
from loadtest.scenario.model import Arrival, Poisson, Profile, Ramp, Steady

_rates = st.floats(0.01, 200)
_durations = st.one_of(st.just(0.0), st.floats(0.001, 60))


@st.composite
def _profiles(draw: st.DrawFn) -> Profile:
    seconds = sorted(draw(st.lists(st.floats(0, 90), min_size=2, max_size=6)))
    rates = st.one_of(st.just(0.0), st.floats(0, 200))
    return Profile(kind="profile", points=tuple((at_s, draw(rates)) for at_s in seconds))


_even = st.one_of(
    st.builds(Steady, per_s=_rates),
    st.builds(Ramp, kind=st.just("ramp"), from_per_s=_rates, to_per_s=_rates),
)
_drawn = st.one_of(st.builds(Poisson, kind=st.just("poisson"), per_s=_rates), _profiles())


def times(arrival: Arrival, duration_s: float, seed: int = 1) -> list[float]:
    return list(start_times_s(arrival, duration_s, Random(seed)))


@settings(deadline=None)
@given(st.one_of(_even, _drawn), _durations, st.integers(0, 3))
def test_times_are_in_order_within_the_run_and_the_same_for_a_seed(
    arrival: Arrival, duration_s: float, seed: int
) -> None:
    found = times(arrival, duration_s, seed)
    assert all(0 <= at < duration_s for at in found)
    assert all(a <= b for a, b in pairwise(found))
    assert found == times(arrival, duration_s, seed)


@settings(deadline=None)
@given(_even, _durations, st.floats(0, 1))
def test_even_calls_up_to_any_moment_are_the_integral_of_the_rate(
    arrival: Steady | Ramp, duration_s: float, share: float
) -> None:
    until = share * duration_s
    if isinstance(arrival, Steady):
        integral = arrival.per_s * until
    else:
        slope = (arrival.to_per_s - arrival.from_per_s) / duration_s if duration_s else 0.0
        integral = arrival.from_per_s * until + slope * until**2 / 2
    begun = sum(at < until for at in times(arrival, duration_s))
    assert math.ceil(integral - 1e-6) <= begun <= math.ceil(integral + 1e-6)


@settings(deadline=None)
@given(_drawn, st.floats(0.1, 60))
def test_drawn_calls_are_as_many_as_the_rate_says_within_what_chance_allows(
    arrival: Poisson | Profile, duration_s: float
) -> None:
    mean = expected_calls(arrival, duration_s)
    count = statistics.fmean(len(times(arrival, duration_s, seed)) for seed in range(10))
    assert abs(count - mean) <= 6 * math.sqrt(mean / 10) + 1  # six sigma of a mean of ten


@settings(deadline=None)
@given(_profiles(), st.floats(0, 60))
def test_no_call_begins_while_a_profile_is_at_zero(profile: Profile, duration_s: float) -> None:
    for at in times(profile, duration_s):
        around = [max(a, b) for (a_s, a), (b_s, b) in pairwise(profile.points) if a_s <= at <= b_s]
        outside = profile.points[0] if at < profile.points[0][0] else profile.points[-1]
        assert max([outside[1], *around]) > 0


def test_a_steady_rate_begins_calls_at_the_same_distance() -> None:
    assert times(Steady(per_s=4), 1.0) == [0.0, 0.25, 0.5, 0.75]
    assert len(times(Steady(per_s=49), 60)) == 49 * 60
    assert len(times(Steady(per_s=0.3), 10)) == 3
    assert times(Steady(per_s=10), 0) == []


def test_a_ramp_begins_half_of_its_calls_where_half_of_its_area_is() -> None:
    found = times(Ramp(kind="ramp", from_per_s=1, to_per_s=99), 10)
    assert len(found) == 500
    # rate 1 + 9.8 t: its integral is 250 at 7.0433 s
    assert found[250] == pytest.approx((math.sqrt(1 + 2 * 9.8 * 250) - 1) / 9.8)


def test_poisson_calls_know_nothing_of_each_other() -> None:
    """Counts a second have a variance as large as their mean, distances as large as its square."""
    found = times(Poisson(kind="poisson", per_s=50), 2000, seed=95598)
    seconds = [0] * 2000
    for at in found:
        seconds[int(at)] += 1
    assert statistics.fmean(seconds) == pytest.approx(50, rel=0.02)
    assert statistics.variance(seconds) == pytest.approx(50, rel=0.15)
    distances = [b - a for a, b in pairwise(found)]
    assert statistics.fmean(distances) == pytest.approx(0.02, rel=0.02)
    assert statistics.stdev(distances) == pytest.approx(0.02, rel=0.05)


def test_a_busy_hour_follows_its_points() -> None:
    hour = Profile(kind="profile", points=((10, 0), (20, 200), (20, 50), (30, 50), (40, 0)))
    found = times(hour, 60, seed=7)
    counts = [sum(low <= at < low + 10 for at in found) for low in range(0, 60, 10)]
    assert counts[0] == counts[4] == counts[5] == 0
    expected = (1000, 500, 250)
    assert all(
        abs(n - mean) < 5 * math.sqrt(mean) for n, mean in zip(counts[1:4], expected, strict=True)
    )
    rising = sum(10 <= at < 15 for at in found)
    assert rising == pytest.approx(250, abs=80)
    assert expected_calls(hour, 60) == pytest.approx(1750)
    assert peak_per_s(hour) == 200
