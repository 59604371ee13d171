"""Every fault of a configuration file in words for who edits it, with file, line and path."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from domain.validation_words import validation_words
from domain.words import Words
from domain.yaml_source import Place, YamlSource


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a document, in words for the person who edits it."""

    file: str
    line: int
    path: str
    reason: Words
    remedy: Words

    def __str__(self) -> str:
        place = f" [{self.path}]" if self.path else ""
        return (
            f"{self.file}:{self.line}: 错误{place} {self.reason.zh}。改法:{self.remedy.zh}。\n"
            f"    error{place}: {self.reason.en}. Remedy: {self.remedy.en}."
        )


_MISSING = Words("缺少此项", "the field is missing"), Words("补上它", "add it")
_UNKNOWN = (
    Words("没有这一项", "there is no such field"),
    Words("删去它,或改正拼写", "remove it or correct its spelling"),
)


def validation_problems(error: ValidationError, source: YamlSource, file: str) -> list[Problem]:
    """Translate pydantic's errors."""
    problems: dict[Place, Problem] = {}
    for fault in error.errors(include_url=False):
        place = _written(source, fault)
        if place in problems:
            continue  # one problem a place, though each member of a union complains
        reason, remedy = _words(fault)
        problems[place] = Problem(file, source.line(place), place_text(place), reason, remedy)
    return list(problems.values())


def _words(fault: ErrorDetails) -> tuple[Words, Words]:
    if fault["type"] == "missing":
        return _MISSING
    return _UNKNOWN if fault["type"] == "extra_forbidden" else validation_words(fault)


def _written(source: YamlSource, fault: ErrorDetails) -> Place:
    """Drop what pydantic adds to a location (tags of unions) and the document does not hold."""
    place: Place = ()
    *inside, last = fault["loc"] or ("",)
    for part in inside:
        if source.has((*place, part)):
            place = (*place, part)
    is_written = source.has((*place, last)) or fault["type"] == "missing"
    return (*place, last) if is_written else place


def place_text(place: Place) -> str:
    """Write a place as people do: `tenants[0].queues[2].name`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
