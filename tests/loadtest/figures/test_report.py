"""The figures of a run that is known beforehand."""

from __future__ import annotations

import math
from io import StringIO

import pytest
from rich.console import Console

from loadtest.figures.names import NAMES
from loadtest.figures.platform_figures import platform_figures, slope
from loadtest.figures.report import Report, call_figures, make_report
from loadtest.figures.tally import Tally
from loadtest.report_page.page import page
from loadtest.scenario.model import Callers, Scenario, Sipp, Steady, Threshold
from loadtest.summary import summary
from tests.loadtest.figures.known import (
    MACHINE,
    Clock,
    known_looks,
    known_report,
    known_tally,
    look,
)


def test_calls_are_counted_with_their_rates_and_causes() -> None:
    figures = known_report().figures
    assert (figures["offered"], figures["answered"], figures["completed"]) == (10, 9, 9)
    assert (figures["failed"], figures["failed_by_cause.503"]) == (1, 1)
    assert figures["failed_share"] == pytest.approx(0.1)
    assert figures["counted_s"] == pytest.approx(10)
    assert figures["offered_per_s"] == pytest.approx(1)
    assert figures["completed_per_s"] == pytest.approx(0.9)
    assert figures["drain_s"] == pytest.approx(2)
    assert (figures["live_max"], figures["live_end"]) == (1, 0)


def test_times_and_packets_are_those_of_the_legs() -> None:
    figures = known_report().figures
    assert figures["setup_p99_ms"] == pytest.approx(10, rel=0.03)
    assert figures["setup_max_ms"] == pytest.approx(10)
    assert figures["refusal_max_ms"] == pytest.approx(2)
    assert (figures["rtp_sent"], figures["rtp_received"], figures["rtp_lost"]) == (450, 360, 9)
    assert figures["rtp_lost_share"] == pytest.approx(9 / 369, abs=1e-6)
    assert figures["jitter_max_ms"] == pytest.approx(4)


def test_cost_is_what_was_spent_from_the_warm_up_to_the_last_calls_end() -> None:
    figures = known_report().figures
    # From 100 to 112 s at 90 ms a second, over nine calls.
    assert figures["cpu_ms_per_call"] == pytest.approx(12 * 90 / 9)
    assert figures["cpu_redis_ms_per_call"] == pytest.approx(12 * 30 / 9)
    assert figures["cpu_media_ms_per_call"] == 0
    assert figures["cpu_cores"] == pytest.approx(0.09)
    assert figures["generator_cpu_ms_per_call"] == pytest.approx(12 * 45 / 10)
    assert figures["generator_calls_per_core"] == pytest.approx(10 / (12 * 0.045))
    assert figures["others_cpu_cores"] == pytest.approx(0.045)
    assert figures["steal_share"] == pytest.approx(0.005)


def test_what_the_platform_tells_is_of_the_same_time() -> None:
    figures = known_report().figures
    assert figures["paced_packets"] == 12 * 900
    assert figures["paced_within_1_ms_share"] == pytest.approx(0.9)
    assert figures["paced_within_5_ms_share"] == pytest.approx(0.95)
    assert (figures["skipped_rounds"], figures["dropped_frames"]) == (0, 12 * 2)
    assert figures["loop_delay_mean_ms"] == pytest.approx(2)
    assert figures["loop_delay_p99_ms"] == pytest.approx(10)
    assert figures["row_delay_p99_ms"] == pytest.approx(1000)
    assert figures["redis_round_trips_per_call"] == pytest.approx(12 * 1800 / 9)
    assert (figures["dialogs_max"], figures["dialogs_end"]) == (5, 5)
    assert "timers_max" not in figures  # this platform does not tell


def test_growth_is_told_of_runs_that_are_long_enough() -> None:
    tally, _ = known_tally(Clock())
    assert "resident_mib_growth_per_min" not in platform_figures(tally, known_looks())
    tally.offered_until_s = tally.ended_s = 160
    looks = [
        look(at, cpu_s=at, resident_mib=100 + max(0, 112 - at) + 0.1 * at) for at in range(100, 161)
    ]
    # What the beginning took does not count: the line goes through the last two thirds.
    figures = platform_figures(tally, looks)
    assert figures["resident_mib_growth_per_min"] == pytest.approx(6)
    assert figures["descriptors_growth_per_min"] == 0


def test_what_calls_have_left_behind_is_told_once_all_has_settled() -> None:
    tally, _ = known_tally(Clock())
    # The first call comes at 103, the last one ends at 160.
    looks = [look(at, cpu_s=at, resident_mib=at) for at in range(100, 220)]
    assert "resident_mib_left" not in platform_figures(tally, looks)
    tally.calling_from_s, tally.ended_s, tally.settled_s = 103.5, 160, 205.5
    figures = platform_figures(tally, looks)
    assert figures["resident_mib_left"] == pytest.approx(205 - 103)
    assert figures["resident_mib_end"] == pytest.approx(160)
    assert figures["descriptors_left"] == 0


def test_the_slope_of_one_place_is_none() -> None:
    assert slope([(1, 1), (1, 2)]) == 0
    assert slope([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)


def test_a_run_that_did_not_come_to_its_first_call_has_no_figures() -> None:
    clock = Clock()
    report = make_report(
        Scenario(name="none", duration_s=1, thresholds=(Threshold(figure="offered", at_least=1),)),
        Tally(clock),
        [],
        known_looks(),
        machine=MACHINE,
    )
    assert report.figures == {}
    assert not report.holds


def test_registrations_have_their_rate_and_cost() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.start_counting()
    for _ in range(20):
        begun_s = clock.now_s
        clock.now_s += 0.1
        tally.end_registration(begun_s)
    tally.end_registration(clock.now_s, "403")
    tally.stop_offering()
    tally.stop_counting()
    figures = call_figures(tally, []) | platform_figures(tally, known_looks())
    assert (figures["registered"], figures["registrations_failed"]) == (20, 1)
    assert figures["registered_per_s"] == pytest.approx(10)
    assert figures["registration_p50_ms"] == pytest.approx(100, rel=0.03)
    assert figures["cpu_ms_per_registration"] == pytest.approx(2 * 90 / 20)


def test_every_figure_has_a_documented_name_and_a_finite_value() -> None:
    figures = known_report().figures
    assert not [name for name in figures if name not in NAMES]
    assert all(math.isfinite(value) for value in figures.values())


def test_a_report_reads_back_from_its_file_as_it_was_written() -> None:
    report = known_report(Threshold(figure="failed_share", at_most=0.5))
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_the_series_have_a_row_for_each_second() -> None:
    report = known_report()
    calls, platform = report.calls_each_s, report.platform_each_s
    assert {len(column) for column in calls.values()} == {11}
    assert calls["offered_per_s"][1] == pytest.approx(1)
    assert calls["setup_p99_ms"][1] == pytest.approx(10, rel=0.03)
    assert calls["setup_p99_ms"][-1] is None
    lengths = {len(column) for column in platform.values()}
    assert lengths == {len(platform["t_s"])}
    assert platform["t_s"][-1] == pytest.approx(13)  # a second after the end
    assert platform["cpu_python_cores"][0] == pytest.approx(0.06)
    assert platform["paced_within_5_ms_share"][0] == pytest.approx(0.95)


def test_timers_of_sipp_scenarios_are_figures_and_histograms() -> None:
    tally, readings = known_tally(Clock())
    for ms in (10, 20, 400):
        tally.end_timer("agent_p50", ms / 1000)
    scenario = Scenario(
        name="timers",
        duration_s=10,
        thresholds=(Threshold(figure="rtd_agent_p50_max_ms", at_most=400),),
    )
    report = make_report(scenario, tally, readings, [], machine=MACHINE)
    assert report.holds
    assert report.figures["rtd_agent_p50_p50_ms"] == pytest.approx(20, rel=0.03)
    assert report.figures["rtd_agent_p50_max_ms"] == pytest.approx(400)
    assert sum(report.histograms["rtd_agent_p50"].counts) == 3
    assert all(name in NAMES for name in report.figures)
    told = StringIO()
    Console(file=told, width=200).print(summary(report))
    assert "rtd_agent_p50" in told.getvalue()


def test_what_keywords_stand_for_is_not_in_the_report() -> None:
    sipp = Sipp(file="call.xml", keys={"password": "geheim", "user": "1001"})
    scenario = Scenario(
        name="keys",
        duration_s=10,
        callers=(Callers(arrival=Steady(per_s=1), sipp=sipp), Callers(arrival=Steady(per_s=1))),
    )
    tally, readings = known_tally(Clock())
    report = make_report(scenario, tally, readings, [], machine=MACHINE)
    for text in (report.model_dump_json(), page(report), repr(report)):
        assert "geheim" not in text
        assert "1001" not in text
        assert "password" in text
    assert report.scenario.callers[1] == scenario.callers[1]
    assert sipp.keys["password"] == "geheim"
