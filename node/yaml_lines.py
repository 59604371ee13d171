"""Configuration files as data that remembers its lines: every fault names file, line and path.

Every scalar but an empty one stays the text it was written as, and the settings' models convert it:
so 0571 is an area code and 1001 an agent's number without quotes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import yaml
from pydantic import ValidationError

YamlValue = str | None | list["YamlValue"] | dict[str, "YamlValue"]
YamlPath = tuple[str | int, ...]

MAX_NODES = 100_000
MAX_DEPTH = 64

_EMPTY = {"", "~", "null"}
_STANDARD_TAG = "tag:yaml.org,2002:"
_TAGS = {"str", "int", "float", "bool", "null", "seq", "map", "timestamp", "merge", "value"}


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


class YamlSyntaxError(Exception):
    """The text is no YAML that we accept; `line` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        self.line = line
        self.reason = reason
        super().__init__(f"line {line}: {reason}")

    def problem(self, file: str) -> Problem:
        """The fault, as any other fault of the document."""
        return Problem(file, self.line, "", self.reason, "correct the YAML there")


@dataclass(frozen=True, slots=True)
class LinedYaml:
    """The value of a document, and the line of every path in it."""

    value: YamlValue
    lines: Mapping[YamlPath, int] = field(repr=False)

    def line_of(self, path: Sequence[str | int]) -> int:
        """Line of the path, or of its nearest ancestor that is in the document."""
        known = tuple(path)
        while known and known not in self.lines:
            known = known[:-1]
        return self.lines.get(known, 1)


def load_yaml(text: str) -> LinedYaml:
    """Read one YAML document; raises YamlSyntaxError and nothing else."""
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        raise YamlSyntaxError(mark.line + 1 if mark else 1, reason) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise YamlSyntaxError(line, "a control character is not allowed") from None
    except RecursionError:
        raise YamlSyntaxError(1, "the document is too deep") from None
    reader = _Reader()
    value = None if root is None else reader.read(root, ())
    return LinedYaml(value, reader.lines)


class _Reader:
    def __init__(self) -> None:
        self.lines: dict[YamlPath, int] = {}

    def read(self, node: yaml.Node, path: YamlPath) -> YamlValue:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        # An alias repeats its node: without a bound a few lines could mean millions of values.
        if len(self.lines) > MAX_NODES or len(path) > MAX_DEPTH:
            raise YamlSyntaxError(line, "the document is too large or too deep")
        if node.tag.removeprefix(_STANDARD_TAG) not in _TAGS:
            raise YamlSyntaxError(line, f"the tag {node.tag} is not allowed")
        if isinstance(node, yaml.ScalarNode):
            is_plain = not node.style
            return None if is_plain and node.value in _EMPTY else str(node.value)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, at)) for at, item in enumerate(node.value)]
        return self._mapping(node, path)

    def _mapping(self, node: yaml.Node, path: YamlPath) -> dict[str, YamlValue]:
        mapping: dict[str, YamlValue] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlSyntaxError(line, "a key must be plain text")
            key = key_node.value
            if key in mapping:
                raise YamlSyntaxError(line, f"the key {key!r} is given twice")
            self.lines[(*path, key)] = line
            mapping[key] = self.read(value_node, (*path, key))
        return mapping


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


def validation_problems(
    error: ValidationError, document: LinedYaml, file: str, *, below: YamlPath = ()
) -> list[Problem]:
    """Translate pydantic's errors; `below` is where in the document the model began."""
    problems = []
    for fault in error.errors(include_url=False):
        path = _path_in(document, (*below, *fault["loc"]))
        reason, remedy = _REASONS.get(fault["type"], ("", ""))
        if not reason:
            reason = fault["msg"].removeprefix("Value error, ")
        line = document.line_of(path)
        problems.append(Problem(file, line, path_text(path), reason, remedy))
    return problems


def _path_in(document: LinedYaml, location: Sequence[str | int]) -> YamlPath:
    """Drop what pydantic adds to a location (tags of unions) and the document does not hold."""
    path: YamlPath = ()
    for at, part in enumerate(location):
        last = at == len(location) - 1
        if (*path, part) in document.lines or last:
            path = (*path, part)
    return path


def path_text(path: Sequence[str | int]) -> str:
    """Write a path as people do: `tenants[0].queues[2].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
