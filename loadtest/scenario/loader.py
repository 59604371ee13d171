"""From a YAML file to a scenario: read, check, and report every fault with its line."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from domain.document_problems import (
    Problem,
    UnreadableError,
    read_document,
    validation_problems,
)
from domain.failures import Code, PlatformError
from domain.words import Words
from loadtest.scenario.checks import Check
from loadtest.scenario.files import with_whole_paths
from loadtest.scenario.model import Scenario
from loadtest.scenario.smoke import smoke_form

_MAX_FILE_BYTES = 1024 * 1024
_MOST_VALUES = 100_000


class ScenarioError(PlatformError):
    """A scenario that cannot be played, with every fault found in it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__(Code.CONFIG_INVALID, "\n".join(str(problem) for problem in problems))


def load_scenario(
    path: Path, *, smoke: bool = False, figures: Collection[str] | None = None
) -> Scenario:
    """Read and check a scenario; with `smoke`, in its small form.

    `figures` are the names thresholds may use, None when they are not known here. Paths in the
    result are absolute. Raises ScenarioError with all of the file's faults.
    """
    file = str(path)
    try:
        source = read_document(
            path,
            max_bytes=_MAX_FILE_BYTES,
            most_values=_MOST_VALUES,
            name=Words("场景文件的路径", "the scenario's path"),
        )
    except UnreadableError as error:
        raise ScenarioError([error.problem]) from None
    if not isinstance(source.data, dict):
        reason = Words("文件不是“名字: 内容”的结构", "the file does not hold `name: value` lines")
        remedy = Words("见 docs/loadtest.md 的例子", "see the example in docs/loadtest.md")
        raise ScenarioError([Problem(file, 1, "", reason, remedy)])
    try:
        scenario = Scenario.model_validate(source.data)
    except ValidationError as error:
        raise ScenarioError(validation_problems(error, source, file, Scenario)) from None
    problems = Check(scenario, source, path, figures).problems()
    if problems:
        raise ScenarioError(problems)
    whole = with_whole_paths(scenario, path.resolve().parent)
    return smoke_form(whole) if smoke else whole
