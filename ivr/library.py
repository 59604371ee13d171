"""All flows of a directory, each in its last good version."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import structlog

from domain.words import Words
from ivr.flow import Flow
from ivr.loader import flow_files, load_file
from ivr.problems import Problem, Severity

_log = structlog.get_logger(__name__)


class FlowLibrary:
    """Gives flows by name. `load` may be called again while calls run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._flows: dict[str, Flow] = {}

    def get(self, name: str) -> Flow | None:
        """Return the flow in use; who holds it keeps it whatever is loaded later."""
        return self._flows.get(name)

    def flows(self) -> list[Flow]:
        """Return all flows in use."""
        return list(self._flows.values())

    def load(self, *, queues: Collection[str] | None = None) -> list[Problem]:
        """Read all files; a flow with errors stays as it was, one without a file goes.

        `queues` are the names that exist, None when not known.
        """
        loaded: dict[str, Flow] = {}
        kept: dict[str, Flow] = {}
        problems: list[Problem] = []
        by_file = {flow.file: flow for flow in self._flows.values()}
        for file in flow_files([self.directory]):
            result = load_file(file, queues=queues)
            problems += result.problems
            if result.flow is None:
                former = by_file.get(file) or self._flows.get(result.name)
                if former is not None:
                    kept[former.name] = former
            elif (twin := loaded.get(result.flow.name)) is not None:
                problems.append(_twice(result.flow, twin))
            else:
                loaded[result.flow.name] = result.flow
        self._flows = {**kept, **loaded}
        errors = sum(problem.is_error for problem in problems)
        _log.info("flows loaded", flows=len(self._flows), errors=errors)
        return problems


def _twice(flow: Flow, twin: Flow) -> Problem:
    return Problem(
        Severity.ERROR,
        "flow_twice",
        flow.file,
        flow.source.line(("flow",)),
        "",
        Words(f"流程名“{flow.name}”在 {twin.file} 已有", f"{twin.file} has flow {flow.name!r} too"),
        Words("换一个名字", "choose another name"),
    )
