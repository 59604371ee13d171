"""YAML is read as its author wrote it, with lines, and hostile text is refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.yaml_source import YamlSource, YamlSyntaxError

SCALARS = "[1, -2, 1.10, 0571, 12:30, true, yes, null, ~, '1', 'null', !!str 1, 1e3]"


def test_numbers_are_read_where_json_has_them() -> None:
    assert YamlSource(SCALARS, numbers=True).data == [
        1, -2, 1.1, "0571", "12:30", True, "yes", None, None, "1", "null", "1", "1e3",
    ]  # fmt: skip


def test_without_numbers_every_scalar_stays_what_was_written() -> None:
    assert YamlSource(SCALARS, numbers=False).data == [
        "1", "-2", "1.10", "0571", "12:30", "true", "yes", None, None, "1", "null", "1", "1e3",
    ]  # fmt: skip


def test_keys_are_names() -> None:
    source = YamlSource("{1: a, on: b, no: c}", numbers=True)
    assert source.data == {"1": "a", "on": "b", "no": "c"}


def test_lines_are_of_keys_and_entries_or_of_what_is_around() -> None:
    source = YamlSource("a:\n  b:\n    - x\n    - y\n", numbers=True)
    assert source.line(("a", "b", 1)) == 4
    assert source.line(("a", "b")) == 2
    assert source.line(("a", "b", 7, "c")) == 2
    assert source.line(("z",)) == 1
    assert source.has(("a", "b", 0))
    assert not source.has(("a", "c"))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\na: 2", 2, "given twice"),
        ("a: 1\n? [b]\n: c", 2, "plain text"),
        ("a: 1\nb: }", 2, "not YAML"),
        ("a: 1\nb: \x07", 2, "control character"),
        ("a: !!python/object:os.system x", 1, "tag"),
        ("[" * 100 + "]" * 100, 1, "too deep"),
    ],
)
@pytest.mark.parametrize("numbers", [True, False])
def test_what_is_refused_is_named_with_its_line(
    text: str, line: int, words: str, numbers: bool
) -> None:
    with pytest.raises(YamlSyntaxError, match=words) as caught:
        YamlSource(text, numbers=numbers)
    assert caught.value.line == line
    assert caught.value.reason.zh
    assert caught.value.remedy.zh


FLOW = """\
flow: first
nodes:
  hello:
    kind: play
    text: {zh: 您好，欢迎：请讲。, en: "Hello, and welcome."}
    next: menu
  menu:
    kind: menu
    choices: {"1": bye, "0": bye}
  bye:
    kind: hangup
    text: {zh: 再见。, en: Goodbye.}
"""


@pytest.mark.parametrize(
    ("good", "bad", "line", "reason"),
    [
        ("    kind: play", "\tkind: play", 4, "Tab"),
        ("    kind: hangup", "　　kind: hangup", 11, "全角空格"),
        ("    kind: hangup", "  \u00a0 kind: hangup", 11, "特殊空格"),
        ("kind: menu", "kind：menu", 8, "中文冒号"),
        ("  bye:\n", "  bye ：\n", 10, "中文冒号"),
        ("kind: hangup", "kind:hangup", 11, "没有空格"),
        ("kind: play", "kind play", 4, "没有冒号"),
        ('welcome."}', "welcome.}", 5, "引号没有成对"),
        ('"0": bye}', '"0": bye', 9, "括号没有成对"),
        ("bye, ", "bye，", 9, "中文标点"),
        ("    next: menu", "   next: menu", 6, "缩进"),
        ("  hello:", "  - hello:", 7, "“- ”"),
    ],
)
def test_common_mistakes_are_told_where_they_were_made(
    good: str, bad: str, line: int, reason: str
) -> None:
    assert good in FLOW
    with pytest.raises(YamlSyntaxError) as caught:
        YamlSource(FLOW.replace(good, bad, 1), numbers=True)
    assert reason in caught.value.reason.zh
    assert caught.value.line == line
    assert "YAML" not in caught.value.remedy.zh


def test_aliases_of_aliases_are_bounded() -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(YamlSyntaxError, match="too large"):
        YamlSource("\n".join(lines), numbers=True)


@given(st.text(), st.booleans())
def test_no_text_raises_anything_but_a_syntax_error(text: str, numbers: bool) -> None:
    with suppress(YamlSyntaxError):
        YamlSource(text, numbers=numbers)
