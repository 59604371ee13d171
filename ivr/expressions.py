"""Small expressions over a call's data, and texts with `{{ }}` holes.

A strict subset of Python's expression syntax, compiled to closures: names, `a.b`, `a[0]`,
constants, `and or not`, comparisons and `in`. No calls, no arithmetic, nothing that can loop.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from cti.call import JsonValue
from domain.words import Words
from ivr.problems import model_fault
from ivr.spoken import Format

Lookup = Callable[[str], JsonValue]
"""Gives the value of a variable, None when it is not set."""

_Evaluate = Callable[[Lookup], JsonValue]

_LONGEST = 300
_HOLE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_HOLE_LEFT_OVER = re.compile(r"\{\{|\}\}")


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression and the variables it reads."""

    source: str
    names: frozenset[str]
    evaluate: _Evaluate

    @classmethod
    def parse(cls, source: str) -> Expression:
        """Compile; a fault of the flow's author is a ValueError for pydantic."""
        names: set[str] = set()
        if len(source) > _LONGEST:
            raise _unreadable(f"{source[:20]}…", "too long")
        try:
            tree = ast.parse(source.strip(), mode="eval")
            evaluate = _compile(tree.body, names)
        except SyntaxError as error:
            raise _unreadable(source, error.msg) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise _unreadable(source, str(error)) from None
        return cls(source, frozenset(names), evaluate)

    def is_true(self, lookup: Lookup) -> bool:
        """Evaluate as a condition."""
        return bool(self.evaluate(lookup))

    @classmethod
    def __get_pydantic_core_schema__(cls, _: object, __: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls.parse, core_schema.str_schema())


@dataclass(frozen=True, slots=True)
class Hole:
    """A value inside a text, and how it is read aloud."""

    expression: Expression
    form: Format


@dataclass(frozen=True, slots=True)
class Template:
    """A text with holes: `您{{ bill.month | date }}的电费为{{ bill.amount | money }}`."""

    source: str
    parts: tuple[str | Hole, ...]

    @classmethod
    def parse(cls, source: str) -> Template:
        """Compile; a fault of the flow's author is a ValueError for pydantic."""
        parts: list[str | Hole] = []
        end = 0
        for match in _HOLE.finditer(source):
            parts += [source[end : match.start()], _hole(match[1])]
            end = match.end()
        parts.append(source[end:])
        if any(isinstance(part, str) and _HOLE_LEFT_OVER.search(part) for part in parts):
            raise model_fault(
                "template",
                Words("{{ 与 }} 不成对", "{{ and }} do not match"),
                Words("写成 {{ 变量 }}", "write {{ variable }}"),
            )
        return cls(source, tuple(part for part in parts if part))

    @property
    def names(self) -> frozenset[str]:
        """The variables it reads."""
        holes = (part.expression.names for part in self.parts if isinstance(part, Hole))
        return frozenset().union(*holes)

    def render(self, lookup: Lookup, quote: Callable[[str], str] = str) -> str:
        """Return the text with values put in; `quote` is applied to each value."""
        return "".join(
            part if isinstance(part, str) else quote(as_text(part.expression.evaluate(lookup)))
            for part in self.parts
        )

    def value(self, lookup: Lookup) -> JsonValue:
        """Return the value itself where the text is one hole, else the rendered text."""
        if len(self.parts) == 1 and isinstance(hole := self.parts[0], Hole):
            return hole.expression.evaluate(lookup)
        return self.render(lookup)

    @classmethod
    def __get_pydantic_core_schema__(cls, _: object, __: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls.parse, core_schema.str_schema(coerce_numbers_to_str=True, max_length=4000)
        )


def _unreadable(source: str, reason: str) -> ValueError:
    return model_fault(
        "expression",
        Words(f"看不懂表达式“{source}”({reason})", f"cannot read {source!r} ({reason})"),
        Words(
            "可以用变量、比较 == != < <= > >=、in、and、or、not",
            "use variables, comparisons == != < <= > >=, in, and, or, not",
        ),
    )


def as_text(value: JsonValue) -> str:
    """Return how a value stands in a URL or text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


_FORMS = {form.value: form for form in Format}


def _hole(source: str) -> Hole:
    inside, bar, form = source.rpartition("|")
    if not bar:
        return Hole(Expression.parse(source), Format.TEXT)
    form = form.strip()
    if form not in _FORMS:
        raise model_fault(
            "template",
            Words(f"没有“{form}”这种读法", f"no way of reading is named {form!r}"),
            Words(f"用其中之一:{'、'.join(_FORMS)}", f"use one of {', '.join(_FORMS)}"),
        )
    return Hole(Expression.parse(inside), _FORMS[form])


_CONSTANTS: dict[str, JsonValue] = {"true": True, "false": False, "null": None}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _compile(  # noqa: PLR0911 - one line a form of expression
    node: ast.expr, names: set[str]
) -> _Evaluate:
    match node:
        case ast.Constant(value=str() | int() | float() | bool() | None as value):
            return lambda _: value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return lambda _: -value
        case ast.Name(id=("true" | "false" | "null") as name):
            constant = _CONSTANTS[name]
            return lambda _: constant
        case ast.Name(id=name):
            names.add(name)
            return lambda lookup: lookup(name)
        case ast.Attribute(value=inner, attr=attribute):
            return _member(_compile(inner, names), attribute)
        case ast.Subscript(value=inner, slice=ast.Constant(value=str() | int() as index)):
            return _member(_compile(inner, names), index)
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            negated = _compile(inner, names)
            return lambda lookup: not negated(lookup)
        case ast.BoolOp(op=joint, values=values):
            return _joint(isinstance(joint, ast.And), [_compile(v, names) for v in values])
        case ast.List(elts=values) | ast.Tuple(elts=values):
            items = [_compile(value, names) for value in values]
            return lambda lookup: [item(lookup) for item in items]
        case ast.Compare(left=left, ops=[comparison], comparators=[right]):
            return _comparison(comparison, _compile(left, names), _compile(right, names))
    raise ValueError(f"{ast.unparse(node)}")


def _member(inner: _Evaluate, key: str | int) -> _Evaluate:
    def member(lookup: Lookup) -> JsonValue:
        value = inner(lookup)
        if isinstance(value, dict):
            return value.get(str(key))
        if isinstance(value, list) and isinstance(key, int) and -len(value) <= key < len(value):
            return value[key]
        return None

    return member


def _joint(every: bool, terms: list[_Evaluate]) -> _Evaluate:
    if every:
        return lambda lookup: all(term(lookup) for term in terms)
    return lambda lookup: any(term(lookup) for term in terms)


def _comparison(comparison: ast.cmpop, left: _Evaluate, right: _Evaluate) -> _Evaluate:
    if isinstance(comparison, ast.In | ast.NotIn):
        wanted = isinstance(comparison, ast.In)
        return lambda lookup: _contains(right(lookup), left(lookup)) is wanted
    compare = _COMPARISONS.get(type(comparison))
    if compare is None:
        raise ValueError("is")

    def compared(lookup: Lookup) -> JsonValue:
        a, b = _alike(left(lookup), right(lookup))
        try:
            return bool(compare(a, b))
        except TypeError:  # ordering of unlike things, or of a variable that is not set
            return False

    return compared


def _contains(container: JsonValue, item: JsonValue) -> bool:
    if isinstance(container, str):
        return isinstance(item, str) and item in container
    if isinstance(container, list | dict):
        return any(a == b for a, b in (_alike(item, member) for member in container))
    return False


def _alike(a: JsonValue, b: JsonValue) -> tuple[object, object]:
    """Make numbers of both when one is a number and the other reads as one ("128.56")."""
    if _is_number(a) and isinstance(b, str):
        return a, _to_number(b)
    if isinstance(a, str) and _is_number(b):
        return _to_number(a), b
    return a, b


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _to_number(text: str) -> Decimal | str:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return text if number.is_nan() else number
