"""The figures of a run: their names in the JSON file and in thresholds, units and meanings.

`Report` holds no figure that does not stand here, but those of timers that sipp's scenarios name. A
figure without a value in a run, such as the set-up time where no call was answered, is not in its
report.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from loadtest.figures.causes import (
    CAUSES,
    FAILED_BY_CAUSE,
    cause_words,
    is_cause,
    markdown_table,
)

PARTS = ("python", "media", "redis", "postgres", "other")
"""What the platform's CPU time is counted by; `media` are the threads of its engine."""

_FILE = Path(__file__).with_name("names.yaml")


@dataclass(frozen=True, slots=True)
class Figure:
    """What a figure is called, counted in, and means."""

    name: str
    unit: str
    """`share` is of one, not per cent; empty: a count."""
    zh: str
    en: str
    section: str


@dataclass(frozen=True, slots=True)
class Words:
    """Something's name in names of figures, and what it means."""

    name: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Section:
    """Figures that belong together: single ones, or each member of each family."""

    name: str
    zh: str
    en: str
    figures: tuple[Figure, ...]
    families: tuple[Words, ...] = ()
    members: tuple[Words, ...] = ()


def _section(name: str, content: dict[str, Any]) -> Section:
    zh, en = content["title"]
    figures = (*_single(name, content.get("figures", {})), *_families(name, content))
    families = tuple(Words(one, *words) for one, words in content.get("families", {}).items())
    members = tuple(Words(one, *words[1:]) for one, words in content.get("members", {}).items())
    return Section(name, zh, en, figures, families, members)


def _single(section: str, rows: dict[str, list[str]]) -> Iterator[Figure]:
    for name, (unit, zh, en) in rows.items():
        for part in PARTS if "{part}" in name else ("",):
            yield Figure(
                name.format(part=part), unit, zh.format(part=part), en.format(part=part), section
            )


def _families(section: str, content: dict[str, Any]) -> Iterator[Figure]:
    for family, (family_zh, family_en) in content.get("families", {}).items():
        for member, (unit, zh, en) in content["members"].items():
            yield Figure(
                f"{family}_{member}", unit, f"{family_zh}:{zh}", f"{family_en}: {en}", section
            )


_CONTENT: dict[str, dict[str, Any]] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
SECTIONS = tuple(_section(*each) for each in _CONTENT.items())
FIGURES = tuple(figure for section in SECTIONS for figure in section.figures)
DURATIONS = tuple(_CONTENT["times"]["families"])
"""Names of the kinds of durations; a `Tally` has each as `NAME_s`."""
GAUGES = tuple(_CONTENT["held"]["families"])
"""Names of what the platform holds, and must not hold ever more of."""
TIMER = "rtd_"
"""How the names of what timers of sipp's scenarios measured begin, such as `rtd_answer_p99_ms`."""
_TIMER_MEMBERS: dict[str, list[str]] = _CONTENT["times"]["members"]
_TIMER_FIGURE = re.compile(rf"{TIMER}(.+)_({'|'.join(_TIMER_MEMBERS)})")
_BY_NAME = {figure.name: figure for figure in FIGURES}


class _Names(Collection[str]):
    """The names above, those of failures by a cause, and those of timers in sipp's scenarios.

    Statuses and timers are not counted up.
    """

    def __contains__(self, name: object) -> bool:
        if name in _BY_NAME:
            return True
        if not isinstance(name, str):
            return False
        if name.startswith(FAILED_BY_CAUSE):
            return is_cause(name.removeprefix(FAILED_BY_CAUSE))
        return timer_of(name) is not None

    def __iter__(self) -> Iterator[str]:
        yield from _BY_NAME
        yield from (FAILED_BY_CAUSE + cause for cause in CAUSES)

    def __len__(self) -> int:
        return len(_BY_NAME) + len(CAUSES)


NAMES: Collection[str] = _Names()
"""What thresholds may name."""


def timer_of(name: str) -> str | None:
    """Return the timer of a sipp scenario that a figure tells of, None for other figures."""
    found = _TIMER_FIGURE.fullmatch(name)
    return found[1] if found else None


def with_timers(figures: Iterable[str]) -> tuple[Section, ...]:
    """Return all sections, with the timers of sipp's scenarios that are among these figures."""
    timers = sorted({timer for timer in map(timer_of, figures) if timer is not None})
    rows = tuple(Words(TIMER + one, *_timer_words(one)) for one in timers)
    return tuple(
        replace(section, families=section.families + rows) if section.name == "times" else section
        for section in SECTIONS
    )


def _timer_words(timer: str) -> tuple[str, str]:
    return f"sipp 场景计时 {timer}", f"timer {timer} of the sipp scenario"


def figure(name: str) -> Figure:
    """Return what a figure of NAMES is; KeyError of another."""
    if found := _TIMER_FIGURE.fullmatch(name):
        zh, en = _timer_words(found[1])
        unit, member_zh, member_en = _TIMER_MEMBERS[found[2]]
        return Figure(name, unit, f"{zh}:{member_zh}", f"{en}: {member_en}", "times")
    if name.startswith(FAILED_BY_CAUSE):
        zh, en = cause_words(name.removeprefix(FAILED_BY_CAUSE))
        return Figure(name, "", f"失败:{zh}", f"calls that failed: {en}", "calls")
    return _BY_NAME[name]


def markdown_tables() -> str:
    """Return all figures as tables for a page of documentation, a heading before each."""
    lines = []
    for section in SECTIONS:
        lines += [f"**{section.en} · {section.zh}**", ""]
        lines += ["| figure | unit | meaning | 含义 |", "|---|---|---|---|"]
        lines += [f"| `{one.name}` | {one.unit} | {one.en} | {one.zh} |" for one in section.figures]
        lines.append("")
    lines += ["**Causes of failures · 失败原因**", "", markdown_table()]
    return "\n".join(lines)
