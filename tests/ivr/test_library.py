from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ivr.library import FlowLibrary
from node.commands.flow import flow_check
from node.config import DEMO_CONFIG

GOOD = "flow: {name}\nstart: a\nnodes:\n  a: {{kind: hangup, text: {text}}}\n"


def put(directory: Path, file: str, text: str) -> Path:
    path = directory / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_last_good_version_stays(tmp_path: Path) -> None:
    one = put(tmp_path, "one.yaml", GOOD.format(name="one", text="您好再见"))
    two = put(tmp_path, "province/two.yaml", GOOD.format(name="two", text="您好再见"))
    library = FlowLibrary(tmp_path)
    assert library.load() == []
    first, second = library.get("one"), library.get("two")
    assert first is not None
    assert second is not None

    one.write_text("flow: one\nstart: gone\nnodes:\n  a: {kind: hangup, text: 您好}\n")
    two.write_text(GOOD.format(name="two", text="您好下次见"))
    problems = library.load()
    assert [p.rule for p in problems if p.is_error] == ["unknown_target"]
    assert library.get("one") is first
    changed = library.get("two")
    assert changed is not None
    assert changed.version != second.version

    one.write_text("flow: [not yaml")
    assert library.load()[0].rule == "yaml"
    assert library.get("one") is first

    one.unlink()
    assert library.load() == []
    assert library.get("one") is None
    assert [flow.name for flow in library.flows()] == ["two"]


def test_a_queue_that_has_gone_is_named(tmp_path: Path) -> None:
    exits = ", ".join(f"{name}: b" for name in ("served", "timeout", "full", "no_agents", "error"))
    put(
        tmp_path, "one.yaml",
        f"flow: one\nstart: a\nnodes:\n  a: {{kind: queue, queue: bill, exits: {{{exits}}}}}\n"
        "  b: {kind: hangup, text: 再见}\n",
    )  # fmt: skip
    library = FlowLibrary(tmp_path)
    assert not [p for p in library.load(queues={"bill"}) if p.is_error]
    served = library.get("one")
    (problem,) = [p for p in library.load(queues={"fault"}) if p.is_error]
    assert (problem.rule, problem.line, problem.node) == ("unknown_queue", 4, "a")
    assert library.get("one") is served


def test_two_files_cannot_hold_the_same_flow(tmp_path: Path) -> None:
    put(tmp_path, "a/one.yaml", GOOD.format(name="one", text="您好甲"))
    put(tmp_path, "b/one.yaml", GOOD.format(name="one", text="您好乙"))
    library = FlowLibrary(tmp_path)
    (problem,) = library.load()
    assert (problem.rule, problem.file.parent.name, problem.line) == ("flow_twice", "b", 1)
    flow = library.get("one")
    assert flow is not None
    assert flow.file.parent.name == "a"


def test_a_flow_that_takes_another_name_stays_what_it_was(tmp_path: Path) -> None:
    one = put(tmp_path, "one.yaml", GOOD.format(name="one", text="您好甲"))
    put(tmp_path, "two.yaml", GOOD.format(name="two", text="您好乙"))
    library = FlowLibrary(tmp_path)
    assert library.load() == []
    served = {flow.name: flow.version for flow in library.flows()}
    one.write_text(GOOD.format(name="two", text="您好甲"), encoding="utf-8")
    (problem,) = library.load()
    assert (problem.rule, problem.file, problem.line) == ("file_name", one, 1)
    assert {flow.name: flow.version for flow in library.flows()} == served


def test_an_empty_directory_holds_no_flows(tmp_path: Path) -> None:
    library = FlowLibrary(tmp_path)
    assert library.load() == []
    assert library.flows() == []
    (problem,) = FlowLibrary(tmp_path / "none").load()
    assert problem.is_error


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(flow_check)
    return app


def test_command_passes_good_flows(command: typer.Typer) -> None:
    result = CliRunner().invoke(command, ["flows", "flows/95598.yaml"])
    assert result.exit_code == 0, result.output
    assert "流程 95598 可用" in result.output
    assert "flow first is fine" in result.output


def test_command_names_every_fault(command: typer.Typer) -> None:
    result = CliRunner().invoke(command, ["tests/ivr/bad"])
    assert result.exit_code == 1
    assert "tests/ivr/bad/unknown_target.yaml:10: 错误 [hello]" in result.output
    assert "tests/ivr/bad/deaf_loop.yaml:6: 错误 [ask]" in result.output


def test_command_knows_the_queues_of_a_configuration(command: typer.Typer, tmp_path: Path) -> None:
    flows = ["flows", "tests/ivr/bad/unknown_queue.yaml", "--config"]
    result = CliRunner().invoke(command, [*flows, str(DEMO_CONFIG)])
    assert result.exit_code == 1
    assert result.output.count("没有队列") == 1
    result = CliRunner().invoke(command, [*flows, str(put(tmp_path, "c.yaml", "node: n1\n"))])
    assert result.exit_code == 1
    assert "[tenants]: the field is missing" in result.output


def test_command_can_be_strict(command: typer.Typer) -> None:
    warned = ["tests/ivr/bad/unreachable.yaml"]
    assert CliRunner().invoke(command, warned).exit_code == 0
    assert CliRunner().invoke(command, ["--strict", *warned]).exit_code == 1


def test_command_wants_files_and_names_of_their_own(command: typer.Typer, tmp_path: Path) -> None:
    assert CliRunner().invoke(command, [str(tmp_path)]).exit_code == 1
    assert CliRunner().invoke(command, [str(tmp_path / "none")]).exit_code == 2
    put(tmp_path, "a/one.yaml", GOOD.format(name="one", text="您好甲"))
    put(tmp_path, "b/one.yaml", GOOD.format(name="one", text="您好乙"))
    result = CliRunner().invoke(command, [str(tmp_path)])
    assert result.exit_code == 1
    assert "在多个文件中出现" in result.output
