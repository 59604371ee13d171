"""The files a scenario names, which stand beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from enum import Enum, auto
from pathlib import Path

from domain.yaml_source import Place
from loadtest.scenario.model import Callers, CallerStep, ExpectPrompt, Scenario, Speak


class Kind(Enum):
    """What a file holds."""

    SOUND = auto()
    FLOW = auto()
    SIPP = auto()
    FIELDS = auto()


Named = tuple[Place, Kind, str, Collection[str]]


def named_files(scenario: Scenario) -> Iterator[Named]:
    """Yield where a file is named, what it holds, its name as written, and a sipp file's keys."""
    if scenario.platform.flow:
        yield ("platform", "flow"), Kind.FLOW, scenario.platform.flow, ()
    if scenario.agents is not None and scenario.agents.speak:
        yield ("agents", "speak"), Kind.SOUND, scenario.agents.speak, ()
    for at, callers in enumerate(scenario.callers):
        for step_at, step in enumerate(callers.steps):
            if isinstance(step, ExpectPrompt | Speak) and step.file:
                yield ("callers", at, "steps", step_at, "file"), Kind.SOUND, step.file, ()
        if callers.sipp is not None:
            keys = callers.sipp.keys
            yield ("callers", at, "sipp", "file"), Kind.SIPP, callers.sipp.file, keys
            if callers.sipp.fields:
                yield ("callers", at, "sipp", "fields"), Kind.FIELDS, callers.sipp.fields, keys


def with_whole_paths(scenario: Scenario, folder: Path) -> Scenario:
    """Return the scenario with the paths of its files made absolute."""

    def whole(name: str) -> str:
        return str((folder / name).resolve()) if name else ""

    def step(one: CallerStep) -> CallerStep:
        if not isinstance(one, ExpectPrompt | Speak):
            return one
        return one.model_copy(update={"file": whole(one.file)})

    def callers(one: Callers) -> Callers:
        sipp = one.sipp and one.sipp.model_copy(
            update={"file": whole(one.sipp.file), "fields": whole(one.sipp.fields)}
        )
        return one.model_copy(update={"steps": tuple(map(step, one.steps)), "sipp": sipp})

    agents, platform = scenario.agents, scenario.platform
    return scenario.model_copy(
        update={
            "platform": platform.model_copy(update={"flow": whole(platform.flow)}),
            "callers": tuple(map(callers, scenario.callers)),
            "agents": agents and agents.model_copy(update={"speak": whole(agents.speak)}),
        }
    )
