"""The live view: a board on a terminal, and lines where there is none."""

from __future__ import annotations

import io

from rich.console import Console

from loadtest.figures.names import FIGURES, figure
from loadtest.figures.tally import Tally
from loadtest.live import LiveView, phase
from loadtest.measured_run import Progress
from loadtest.scenario.model import Callers, Registrations, Scenario, Steady, Threshold
from loadtest.summary import shown, summary, verdict
from tests.loadtest.figures.known import Clock, known_looks, known_report, known_tally

_SCENARIO = Scenario(
    name="[bold]known", duration_s=12, warm_up_s=2, callers=(Callers(arrival=Steady(per_s=1)),)
)


def _progress(elapsed_s: float = 10) -> Progress:
    tally, readings = known_tally(Clock())
    return Progress(_SCENARIO, tally, readings[:-1], known_looks(), elapsed_s)


def _printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_without_a_terminal_a_line_is_written_every_few_seconds() -> None:
    console = Console(file=io.StringIO(), width=200)
    with LiveView(console) as view:
        for elapsed_s in (0, 1, 4.9, 5, 6):
            view.show(_progress(elapsed_s))
    lines = _printed(console).splitlines()
    assert len(lines) == 2
    assert "完成 done 9" in lines[0]
    assert "失败 failed 1" in lines[0]
    assert "CPU 0.09 + 0.04" in lines[0]


def test_a_terminal_has_a_board_with_causes_and_parts() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    with LiveView(console) as view:
        view.show(_progress())
    text = _printed(console)
    for shown_on_it in ("[bold]known", "503 1", "CPU python", "CPU redis", "generator"):
        assert shown_on_it in text


def test_a_run_that_only_registers_says_so() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.end_registration(clock.now_s - 1)
    scenario = Scenario(name="r", duration_s=5, registrations=Registrations(phones=1, per_s=1))
    console = Console(file=io.StringIO(), width=200)
    with LiveView(console) as view:
        view.show(Progress(scenario, tally, [], [], 0))
    assert "registering and signing in" in _printed(console)
    assert "registered 1" in _printed(console)


def test_the_phases_follow_the_tally() -> None:
    clock = Clock()
    tally = Tally(clock)
    progress = Progress(_SCENARIO, tally, [], [], 0)
    assert phase(progress)[1:] == ("preparing and warming up", None)
    tally.start_counting()
    clock.now_s += 4
    assert phase(progress)[1:] == ("calling", 6)
    tally.stop_offering()
    assert phase(progress)[1:] == ("waiting for the last calls", None)


def test_the_summary_has_each_figure_and_the_verdict_each_threshold() -> None:
    report = known_report(
        Threshold(figure="setup_p99_ms", at_most=1), Threshold(figure="offered", at_least=10)
    )
    console = Console(file=io.StringIO(), width=160)
    console.print(summary(report))
    text = _printed(console)
    assert all(name in text for name in ("failed_by_cause.503", "cpu_redis_ms_per_call", "setup"))
    lines = verdict(report).splitlines()
    assert [line[0] for line in lines] == ["✗", "✓", "✗"]
    assert "1 thresholds do not hold" in lines[-1]


def test_values_are_written_with_their_units() -> None:
    assert shown(figure("failed_share"), 0.001) == "0.100%"
    assert shown(figure("offered"), 9000) == "9,000"
    assert shown(figure("setup_p99_ms"), 12.345) == "12.35 ms"
    assert shown(figure("cpu_cores"), 0.01234) == "0.0123 cores"
    assert all(shown(each, 0.5) for each in FIGURES)
