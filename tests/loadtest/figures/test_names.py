"""The names of figures: one each, and causes of failures among them."""

from __future__ import annotations

import pytest

from loadtest.figures.names import FIGURES, NAMES, figure


def test_no_two_figures_have_one_name() -> None:
    names = [each.name for each in FIGURES]
    assert len(names) == len(set(names))


def test_every_figure_is_told_in_both_languages() -> None:
    for each in FIGURES:
        assert each.zh
        assert each.en.isascii()


@pytest.mark.parametrize("name", ["offered", "setup_p99_ms", "failed_by_cause.503"])
def test_a_threshold_may_name_a_figure(name: str) -> None:
    assert name in NAMES
    assert figure(name).name == name


@pytest.mark.parametrize("name", ["", "offred", "setup_p98_ms", "failed_by_cause."])
def test_a_threshold_may_not_name_what_no_report_has(name: str) -> None:
    assert name not in NAMES
