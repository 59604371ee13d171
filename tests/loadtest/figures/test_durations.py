"""How far a share of durations may be off."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.figures.durations import Durations

_SECONDS = st.floats(min_value=1e-6, max_value=1000, allow_nan=False)
_WIDTH = 2 ** (1 / 32)


def _durations(values: list[float]) -> Durations:
    durations = Durations()
    for value in values:
        durations.add(value)
    return durations


@given(st.lists(_SECONDS, min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_a_share_is_never_below_the_true_one_and_a_bin_above_at_most(
    values: list[float], share: float
) -> None:
    true = sorted(values)[math.ceil(share * len(values)) - 1]
    told = _durations(values).share_s(share)
    assert true * (1 - 1e-9) <= told <= true * _WIDTH * (1 + 1e-9)


@given(st.lists(_SECONDS, max_size=100), st.lists(_SECONDS, max_size=100))
def test_what_was_added_since_is_what_was_added(earlier: list[float], later: list[float]) -> None:
    durations = _durations(earlier)
    copy = durations.copy()
    for value in later:
        durations.add(value)
    added = durations.since(copy)
    alone = _durations(later)
    assert added.bins == alone.bins
    assert added.count == alone.count
    assert added.share_s(0.99) == pytest.approx(alone.share_s(0.99), rel=_WIDTH - 1 + 1e-9)


def test_nothing_has_no_durations() -> None:
    nothing = Durations()
    assert (nothing.share_s(0.99), nothing.mean_s, nothing.histogram()) == (0.0, 0.0, [])


def test_a_histogram_counts_each_once() -> None:
    bins = _durations([0.001, 0.001, 5.0]).histogram()
    assert [count for _, count in bins] == [2, 1]
    assert bins[0][0] == pytest.approx(0.001, rel=_WIDTH - 1 + 1e-9)
