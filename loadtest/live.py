"""What is shown while a run goes on: a board on a terminal, a line now and then in a log."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest.figures.names import PARTS
from loadtest.figures.process_watch import Look
from loadtest.figures.series import call_columns, platform_columns
from loadtest.measured_run import Progress

_LINE_EVERY_S = 5.0
_BAR_WIDTH = 30
_MOST_CAUSES = 4

Row = dict[str, float]


class LiveView:
    """Shows a run on a console while its block runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = (
            Live(console=console, auto_refresh=False, transient=True)
            if console.is_terminal
            else None
        )
        self._next_line_s = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Show what the last second brought."""
        if self._live is not None:
            self._live.update(board(progress), refresh=True)
        elif progress.elapsed_s >= self._next_line_s:
            self._next_line_s = progress.elapsed_s + _LINE_EVERY_S
            self._console.print(line(progress), markup=False, highlight=False, soft_wrap=True)


def phase(progress: Progress) -> tuple[str, str, float | None]:
    """Return what is being done, in both languages, and the seconds of it that are left."""
    tally, scenario = progress.tally, progress.scenario
    now_s = tally.clock_s()
    if tally.offered_until_s is not None:
        return "等待通话结束", "waiting for the last calls", None
    if not scenario.callers:
        return "注册与签入", "registering and signing in", None
    if tally.counting_from_s is not None:
        counted_s = scenario.duration_s - scenario.warm_up_s
        return "呼叫", "calling", max(0.0, counted_s - (now_s - tally.counting_from_s))
    return "准备与预热", "preparing and warming up", None


def line(progress: Progress) -> str:
    """Say in one line how it goes."""
    zh, en, left_s = phase(progress)
    calls, platform = _last_second(progress)
    tally = progress.tally
    parts = [
        f"{progress.elapsed_s:6.0f} s  {zh} · {en}",
        f"{calls.get('offered_per_s', 0):.0f}/s",
        f"完成 done {tally.completed}",
        f"失败 failed {tally.failed.total()}",
        f"在途 live {tally.live}",
    ]
    if "setup_p99_ms" in calls:
        parts.append(f"接通 set-up p99 {calls['setup_p99_ms']:.0f} ms")
    if tally.registered or tally.signed_in:
        parts.append(f"注册 registered {tally.registered}  签入 signed in {tally.signed_in}")
    if "cpu_cores" in platform:
        parts.append(f"CPU {platform['cpu_cores']:.2f} + {platform['generator_cpu_cores']:.2f}")
    if left_s is not None:
        parts.append(f"剩余 left {left_s:.0f} s")
    return "  ".join(parts)


def board(progress: Progress) -> RenderableType:
    """Draw all that is known of the last second."""
    zh, en, left_s = phase(progress)
    calls, platform = _last_second(progress)
    title = Text(f"{progress.scenario.name}   {zh} · {en}", style="bold")
    counted_s = progress.scenario.duration_s - progress.scenario.warm_up_s
    table = Table.grid(padding=(0, 2))
    if left_s is not None:
        bar = ProgressBar(total=counted_s, completed=counted_s - left_s, width=_BAR_WIDTH)
        table.add_row("剩余 left", f"{left_s:.0f} s", bar)
    for name, value in _call_rows(progress, calls):
        table.add_row(name, value, "")
    for name, cores in _cores(platform):
        table.add_row(name, f"{cores:.2f}", _core_bar(cores))
    return Group(title, table)


def _call_rows(progress: Progress, calls: Row) -> list[tuple[str, str]]:
    tally = progress.tally
    rows = []
    if progress.scenario.callers:
        rows += [
            ("发起 offered", f"{calls.get('offered_per_s', 0):.1f}/s  {tally.offered}"),
            ("完成 completed", f"{calls.get('completed_per_s', 0):.1f}/s  {tally.completed}"),
            ("失败 failed", _causes(progress)),
            ("在途 live", f"{tally.live}"),
            ("接通 set-up p99", _ms(calls.get("setup_p99_ms"))),
            ("重发 sent again", f"{tally.retransmissions}"),
        ]
        if tally.held_back or tally.late_starts:
            late = f"{tally.held_back} / {tally.late_starts}"
            rows.append(("推迟/迟发 held back/late", late))
    if tally.time_to_agent_s.count:
        rows.append(("至坐席 to agent p99", _ms(calls.get("time_to_agent_p99_ms"))))
    if tally.registered:
        rate = calls.get("registered_per_s", 0)
        rows.append(("注册 registered", f"{rate:.0f}/s  {tally.registered}"))
    if tally.signed_in:
        rate = calls.get("signed_in_per_s", 0)
        rows.append(("签入 signed in", f"{rate:.0f}/s  {tally.signed_in}"))
    return rows


def _causes(progress: Progress) -> str:
    failed = progress.tally.failed
    causes = "  ".join(f"{cause} {count}" for cause, count in failed.most_common(_MOST_CAUSES))
    return f"{failed.total()}  {causes}"


def _cores(platform: Row) -> list[tuple[str, float]]:
    rows = [(f"CPU {part}", platform[f"cpu_{part}_cores"]) for part in PARTS
            if platform.get(f"cpu_{part}_cores") is not None]  # fmt: skip
    rows += [
        (title, platform[name])
        for title, name in (
            ("CPU 发生器 generator", "generator_cpu_cores"),
            ("CPU 其他 others", "others_cpu_cores"),
        )
        if name in platform
    ]
    return rows


def _core_bar(cores: float) -> Text:
    return Text("█" * min(_BAR_WIDTH, round(cores * _BAR_WIDTH / 2)))


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms"


def _last_second(progress: Progress) -> tuple[Row, Row]:
    looks: Sequence[Look] = progress.looks[-3:]
    return (
        _last(call_columns(progress.readings[-2:], 0.0)),
        _last(platform_columns(looks, 0.0)),
    )


def _last(columns: dict[str, list[float | None]]) -> Row:
    return {name: value for name, column in columns.items() if (value := column[-1]) is not None}
