"""The platform that a scenario gets of its own."""

from __future__ import annotations

from pathlib import Path

from loadtest.generator.platform import _configuration
from loadtest.runs import load_ports
from loadtest.scenario.model import Scenario


def numbers(root: Path, *dials: dict[str, object]) -> list[str]:
    """The numbers that have a flow where callers dial so."""
    callers = [
        {"arrival": {"kind": "steady", "per_s": 1}, "steps": [{"do": "dial", **dial}]}
        for dial in dials
    ]
    scenario = Scenario.model_validate({"name": "test", "duration_s": 1, "callers": callers})
    (tenant,) = _configuration(scenario, load_ports(), root)["tenants"]
    return [code["code"] for code in tenant["access_codes"]]


def test_numbers_that_callers_dial_are_served(tmp_path: Path) -> None:
    assert numbers(tmp_path, {"number": "95598"}, {"number": "12398"}) == ["12398", "95598"]


def test_a_number_that_nobody_shall_have_is_not(tmp_path: Path) -> None:
    nobody: dict[str, object] = {"number": "00", "expect_status": 404}
    assert numbers(tmp_path, {"number": "95598"}, nobody) == ["95598"]


def test_a_number_that_some_shall_reach_is(tmp_path: Path) -> None:
    refused: dict[str, object] = {"number": "95598", "expect_status": 503}
    assert numbers(tmp_path, refused, {"number": "95598"}) == ["95598"]
