"""YAML as plain data with the line of every value.

Keys stay what was written (`1`, `on` and `no` are names here, not numbers and truth values).
"""

from __future__ import annotations

import re

import yaml

from cti.call import JsonValue

Place = tuple[str | int, ...]
"""The way to a value from the top: ("nodes", "greeting", "text")."""

_MOST_VALUES = 50_000  # far beyond any flow; aliases of aliases reach it and are refused

_TEXT_TAG = "tag:yaml.org,2002:str"
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,14})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,14})\.[0-9]{1,15}")
_CONSTANTS: dict[str, JsonValue] = {
    "": None, "~": None, "null": None, "true": True, "false": False, "True": True, "False": False,
}  # fmt: skip


class SourceError(Exception):
    """The text cannot be read as YAML data."""

    def __init__(self, line: int, zh: str, en: str) -> None:
        super().__init__(en)
        self.line = line
        self.zh = zh
        self.en = en


class Source:
    """A parsed document: `data`, and `line(place)` of what stands there."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Place, int] = {}
        self._count = 0
        try:
            root = yaml.compose(text, Loader=yaml.CSafeLoader)
            self.data: JsonValue = None if root is None else self._build(root, ())
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 0
            problem = error.problem or "YAML"
            raise SourceError(line, f"不是正确的 YAML:{problem}", f"not YAML: {problem}") from None
        except (yaml.YAMLError, RecursionError) as error:
            detail = str(error).splitlines()[0]
            raise SourceError(0, f"不是正确的 YAML:{detail}", f"not YAML: {detail}") from None

    def line(self, place: Place) -> int:
        """Return the line of the value, or of the nearest thing around it."""
        while place not in self._lines and place:
            place = place[:-1]
        return self._lines.get(place, 1)

    def has(self, place: Place) -> bool:
        """Tell whether something was written there."""
        return place in self._lines

    def _build(self, node: yaml.Node, place: Place) -> JsonValue:
        self._count += 1
        line = node.start_mark.line + 1
        self._lines.setdefault(place, line)
        if self._count > _MOST_VALUES:
            raise SourceError(line, "文件太大或引用层层嵌套", "file is too large or aliases nest")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(child, (*place, i)) for i, child in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)  # noqa: S101 - there are three kinds
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> JsonValue:
        result: dict[str, JsonValue] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise SourceError(line, "键必须是一个词", "a key must be one word")
            name = str(key.value)
            if name in result:
                raise SourceError(line, f"“{name}”重复出现", f"{name!r} is given twice")
            self._lines[*place, name] = line
            result[name] = self._build(value, (*place, name))
        return result


def _scalar(node: yaml.ScalarNode) -> JsonValue:
    """Return numbers only where JSON has them: 0531 and 12:30 stay what was written."""
    text: str = node.value
    if node.style or node.tag == _TEXT_TAG:  # the C parser says "" of a plain scalar
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text
