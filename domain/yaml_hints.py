"""What people who write no programs get wrong in YAML, found near where the parser gave up.

The parser says "mapping values are not allowed in this context" a line after the mistake. A rule
looks at one line of text; the first that fits the line, or one shortly before it, explains it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from domain.words import Words

_LINES_BEFORE = 2


@dataclass(frozen=True, slots=True)
class Hint:
    """A mistake and how to mend it."""

    line: int
    reason: Words
    remedy: Words


_KEY = r"^\s*(?:- +)?[\w.*#\"'“”-]+"

# Each with what it looks for, in the order in which they are tried on a line.
_RULES: tuple[tuple[re.Pattern[str], Words, Words], ...] = (
    (
        re.compile(r"^ *\t"),
        Words("缩进用了 Tab 键", "the line is indented by a tab"),
        Words("改用空格", "use spaces"),
    ),
    (
        re.compile("^[ ]*[\u00a0\u2000-\u200b\u3000]"),
        Words("缩进用了全角空格或特殊空格", "the line is indented by wide or special spaces"),
        Words("改用普通的半角空格", "use ordinary spaces"),
    ),
    (
        re.compile(_KEY + r"\s*："),
        Words("用了中文冒号“：”", "the colon is a Chinese one (：)"),
        Words("改成英文冒号,后面加一个空格", "write an ASCII colon and a space"),
    ),
    (
        re.compile(r"^\s*(?:- +)?[A-Za-z_]\w*:[^\s/]"),
        Words("冒号后面没有空格", "there is no space after the colon"),
        Words("在冒号后面加一个空格", "put a space after it"),
    ),
    (
        re.compile(r'^[^"#]*"[^"]*(?:"[^"]*"[^"]*)*$'),
        Words("双引号没有成对", "a double quote is missing"),
        Words("补上引号", "add it"),
    ),
    (
        re.compile(r"^\s*(?:- +)?[A-Za-z_]\w* +[^\s:：#][^:：]*$"),
        Words("名字后面没有冒号", "there is no colon after the name"),
        Words("写成“名字: 内容”", "write `name: value`"),
    ),
)
# These hold inside of brackets only: values elsewhere may well be Chinese or go on for lines.
_BRACKET_RULES: tuple[tuple[re.Pattern[str], Words, Words], ...] = (
    (
        re.compile(r"^(?=[^#]*\{)[^#}]*$|^(?=[^#]*\[)[^#\]]*$"),
        Words("括号没有成对", "a closing bracket is missing"),
        Words("补上 } 或 ]", "add } or ]"),
    ),
    (
        re.compile(r"[{\[].*[，：“”]"),
        Words("括号里的分隔符用了中文标点", "Chinese punctuation separates what is in brackets"),
        Words("分隔用英文的逗号、冒号和引号", "use ASCII commas, colons and quotes there"),
    ),
)
_BRACKETS = ("flow mapping", "flow sequence", "flow node")
_DASHES = "'-' indicator"
_INDENT = "block mapping"


def hint_at(text: str, lines: Iterable[int], reason: str) -> Hint | None:
    """Explain an error the parser reports for `lines` (from 1), or return None."""
    written = text.splitlines()
    lines = tuple(lines)
    rules = (*_RULES, *_BRACKET_RULES) if any(word in reason for word in _BRACKETS) else _RULES
    for stop in lines:
        for number in _filled(written, stop):
            for pattern, zh_en, remedy in rules:
                if pattern.search(written[number - 1]):
                    return Hint(number, zh_en, remedy)
    if _DASHES in reason:
        return Hint(
            lines[0],
            Words("“- ”列表和“名字: 内容”混在同一层", "entries with and without a dash are mixed"),
            Words("同一层要么都以“- ”开头,要么都不", "begin all of a level with a dash, or none"),
        )
    if _INDENT in reason:
        return Hint(
            lines[0],
            Words("缩进与上下行不一致", "the indentation does not fit the lines around it"),
            Words("同一层的行左边对齐", "align the lines of a level"),
        )
    return None


def _filled(written: list[str], stop: int) -> list[int]:
    """Return the line and those shortly before it that hold more than a comment."""
    found: list[int] = []
    for number in range(min(stop, len(written)), 0, -1):
        line = written[number - 1].strip()
        if line and not line.startswith("#"):
            found.append(number)
        if len(found) > _LINES_BEFORE:
            break
    return found
