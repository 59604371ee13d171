"""When ports without a node are over, on virtual time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cti.media_remote.orphans import SilenceWatch, groups

SILENT_S, MOST_S = 60.0, 14_400.0
BRIDGE = {1: [2], 2: [1]}


def over(
    watch: SilenceWatch, now_s: float, sources: Mapping[int, list[int]] | None = None
) -> set[int]:
    return watch.over(sources or {}, now_s, silent_s=SILENT_S, most_s=MOST_S)


def test_a_port_is_over_when_it_was_silent_for_long() -> None:
    watch = SilenceWatch(since_s=100.0)
    watch.observe({1: 5}, 100.0)
    assert over(watch, 159.9) == set()
    assert over(watch, 160.0) == {1}
    watch.observe({1: 6}, 160.0)
    assert over(watch, 219.9) == set()
    assert watch.silent_s(1, 219.9) == pytest.approx(59.9)
    assert over(watch, 220.0) == {1}


def test_who_was_heard_before_the_first_look_counts_from_that_look() -> None:
    watch = SilenceWatch(since_s=0.0)
    watch.observe({1: 1000}, 300.0)
    assert over(watch, 301.0) == set()
    assert watch.silent_s(1, 301.0) == 1.0
    assert watch.silent_s(7, 301.0) == 0.0, "nothing is known of it"


def test_one_who_talks_keeps_all_who_hear_him() -> None:
    watch = SilenceWatch(since_s=0.0)
    watch.observe({1: 0, 2: 0, 3: 0}, 0.0)
    watch.observe({1: 50, 2: 0, 3: 0}, 60.0)
    assert over(watch, 60.0, BRIDGE) == {3}
    watch.observe({1: 50, 2: 0, 3: 0}, 120.0)
    assert over(watch, 120.0, BRIDGE) == {1, 2, 3}


def test_after_the_longest_time_all_are_over_whoever_talks() -> None:
    watch = SilenceWatch(since_s=1000.0)
    watch.observe({1: 0, 2: 0}, 1000.0)
    watch.observe({1: 9, 2: 9}, 1000.0 + MOST_S)
    assert over(watch, 1000.0 + MOST_S - 0.1, BRIDGE) == set()
    assert over(watch, 1000.0 + MOST_S, BRIDGE) == {1, 2}


def test_ports_that_are_gone_are_forgotten() -> None:
    watch = SilenceWatch(since_s=0.0)
    watch.observe({1: 0, 2: 0}, 0.0)
    watch.observe({2: 0}, 30.0)
    assert over(watch, 100.0, BRIDGE) == {2}
    # A number that comes again is another port.
    watch.observe({1: 0, 2: 0}, 100.0)
    assert over(watch, 100.0) == {2}


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({}, [{1}, {2}, {3}, {4}]),
        ({1: [2]}, [{1, 2}, {3}, {4}]),
        ({1: [2], 2: [3], 4: [3]}, [{1, 2, 3, 4}]),
        ({1: [1], 3: [9], 9: [1, 3]}, [{1}, {2}, {3}, {4}]),
    ],
    ids=["nobody", "one way", "in several steps", "ports that are not there"],
)
def test_groups(sources: dict[int, list[int]], expected: list[set[int]]) -> None:
    assert sorted(map(sorted, groups([1, 2, 3, 4], sources))) == [sorted(each) for each in expected]
