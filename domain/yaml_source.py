"""YAML as plain data with the line of every value.

Keys stay what was written (`1`, `on` and `no` are names here, not numbers and truth values).
"""

from __future__ import annotations

import re

import yaml

from domain.words import Words
from domain.yaml_hints import hint_at

YamlValue = str | int | float | bool | None | list["YamlValue"] | dict[str, "YamlValue"]
Place = tuple[str | int, ...]
"""The way to a value from the top: ("nodes", "greeting", "text")."""

# An alias repeats its node: without a bound a few lines could mean millions of values.
_MOST_VALUES = 100_000
_DEEPEST = 64

_STANDARD_TAG = "tag:yaml.org,2002:"
_TAGS = {"str", "int", "float", "bool", "null", "seq", "map", "timestamp", "merge", "value"}
_EMPTY = {"", "~", "null"}
_TRUTH = {"true": True, "True": True, "false": False, "False": False}
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,14})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,14})\.[0-9]{1,15}")


_MEND = Words("改正该处的 YAML 写法", "mend the YAML there")


class YamlSyntaxError(Exception):
    """The text is no YAML that we accept; `line` counts from 1."""

    def __init__(self, line: int, reason: Words, remedy: Words = _MEND) -> None:
        super().__init__(f"line {line}: {reason.en}")
        self.line = line
        self.reason = reason
        self.remedy = remedy


class YamlSource:
    """A parsed document: `data`, and `line(place)` of what stands there.

    With `numbers`, plain scalars are numbers and truth values where JSON has them (0531 and 12:30
    are text), so that an author can tell 1 from "1". Without, every scalar stays the text that was
    written and models convert it: an id of 1.10 is not the same as one of 1.1.
    """

    def __init__(self, text: str, *, numbers: bool, most_values: int = _MOST_VALUES) -> None:
        self._most_values = most_values
        self._lines: dict[Place, int] = {}
        self._numbers = numbers
        try:
            root = yaml.compose(text, Loader=yaml.CSafeLoader)
        except yaml.MarkedYAMLError as error:
            raise _explained(text, error) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, int(error.position)) + 1
            reason = Words("不能有控制字符", "a control character is not allowed")
            raise YamlSyntaxError(line, reason, Words("删去它", "remove it")) from None
        except RecursionError:
            raise YamlSyntaxError(1, Words("嵌套太深", "the document is too deep")) from None
        self.data: YamlValue = None if root is None else self._build(root, ())

    def line(self, place: Place) -> int:
        """Return the line of the value, or of the nearest thing around it."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)

    def has(self, place: Place) -> bool:
        """Tell whether something was written there."""
        return place in self._lines

    def _build(self, node: yaml.Node, place: Place) -> YamlValue:
        line = node.start_mark.line + 1
        self._lines.setdefault(place, line)
        if len(self._lines) > self._most_values or len(place) > _DEEPEST:
            en = "the document is too large or too deep"
            raise YamlSyntaxError(line, Words("文件太大或引用层层嵌套", en))
        if node.tag.removeprefix(_STANDARD_TAG) not in _TAGS:
            reason = Words(f"不能用标签 {node.tag}", f"the tag {node.tag} is not allowed")
            raise YamlSyntaxError(line, reason, Words("删去它", "remove it"))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, (*place, at)) for at, item in enumerate(node.value)]
        return self._mapping(node, place)

    def _mapping(self, node: yaml.Node, place: Place) -> YamlValue:
        mapping: dict[str, YamlValue] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise YamlSyntaxError(line, Words("键必须是一个词", "a key must be plain text"))
            name = str(key.value)
            if name in mapping:
                reason = Words(f"“{name}”重复出现", f"the key {name!r} is given twice")
                raise YamlSyntaxError(line, reason, Words("改名或删去一个", "rename or remove one"))
            self._lines[*place, name] = line
            mapping[name] = self._build(value, (*place, name))
        return mapping

    def _scalar(self, node: yaml.ScalarNode) -> YamlValue:
        text = str(node.value)
        is_quoted = bool(node.style)  # the C parser says "" of a plain scalar
        if is_quoted or node.tag == f"{_STANDARD_TAG}str":
            return text
        if text in _EMPTY:
            return None
        if not self._numbers:
            return text
        if text in _TRUTH:
            return _TRUTH[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        return float(text) if _DECIMAL.fullmatch(text) else text


def _explained(text: str, error: yaml.MarkedYAMLError) -> YamlSyntaxError:
    """Say what the parser found, in the words of who wrote the text where that is possible."""
    lines = [mark.line + 1 for mark in (error.problem_mark, error.context_mark) if mark] or [1]
    found = " ".join(part for part in (error.context, error.problem) if part)
    hint = hint_at(text, lines, found)
    if hint is not None:
        return YamlSyntaxError(hint.line, hint.reason, hint.remedy)
    return YamlSyntaxError(lines[0], Words(f"不是正确的 YAML:{found}", f"not YAML: {found}"))
