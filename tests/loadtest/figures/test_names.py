"""The names of figures: one each, and causes of failures among them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest import generator
from loadtest.figures.causes import CAUSES
from loadtest.figures.names import FIGURES, NAMES, figure

ENDINGS = {"_fail", "_finish", "give_up", "_wait"}
"""The generator's methods that are told the cause of a failure."""


def test_no_two_figures_have_one_name() -> None:
    names = [each.name for each in FIGURES]
    assert len(names) == len(set(names))


def test_every_figure_is_told_in_both_languages() -> None:
    for each in FIGURES:
        assert each.zh
        assert each.en.isascii()


@pytest.mark.parametrize(
    "name",
    [
        "offered",
        "setup_p99_ms",
        "failed_by_cause.200",
        "failed_by_cause.503",
        "failed_by_cause.no_answer",
        "failed_by_cause.unexpected_181",
        "failed_by_cause.unexpected_UPDATE",
        "rtd_1_mean_ms",
        "rtd_to_agent_p99_ms",
    ],
)
def test_a_threshold_may_name_a_figure(name: str) -> None:
    assert name in NAMES
    assert figure(name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "offred",
        "setup_p98_ms",
        "failed_by_cause.",
        "failed_by_cause.no_anser",
        "failed_by_cause.703",
        "failed_by_cause.5030",
        "failed_by_cause.unexpected_UPDAET",
        "rtd_answer",
        "rtd__p99_ms",
        "rtd_answer_p98_ms",
    ],
)
def test_a_threshold_may_not_name_what_no_report_has(name: str) -> None:
    assert name not in NAMES


def test_every_cause_that_a_generator_names_may_be_in_a_threshold() -> None:
    named = set()
    for path in Path(generator.__file__).parent.glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and _name(call) in ENDINGS:
                named |= set(_texts(call)) - {""}
    assert named >= {"no_answer", "recv_timeout", "hung_up_early", "200"}
    assert not {cause for cause in named if f"failed_by_cause.{cause}" not in NAMES}
    assert not set(CAUSES) - named, "causes that nothing fails by"


def _name(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else ""


def _texts(call: ast.Call) -> Iterator[str]:
    """The words among a call's arguments, without conditions and parts of longer ones."""
    for each in call.args:
        choices = [each.body, each.orelse] if isinstance(each, ast.IfExp) else [each]
        for one in choices:
            if isinstance(one, ast.Constant) and isinstance(one.value, str):
                yield one.value
