"""Plots: round axes, gaps where nothing was measured, peaks that are not averaged away."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.figures.report import Histogram
from loadtest.report_page.plots import Line, Plot, histogram_svg
from loadtest.report_page.scale import Scale, nice_step, nice_top


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_the_axis_ends_above_the_highest_value_and_not_far_above(highest: float) -> None:
    top = nice_top(highest)
    assert highest * (1 - 1e-6) <= top <= highest * 2


@pytest.mark.parametrize(("least", "step"), [(0.03, 0.05), (1, 1), (1.1, 2), (2.1, 2.5), (7, 10)])
def test_steps_are_round(least: float, step: float) -> None:
    assert nice_step(least) == pytest.approx(step)


def test_ticks_lie_on_the_axis() -> None:
    assert Scale(0, 10, 0, 100).ticks() == [0, 2, 4, 6, 8, 10]
    assert Scale(-3, 3, 0, 100).ticks(3) == [-2, 0, 2]
    assert Scale(0.8, 60, 0, 100, is_logarithmic=True).ticks() == [1, 2, 5, 10, 20, 50]
    assert Scale(1, 100, 0, 100, is_logarithmic=True).px(10) == pytest.approx(50)


def _paths(svg: str) -> list[str]:
    return re.findall(r'<path class="line[^"]*" d="([^"]*)"', svg)


def test_a_gap_is_a_gap() -> None:
    svg = Plot("t", "", [0, 1, 2, 3], [Line("a", [1, 2, None, 1])]).svg()
    assert _paths(svg)[0].count("M") == 2


def test_a_line_without_values_is_left_out_and_others_keep_their_colours() -> None:
    svg = Plot("t", "", [0, 1], [Line("none", [0, 0]), Line("some", [1, 2])]).svg()
    assert 'class="line s1"' in svg
    assert 'class="line s0"' not in svg
    assert "none" not in svg


def test_nothing_measured_is_no_plot() -> None:
    assert Plot("t", "", [0, 1], [Line("a", [None, None])]).svg() == ""
    assert Plot("t", "", [], []).svg() == ""
    assert histogram_svg("t", Histogram(upper_ms=[], counts=[]), []) == ""


@pytest.mark.parametrize(("at_most", "highest"), [(True, 100.0), (False, 10.0)])
def test_a_long_run_is_thinned_and_keeps_its_peaks_where_they_matter(
    at_most: bool, highest: float
) -> None:
    values = [0.0] * 4800
    values[2405] = 100.0
    svg = Plot("t", "", list(range(4800)), [Line("a", values, at_most)]).svg()
    points = re.findall(r"[ML]([\d.]+) ([\d.]+)", _paths(svg)[0])
    assert len(points) == 480
    # The axis ends at the highest value shown.
    assert f">{highest:g}</text>" in svg


def test_stacked_areas_lie_upon_each_other() -> None:
    lines = [Line("a", [1, 1]), Line("b", [2, 2])]
    svg = Plot("t", "", [0, 1], lines, is_stacked=True, top=4).svg()
    areas = re.findall(r'<path class="area s(\d)" d="M[\d.]+ ([\d.]+)L', svg)
    heights = {number: float(y) for number, y in areas}
    floor, top = 200.0, 12.0
    assert heights["0"] == pytest.approx(floor - (floor - top) / 4)
    assert heights["1"] == pytest.approx(floor - 3 * (floor - top) / 4)


def test_every_duration_is_in_a_bar() -> None:
    histogram = Histogram(upper_ms=[1.0, 1.02, 50.0], counts=[3, 4, 5])
    svg = histogram_svg("t", histogram, [(10.0, "p50"), (9999.0, "p99")])
    assert [int(count) for count in re.findall(r": (\d+)</title>", svg)] == [7, 5]
    assert "p50" in svg
    assert "p99" not in svg
