from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cti.call import JsonValue
from ivr.expressions import Expression, Template

DATA: dict[str, Any] = {
    "bill": {"amount": "128.56", "usage": 236, "paid": True, "month": None},
    "items": [{"area": "历下"}, {"area": "市中"}],
    "name": "王芳",
    "zero": 0,
}


def lookup(name: str) -> JsonValue:
    found: JsonValue = DATA.get(name)
    return found


def value(source: str) -> JsonValue:
    return Expression.parse(source).evaluate(lookup)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("bill.amount > 100", True), ("bill.amount > 128.56", False),
        ('bill.amount == "128.56"', True), ("bill.usage == 236", True),
        ('bill.usage == "236"', True),
        ("bill.paid and not zero", True), ("zero or name", True), ("items[1].area", "市中"),
        ("items[9].area", None), ('bill["usage"]', 236),
        ("missing.deep.path", None), ("missing > 1", False), ("missing == null", True),
        ("bill.paid == true", True), ("name < 3", False), ('"王" in name', True),
        ('name in ["李强", "王芳"]', True), ("bill.usage not in [1, 236.0]", False),
        ('"usage" in bill', True), ("1 in zero", False), ("bill.usage != -1", True),
        ("not (bill.paid and zero)", True), ("2 in [true]", False), ("bill.paid == 1", True),
    ],
)  # fmt: skip
def test_values(source: str, expected: object) -> None:
    assert value(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "", "  ", "1 +", "f(1)", "a.b()", "lambda: 1", "[x for x in y]", "a + b", "a if b else c",
        "a := 1", "a[b]", "a[1:2]", "{1: 2}", "f'{a}'", "a is b", "1 < a < 3", "b'x'", "...", "*a",
        "await a", "yield", "(" * 200, "-" * 250 + "a", "not " * 70 + "(", "1j", "a" * 301,
        "__import__('os')", "~a", "-a",
    ],
)  # fmt: skip
def test_all_else_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Expression.parse(source)


@given(st.text(max_size=80))
def test_no_text_breaks_the_parser(text: str) -> None:
    with contextlib.suppress(ValueError):
        Expression.parse(text).evaluate(lookup)


@given(
    st.recursive(
        st.sampled_from(["bill.amount", "items[0].area", "zero", "1", "2.5", '"x"', "missing"]),
        lambda inner: st.builds(
            "({} {} {})".format,
            inner,
            st.sampled_from(["and", "or", "==", "<", ">=", "in", "not in"]),
            inner,
        ),
        max_leaves=8,
    )
)
def test_whatever_parses_evaluates(source: str) -> None:
    expression = Expression.parse(source)
    expression.evaluate(lookup)
    expression.evaluate(lambda _: None)


def test_names_are_what_is_read() -> None:
    assert Expression.parse("a.b > 0 and c[0] in [d, true]").names == {"a", "c", "d"}
    assert Template.parse("您{{ a.b | money }}和{{ c }}").names == {"a", "c"}


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        ("您好", "您好"),
        ("{{ name }}", "王芳"),
        ("{{name}}的电费{{ bill.amount | money }}元", "王芳的电费128.56元"),
        ("{{ missing }}-{{ bill.paid }}-{{ bill.usage }}", "-true-236"),
    ],
)
def test_templates(source: str, rendered: str) -> None:
    assert Template.parse(source).render(lookup) == rendered


def test_a_template_of_one_hole_keeps_the_type() -> None:
    assert Template.parse("{{ bill.usage }}").value(lookup) == 236
    assert Template.parse(" {{ bill.usage }}").value(lookup) == " 236"


@pytest.mark.parametrize("source", ["{{ a", "a }}", "{{ }}", "{{ a | shout }}", "{{ {{ a }} }}"])
def test_bad_templates_are_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Template.parse(source)
