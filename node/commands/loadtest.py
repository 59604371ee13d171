"""`cti95598 loadtest`: play a scenario of load against a platform, and report what came of it."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo.platform import StartError
from domain.failures import PlatformError
from node.commands.serve import allow_open_files

if TYPE_CHECKING:
    # A generator of load is nothing that a platform needs when it starts.
    from loadtest.figures.report import Report
    from loadtest.profile.profiler import Profiler
    from loadtest.scenario.model import Scenario

_NOT_HELD = 1
_NOT_PLAYED = 2
_INTERRUPTED = 130

app = typer.Typer(no_args_is_help=True, help="压力测试 · Put a platform under load and report.")
_console = Console(highlight=False)

ScenarioFile = Annotated[
    Path, typer.Argument(metavar="SCENARIO", help="场景文件 · scenario file (YAML).")
]
Smoke = Annotated[
    bool, typer.Option("--smoke", help="小规模形式,几秒即完 · Its small form, of seconds.")
]


@app.command("run")
def run_command(
    scenario: ScenarioFile,
    smoke: Smoke = False,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="对已运行的平台加压(SIP,UDP) · Load a running platform instead of a new one.",
        ),
    ] = None,
    http: Annotated[
        str,
        typer.Option(
            metavar="URL", help="该平台的 /metrics 所在 · Where that platform's /metrics are."
        ),
    ] = "",
    json: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="写出 JSON 报告 · Write the report as JSON."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="写出网页报告 · Write the report as a page."),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="用 py-spy 画出火焰图(SVG),并按部分列出 CPU · "
            "Draw a flame graph of the platform by py-spy, and tell its CPU by part.",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="只显示结论 · Show the verdict only.")
    ] = False,
) -> None:
    """执行一个场景并给出报告 · Play a scenario and report.

    以 0 结束表示全部指标达标,1 有指标未达标,2 场景有误或无法执行,
    130 被 Ctrl-C 提前结束(报告照常写出;平台尚未就绪时没有报告)。

    Ends with status 0 when all thresholds hold, 1 when one does not, 2 when the scenario is wrong
    or cannot be played, 130 when Ctrl-C ended it early; the report is written then, too,
    unless the platform was still starting.
    """
    from loadtest.measured_run import StoppedBeforeError  # noqa: PLC0415
    from loadtest.scenario.loader import ScenarioError  # noqa: PLC0415

    try:
        plan = _load(scenario, smoke=smoke)
    except ScenarioError as error:
        _refuse(*map(str, error.problems))
    for file in (json, html, profile):
        if file is not None and not file.parent.is_dir():
            _refuse(f"{file.parent}:没有此目录 · there is no such directory")
    allow_open_files()
    try:
        profiler = None if profile is None else _profiler(at)
        report = _play(plan, smoke=smoke, at=at, http=http, profiler=profiler, quiet=quiet)
    except PlatformError as error:
        _refuse(error.detail or str(error))
    except StartError as error:
        _refuse(str(error))
    except StoppedBeforeError:
        typer.echo(
            "平台启动时被中断,没有报告 · stopped while the platform was starting: no report",
            err=True,
        )
        raise typer.Exit(_INTERRUPTED) from None
    _write(report, json, html)
    if profile is not None and profiler is not None:
        _show_profile(report, profiler, profile)
    _show(report, quiet=quiet)
    if report.interrupted:
        raise typer.Exit(_INTERRUPTED)
    raise typer.Exit(0 if report.holds else _NOT_HELD)


@app.command("check")
def check_command(
    scenarios: Annotated[
        list[Path], typer.Argument(metavar="SCENARIO...", help="场景文件 · scenario files (YAML).")
    ],
    smoke: Smoke = False,
) -> None:
    """检查场景文件,一次列出全部问题 · Check scenarios and list all that is wrong with them.

    以 0 结束表示都可以执行,以 2 结束表示有误。
    · Ends with status 0 when all can be played, else 2.
    """
    from loadtest.scenario.loader import ScenarioError  # noqa: PLC0415

    wrong = []
    for file in scenarios:
        try:
            plan = _load(file, smoke=smoke)
        except ScenarioError as error:
            typer.echo("\n".join(map(str, error.problems)), err=True)
            wrong.append(str(file))
        else:
            _console.print(
                f"✓ {file}:场景 {plan.name} 可以执行 · can be played",
                markup=False,
                soft_wrap=True,
            )
    if wrong:
        _refuse(f"✗ 不能执行 · cannot be played: {', '.join(wrong)}")


@app.command("figures")
def figures_command(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="输出 Markdown 表格 · Print Markdown tables.")
    ] = False,
) -> None:
    """报告中各项数据的名称、单位和含义 · What the figures of a report are called and mean."""
    from loadtest.figures.causes import all_causes  # noqa: PLC0415
    from loadtest.figures.names import SECTIONS, markdown_tables  # noqa: PLC0415

    if markdown:
        typer.echo(markdown_tables(), nl=False)
        return
    for section in SECTIONS:
        table = Table("figure", "unit", "含义", "meaning", title=f"{section.zh} · {section.en}")
        for one in section.figures:
            table.add_row(escape(one.name), one.unit, one.zh, one.en)
        _console.print(table)
    causes = Table("failed_by_cause.", "含义", "meaning", title="失败原因 · Causes of failures")
    for name, zh, en in all_causes():
        causes.add_row(name, zh, en)
    _console.print(causes)


def _load(file: Path, *, smoke: bool) -> Scenario:
    """Raise ScenarioError."""
    from loadtest.figures.names import NAMES  # noqa: PLC0415
    from loadtest.scenario.loader import load_scenario  # noqa: PLC0415

    return load_scenario(file, smoke=smoke, figures=NAMES)


def _play(
    plan: Scenario,
    *,
    smoke: bool,
    at: str | None,
    http: str,
    profiler: Profiler | None,
    quiet: bool,
) -> Report:
    import uvloop  # noqa: PLC0415

    from loadtest.generator.platform import own_platform, running_one  # noqa: PLC0415
    from loadtest.live import LiveView  # noqa: PLC0415
    from loadtest.measured_run import measured_run  # noqa: PLC0415

    async def play() -> Report:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        platform: Any = own_platform(plan) if at is None else running_one(_address(at), http)
        with LiveView(Console(highlight=False, quiet=quiet)) as view:
            return await measured_run(
                plan, platform, smoke=smoke, stop=stop, on_second=view.show, profiler=profiler
            )

    if at is not None and (plan.agents is not None or plan.registrations is not None):
        _refuse(
            "--at 只能呼叫:场景中的坐席和注册需要平台的密码\n"
            "    --at can only call: agents and registrations of a scenario need passwords"
        )
    if not quiet:
        where = at or "新启动的平台 · a platform of its own"
        _console.print(f"{plan.name}:{where}", markup=False)
        sys.stdout.flush()
    return uvloop.run(play())


def _profiler(at: str | None) -> Profiler:
    """Raise PlatformError."""
    from loadtest.profile.profiler import Profiler  # noqa: PLC0415

    if at is not None:
        _refuse("--profile 只用于新启动的平台 · is for a platform of the run's own")
    return Profiler()


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        _refuse(f"--at {text}:应写成 HOST:PORT · write HOST:PORT")
    return host.strip("[]"), int(port)


def _write(report: Report, json: Path | None, html: Path | None) -> None:
    from loadtest.report_page.page import page  # noqa: PLC0415

    if json is not None:
        json.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if html is not None:
        html.write_text(page(report), encoding="utf-8")


def _show_profile(report: Report, profiler: Profiler, file: Path) -> None:
    from loadtest.profile.flame import flame_graph  # noqa: PLC0415
    from loadtest.profile.stacks import shares  # noqa: PLC0415

    file.write_text(flame_graph(profiler.stacks, report.scenario.name), encoding="utf-8")
    python_ms = report.figures.get("cpu_python_ms_per_call")
    parts = Table(
        "部分", "part", "%", "ms", title="平台 Python 的 CPU · CPU of the platform's Python"
    )
    for part, share in shares(profiler.stacks).items():
        ms = "–" if python_ms is None else f"{share * python_ms:.2f}"
        parts.add_row(part.zh, part.en, f"{100 * share:.1f}", ms)
    _console.print(parts)


def _show(report: Report, *, quiet: bool) -> None:
    from loadtest.summary import summary, verdict  # noqa: PLC0415

    if not quiet:
        _console.print(summary(report))
    _console.print(verdict(report), markup=False, soft_wrap=True)


def _refuse(*lines: str) -> NoReturn:
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(_NOT_PLAYED)
