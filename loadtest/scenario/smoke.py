"""The smoke form of a scenario: the same run in a few seconds."""

from __future__ import annotations

from loadtest.scenario.arrival import peak_per_s
from loadtest.scenario.model import (
    Arrival,
    Callers,
    CallerStep,
    Changes,
    Profile,
    Ramp,
    Scenario,
    Stay,
)


def smoke_form(scenario: Scenario) -> Scenario:
    """Return the scenario with its `smoke` changes made; without any it stays as it is."""
    changes = scenario.smoke
    if changes is None:
        return scenario
    shrink = changes.duration_s / scenario.duration_s if scenario.duration_s else 1.0
    agents, registrations = scenario.agents, scenario.registrations
    if agents is not None and changes.agents is not None:
        agents = agents.model_copy(update={"count": changes.agents})
    if registrations is not None:
        fewer = {"phones": changes.phones, "per_s": changes.per_s}
        given = {name: value for name, value in fewer.items() if value is not None}
        registrations = registrations.model_copy(update=given)
    return scenario.model_copy(
        update={
            "duration_s": changes.duration_s,
            "warm_up_s": scenario.warm_up_s * shrink,
            "settle_s": 0.0,
            "callers": tuple(_fewer(one, changes, shrink) for one in scenario.callers),
            "agents": agents,
            "registrations": registrations,
            "thresholds": changes.thresholds,
            "smoke": None,
        }
    )


def _fewer(callers: Callers, changes: Changes, shrink: float) -> Callers:
    at_once = callers.max_at_once if changes.max_at_once is None else changes.max_at_once
    arrival = _shrunk(callers.arrival, changes.per_s, shrink)
    steps = tuple(_shorter(one, changes.longest_hold_s) for one in callers.steps)
    return callers.model_copy(update={"arrival": arrival, "max_at_once": at_once, "steps": steps})


def _shorter(step: CallerStep, longest_s: float | None) -> CallerStep:
    if longest_s is None or not isinstance(step, Stay):
        return step
    up_to_s = None if step.up_to_s is None else min(step.up_to_s, longest_s)
    return step.model_copy(update={"s": min(step.s, longest_s), "up_to_s": up_to_s})


def _shrunk(arrival: Arrival, peak: float | None, shrink: float) -> Arrival:
    share = 1.0 if peak is None or not peak_per_s(arrival) else peak / peak_per_s(arrival)
    match arrival:
        case Ramp():
            ends = {
                "from_per_s": arrival.from_per_s * share, "to_per_s": arrival.to_per_s * share
            }  # fmt: skip
            return arrival.model_copy(update=ends)
        case Profile():
            points = tuple((at_s * shrink, rate * share) for at_s, rate in arrival.points)
            return arrival.model_copy(update={"points": points})
        case _:
            return arrival.model_copy(update={"per_s": arrival.per_s * share})
