from __future__ import annotations

from pathlib import Path

import pytest

from domain.yaml_source import YamlSource
from ivr.loader import load_file
from ivr.nodes import KINDS
from ivr.problems import Severity
from ivr.spoken import LANGUAGES, Format
from tests.ivr.desk import Desk

BAD = sorted((Path(__file__).parent / "bad").glob("*.yaml"))
QUEUES = {"bill", "fault"}


def _expected(file: Path) -> list[tuple[str, int]]:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    pairs = first.partition("expect:")[2].split(",")
    return sorted((rule.strip(), int(line)) for rule, line in (pair.split("@") for pair in pairs))


@pytest.mark.parametrize("file", BAD, ids=[file.stem for file in BAD])
def test_every_fault_is_found_at_its_line(file: Path) -> None:
    loaded = load_file(file, queues=QUEUES)
    found = sorted((problem.rule, problem.line) for problem in loaded.problems)
    assert found == _expected(file), "\n".join(map(str, loaded.problems))
    assert (loaded.flow is None) == any(problem.is_error for problem in loaded.problems)
    for problem in loaded.problems:
        text = str(problem)
        assert str(file) in text
        assert problem.reason.zh
        assert problem.reason.en
        assert problem.remedy.zh
        assert problem.remedy.en
        assert problem.node in text


def test_remedy_names_what_was_probably_meant() -> None:
    problems = load_file(BAD[0].parent / "unknown_target.yaml").problems
    assert "did you mean hello" in problems[0].remedy.en
    fields = load_file(BAD[0].parent / "unknown_field.yaml").problems
    assert "barge_in" in fields[0].remedy.zh
    assert "did you mean play" in fields[2].remedy.en


def test_all_problems_of_a_broken_flow_come_at_once(tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text(
        "flow: x\nstart: gone\nnodes:\n  a: {kind: play, next: a}\n  b: {kind: menuu}\n"
        "  c: {kind: play, text: 您好, next: nowhere}\n",
        encoding="utf-8",
    )
    rules = {problem.rule for problem in load_file(file).problems}
    assert {"unknown_target", "missing", "kind"} <= rules


def test_queues_are_not_checked_when_their_names_are_not_known() -> None:
    loaded = load_file(BAD[0].parent / "unknown_queue.yaml")
    assert loaded.flow is not None
    assert loaded.problems == []


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"", b"flow: [", b"flow: !!python/object:os.x {}"]
)
def test_bytes_that_are_no_flow_are_a_problem_and_not_an_exception(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "flow.yaml"
    file.write_bytes(content)
    loaded = load_file(file)
    assert loaded.flow is None
    assert loaded.problems[0].severity is Severity.ERROR


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    assert load_file(tmp_path / "none.yaml").problems[0].rule == "yaml"


def test_our_own_flows_are_clean() -> None:
    queues = {"bill", "fault", "general", "complaint"}
    for file in Path("flows").rglob("*.yaml"):
        loaded = load_file(file, queues=queues)
        assert loaded.flow is not None
        assert loaded.problems == []
        assert set(loaded.flow.languages) == set(LANGUAGES)


def test_the_example_of_the_documentation_is_the_file() -> None:
    page = Path("docs/flows.md").read_text(encoding="utf-8")
    example = page.partition("```yaml\n")[2].partition("```")[0]
    file = Path("flows/examples/first.yaml").read_text(encoding="utf-8")
    assert YamlSource(example, numbers=True).data == YamlSource(file, numbers=True).data


def test_the_documentation_names_every_field_and_way_of_reading() -> None:
    page = Path("docs/flows.md").read_text(encoding="utf-8")
    for kind, model in KINDS.items():
        section = page.partition(f"### {kind} ")[2].partition("\n##")[0]
        fields = {info.alias or name for name, info in model.model_fields.items()}
        for field in fields - {"kind", "note"}:
            assert field in section, f"{kind}.{field}"
    for form in Format:
        assert f"`{form}`" in page


async def test_numbers_and_names_need_no_quotes(tmp_path: Path) -> None:
    desk = Desk(
        tmp_path,
        "flow: 95598\nstart: 菜单\nnodes:\n  菜单:\n    kind: menu\n    text: 您好\n"
        "    choices: {1: on, 0: on}\n    exits: {no_input: on, invalid: on}\n"
        "  on: {kind: hangup, text: 再见}\n",
    )
    assert desk.library.get("95598") is not None
    call = await desk.call("1", flow="95598")
    assert call.path == ["菜单", "on"]
