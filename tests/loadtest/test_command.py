"""`cti95598 loadtest`: how it ends, and what it leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from domain.failures import PlatformError
from loadtest.figures.names import FIGURES
from loadtest.figures.report import Report
from loadtest.profile import profiler
from node.cli import app
from tests.demo.test_platform import processes_about

_ROOT = Path(__file__).parents[2]
_TARGETS = _ROOT / "loadtest/targets"
_CALLS = """
name: nobody
duration_s: {duration_s}
callers:
  - arrival: {{kind: steady, per_s: 10}}
    steps:
      - {{do: dial, number: "95598", answer_within_s: 0.2}}
      - {{do: hang_up}}
thresholds:
  - {{figure: {figure}, at_most: 0}}
"""


@pytest.fixture
def nobody() -> Iterator[str]:
    """The address of somebody who never answers."""
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{silent.getsockname()[1]}"


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """One whose name leaves room for those of PostgreSQL's sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _scenario(
    folder: Path, *, figure: str = "failed", duration_s: float = 0.5, more: str = ""
) -> Path:
    file = folder / "scenario.yaml"
    file.write_text(_CALLS.format(figure=figure, duration_s=duration_s) + more)
    return file


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        threading.Event().wait(0.01)


def _invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["loadtest", *map(str, arguments)])
    return result.exit_code, result.output


def test_thresholds_that_do_not_hold_are_status_1_and_the_report_is_written(
    tmp_path: Path, nobody: str
) -> None:
    json, html = tmp_path / "report.json", tmp_path / "report.html"
    status, output = _invoke(
        "run", _scenario(tmp_path), "--at", nobody, "--json", json, "--html", html
    )
    assert status == 1, output
    report = Report.model_validate_json(json.read_text())
    assert not report.holds
    assert report.figures["failed"] == report.figures["offered"] > 0
    assert "cpu_cores" not in report.figures  # whose processes are elsewhere
    assert html.read_text().startswith("<!DOCTYPE html>")
    assert "完成 done" in output  # a line of progress, since this is no terminal
    assert "✗ failed" in output


def test_thresholds_that_hold_are_status_0(tmp_path: Path, nobody: str) -> None:
    scenario = _scenario(tmp_path, figure="completed")
    status, output = _invoke("run", scenario, "--at", nobody, "--quiet")
    assert status == 0, output
    assert "完成 done" not in output
    assert "✓ completed = 0" in output


def test_a_run_ended_by_hand_still_reports(tmp_path: Path, nobody: str) -> None:
    json = tmp_path / "report.json"
    scenario = _scenario(tmp_path, duration_s=3600)
    command = [sys.executable, "-m", "node.cli", "loadtest", "run", str(scenario)]
    with subprocess.Popen(
        [*command, "--at", nobody, "--json", str(json)],
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        text=True,
    ) as run:
        assert run.stdout is not None
        assert any("失败 failed" in line for line in run.stdout)  # it calls
        run.send_signal(signal.SIGINT)
        rest = run.stdout.read()
        assert run.wait() == 130, rest
    assert "ended early" in rest
    assert Report.model_validate_json(json.read_text()).interrupted


@pytest.mark.stores
def test_a_run_ended_by_hand_while_its_platform_starts_leaves_nothing(
    tmp_path: Path, short_folder: Path
) -> None:
    folder, json = short_folder, tmp_path / "report.json"
    scenario = _scenario(tmp_path)
    command = [sys.executable, "-m", "node.cli", "loadtest", "run", str(scenario)]
    with subprocess.Popen(
        [*command, "--json", str(json)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=_ROOT,
        env=os.environ | {"TMPDIR": str(folder)},
        text=True,
    ) as run:
        wait_for(lambda: any(folder.glob("cti95598-load-*/log/serve.log")))
        run.send_signal(signal.SIGINT)
        assert run.stdout is not None
        output = run.stdout.read()
        assert run.wait() == 130, output
    assert "stopped while the platform was starting" in output
    assert "Traceback" not in output
    assert not json.exists()
    assert not processes_about(folder)
    assert not any(folder.iterdir())


def test_a_wrong_scenario_is_status_2_with_its_faults(tmp_path: Path) -> None:
    scenario = _scenario(tmp_path, figure="faled")
    for command in ("run", "check"):
        status, output = _invoke(command, scenario)
        assert status == 2
        assert "faled" in output
        assert "scenario.yaml:10" in output


def test_what_a_strange_platform_has_no_passwords_for_is_refused(
    tmp_path: Path, nobody: str
) -> None:
    scenario = _scenario(tmp_path, more="registrations: {phones: 1, per_s: 1}\n")
    status, output = _invoke("run", scenario, "--at", nobody)
    assert status == 2
    assert "--at can only call" in output


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1:0", ":5060", "a:99999"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, address: str) -> None:
    status, output = _invoke("run", _scenario(tmp_path), "--at", address)
    assert status == 2
    assert "HOST:PORT" in output


def test_a_report_that_could_not_be_written_is_refused_before_the_run(
    tmp_path: Path, nobody: str
) -> None:
    status, output = _invoke(
        "run", _scenario(tmp_path), "--at", nobody, "--json", tmp_path / "none" / "report.json"
    )
    assert status == 2
    assert "no such directory" in output


def test_a_scenario_that_can_be_played_is_status_0(tmp_path: Path) -> None:
    status, output = _invoke("check", _scenario(tmp_path))
    assert status == 0, output
    assert "can be played" in output


@pytest.mark.parametrize(
    ("cause", "remedy"),
    [("no_anser", "did you mean no_answer"), ("xyzzy", "use one of 200, bye_unanswered")],
)
def test_a_cause_that_no_call_fails_by_is_a_fault(tmp_path: Path, cause: str, remedy: str) -> None:
    status, output = _invoke("check", _scenario(tmp_path, figure=f"failed_by_cause.{cause}"))
    assert status == 2
    assert f"scenario.yaml:10: 错误 [thresholds[0].figure] 呼叫不会因“{cause}”失败" in output
    assert f"no call fails by '{cause}'. Remedy: {remedy}" in output
    assert "or a status such as 503" in output


def test_of_several_scenarios_each_wrong_one_is_named(tmp_path: Path) -> None:
    files = []
    for name, figure in (
        ("good", "failed"),
        ("one", "faled"),
        ("fine", "failed"),
        ("two", "ofered"),
    ):
        (tmp_path / name).mkdir()
        files.append(_scenario(tmp_path / name, figure=figure))
    status, output = _invoke("check", *files)
    assert status == 2
    for right in ("good", "fine"):
        assert f"✓ {tmp_path / right}" in output
    for wrong in ("one", "two"):
        assert f"{tmp_path / wrong}/scenario.yaml:10" in output
        assert f"✓ {tmp_path / wrong}" not in output
    assert f"cannot be played: {files[1]}, {files[3]}" in output
    status, output = _invoke("check", files[0], files[2])
    assert (status, "cannot be played" in output) == (0, False), output


def test_all_figures_are_listed_in_the_command_and_in_the_documentation() -> None:
    status, tables = _invoke("figures", "--markdown")
    assert status == 0
    assert all(f"| `{figure.name}` |" in tables for figure in FIGURES)
    assert tables in (_ROOT / "docs/loadtest.md").read_text(encoding="utf-8")
    assert _invoke("figures")[0] == 0


@pytest.mark.peer
def test_the_smoke_form_of_a_target_holds_against_a_platform_of_its_own(tmp_path: Path) -> None:
    json, html = tmp_path / "report.json", tmp_path / "report.html"
    status, output = _invoke(
        "run", _TARGETS / "ivr-caps.yaml", "--smoke", "--json", json, "--html", html
    )
    assert status == 0, output
    report = Report.model_validate_json(json.read_text())
    assert report.smoke
    figures = report.figures
    assert figures["completed"] == figures["offered"] > 0
    assert figures["cpu_python_ms_per_call"] > 0
    assert figures["redis_round_trips_per_call"] > 0
    assert figures["dialogs_max"] > 0
    assert figures["platform_calls_end"] == 0
    assert figures["paced_packets"] > 0


def test_a_profile_without_py_spy_or_of_a_strange_platform_is_refused(
    tmp_path: Path, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("run", _scenario(tmp_path), "--profile", tmp_path / "flame.svg")
    status, output = _invoke(*arguments, "--at", nobody)
    assert (status, "run's own" in output) == (2, True)
    monkeypatch.setattr(profiler, "find_py_spy", lambda: None)
    status, output = _invoke(*arguments)
    assert (status, "pip install py-spy" in output) == (2, True)


async def test_a_profiler_that_cannot_write_says_why(tmp_path: Path) -> None:
    program, is_up = tmp_path / "py-spy", tmp_path / "up"
    os.mkfifo(is_up)
    program.write_text(
        f"#!/bin/sh\ntrap '' INT\necho up > {is_up}\necho Error: Permission denied\nexit 1\n"
    )
    program.chmod(0o700)
    one = profiler.Profiler(program=str(program))
    await one.start(1)
    await asyncio.to_thread(is_up.read_text)  # it takes no signal from now on
    with pytest.raises(PlatformError, match="Permission denied"):
        await one.stop()
