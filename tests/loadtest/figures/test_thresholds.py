"""Thresholds hold, do not hold, and do not hold for want of a figure."""

from __future__ import annotations

import pytest

from loadtest.figures.thresholds import judge
from loadtest.scenario.model import Threshold


@pytest.mark.parametrize(
    ("at_least", "at_most", "holds"),
    [
        (None, 5.0, True),
        (5.0, None, True),
        (5.1, None, False),
        (None, 4.9, False),
        (1.0, 4.0, False),
        (1.0, 9.0, True),
        (None, None, False),
    ],
)
def test_a_bound_is_within(at_least: float | None, at_most: float | None, holds: bool) -> None:
    threshold = Threshold(figure="offered", at_least=at_least, at_most=at_most)
    (judgement,) = judge([threshold], {"offered": 5.0})
    assert judgement.holds is holds
    assert judgement.value == 5.0
    assert judgement.zh
    assert judgement.en


def test_a_figure_that_the_run_has_not_fails() -> None:
    (judgement,) = judge([Threshold(figure="setup_p99_ms", at_most=100)], {"offered": 5.0})
    assert not judgement.holds
    assert judgement.value is None
    assert "no such figure" in judgement.en


def test_a_cause_that_no_call_failed_by_is_none_of_those_offered() -> None:
    threshold = Threshold(figure="failed_by_cause.503", at_most=0)
    assert judge([threshold], {"offered": 5.0})[0].holds
    assert not judge([threshold], {})[0].holds
    assert not judge([threshold], {"offered": 5.0, "failed_by_cause.503": 1.0})[0].holds
