"""Every fault of a configuration file in words for who edits it, with file, line and path."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from domain.yaml_source import Place, YamlSource


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a document, in words for the person who edits it."""

    file: str
    line: int
    path: str
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        place = (
            f"{self.file}:{self.line}: {self.path}: " if self.path else f"{self.file}:{self.line}: "
        )
        return place + self.reason + (f"; {self.remedy}" if self.remedy else "")


# What pydantic says, in the words of the person who edits the file, and what to do about it.
_REASONS: dict[str, tuple[str, str]] = {
    "missing": ("the field is missing", "add it"),
    "extra_forbidden": ("there is no such field", "remove it or correct its spelling"),
    "string_type": ("text is expected", "write a text"),
    "int_type": ("a whole number is expected", "write a whole number"),
    "int_parsing": ("a whole number is expected", "write a whole number"),
    "bool_type": ("true or false is expected", "write true or false"),
    "bool_parsing": ("true or false is expected", "write true or false"),
    "list_type": ("a list is expected", "write one entry a line, each behind a dash"),
    "dict_type": ("named fields are expected", "write `name: value` lines, indented"),
    "model_type": ("named fields are expected", "write `name: value` lines, indented"),
    "model_attributes_type": ("named fields are expected", "write `name: value` lines, indented"),
}


def validation_problems(error: ValidationError, source: YamlSource, file: str) -> list[Problem]:
    """Translate pydantic's errors."""
    problems = []
    for fault in error.errors(include_url=False):
        place = _written(source, fault["loc"])
        reason, remedy = _REASONS.get(fault["type"], ("", ""))
        if not reason:
            reason = fault["msg"].removeprefix("Value error, ")
        problems.append(Problem(file, source.line(place), place_text(place), reason, remedy))
    return problems


def _written(source: YamlSource, location: Place) -> Place:
    """Drop what pydantic adds to a location (tags of unions) and the document does not hold."""
    place: Place = ()
    for at, part in enumerate(location):
        last = at == len(location) - 1
        if source.has((*place, part)) or last:
            place = (*place, part)
    return place


def place_text(place: Place) -> str:
    """Write a place as people do: `tenants[0].queues[2].name`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
