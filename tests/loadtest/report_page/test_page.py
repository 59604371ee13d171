"""The page of a report: whole, escaped, with every figure, and asking nothing of anybody."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from loadtest.figures.causes import FAILED_BY_CAUSE
from loadtest.figures.names import SECTIONS
from loadtest.figures.report import Report
from loadtest.report_page.page import page
from loadtest.scenario.model import Threshold
from tests.loadtest.figures.known import known_report

_EMPTY = {"meta", "br"}
_HOLDS = Threshold(figure="failed_share", at_most=0.5)
_MISSED = Threshold(figure="setup_p99_ms", at_most=1)
_NOWHERE = Threshold(figure="time_to_agent_p99_ms", at_most=1)


class _Checker(HTMLParser):
    """Fails on an element that is not closed where it should be; collects what is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _checked(text: str) -> _Checker:
    checker = _Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    return checker


def test_the_page_is_whole_and_loads_nothing() -> None:
    text = page(known_report(_HOLDS, _MISSED))
    checker = _checked(text)
    assert checker.addresses == []
    assert "script" not in checker.tags
    assert not re.search(r"url\(|@import|http-equiv=\"refresh", text)


def test_what_others_wrote_is_shown_and_not_obeyed() -> None:
    report = known_report(_HOLDS, name="</title><img src=x>")
    report.figures[f"{FAILED_BY_CAUSE}<script>x</script>"] = 3
    report.figures["rtd_<script>y</script>_p50_ms"] = 3
    report.histograms["rtd_<script>y</script>"] = report.histograms["setup"]
    text = page(report)
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&lt;b&gt;cpu&lt;/b&gt;" in text
    assert text.count("&lt;script&gt;y&lt;/script&gt;") >= 3
    _checked(text)


def test_every_figure_of_the_run_is_on_the_page() -> None:
    report = known_report()
    text = page(report)
    whole = {
        f"{family.name}_{member.name}": family.name
        for section in SECTIONS
        for family in section.families
        for member in section.members
    }
    for name in report.figures:
        if name.startswith(FAILED_BY_CAUSE):
            assert name.removeprefix(FAILED_BY_CAUSE) in text
        elif name in whole:
            assert f"<code>{whole[name]}_…</code>" in text
        else:
            assert f"<code>{name}</code>" in text


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        ((), "The scenario sets no thresholds"),
        ((_HOLDS,), "All thresholds hold"),
        ((_HOLDS, _MISSED), "1 of 2 thresholds do not hold"),
        ((_HOLDS, _MISSED, _NOWHERE), "2 of 3 thresholds do not hold"),
    ],
)
def test_the_verdict_stands_first(thresholds: tuple[Threshold, ...], words: str) -> None:
    text = page(known_report(*thresholds))
    assert words in text
    assert text.index(words) < text.index("<table")


def test_a_run_that_was_ended_early_is_not_called_good() -> None:
    text = page(known_report(_HOLDS).model_copy(update={"interrupted": True}))
    assert "Ended early" in text
    assert "All thresholds hold" not in text


def test_plots_are_drawn_of_what_the_run_has() -> None:
    text = page(known_report())
    for drawn in (
        "Calls a second", "Set-up time", "Cores kept busy", "Resident memory of the platform",
        "RTP packets sent in time", "Delay of the event loop", "Set-up times",
    ):  # fmt: skip
        assert drawn in text
    assert "Time to the agent" not in text


def test_a_run_without_anything_has_a_page() -> None:
    report = known_report()
    empty = Report.model_validate(
        report.model_dump()
        | {"figures": {}, "calls_each_s": {}, "platform_each_s": {}, "histograms": {}}
    )
    checker = _checked(page(empty))
    assert "svg" not in checker.tags
