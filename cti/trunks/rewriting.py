"""Rewriting of numbers by an ordered list of rules; the first that fits is the one that counts.

A rule's pattern is no regular expression but a dialling pattern, matched from the front in one
pass: digits, `+`, `*` and `#` stand for themselves, `x` for any digit, `[1-35]` for one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DIALLABLE = frozenset("0123456789*#+")
MAX_DIALLED_DIGITS = 32
_DIGITS = frozenset("0123456789")


def parse_pattern(text: str) -> tuple[frozenset[str], ...]:
    """Return what may stand at each place; ValueError for what is no pattern."""
    places: list[frozenset[str]] = []
    at = 0
    while at < len(text):
        character = text[at]
        if character == "[":
            end = text.find("]", at)
            if end < 0:
                raise ValueError(f"{text!r}: a bracket is not closed")
            places.append(_one_of(text[at + 1 : end], text))
            at = end
        elif character in "xX":
            places.append(_DIGITS)
        elif character in DIALLABLE:
            places.append(frozenset(character))
        else:
            raise ValueError(f"{text!r}: {character!r} is no digit, +, *, #, x or [...]")
        at += 1
    return tuple(places)


def _one_of(inside: str, text: str) -> frozenset[str]:
    allowed: set[str] = set()
    at = 0
    while at < len(inside):
        if inside[at] not in _DIGITS:
            raise ValueError(f"{text!r}: only digits stand in brackets, such as [1-35]")
        last = inside[at + 2 : at + 3] if inside[at + 1 : at + 2] == "-" else inside[at]
        if last not in _DIGITS or last < inside[at]:
            raise ValueError(f"{text!r}: {inside!r} is no range of digits")
        allowed.update(d for d in _DIGITS if inside[at] <= d <= last)
        at += 3 if last != inside[at] or inside[at + 1 : at + 2] == "-" else 1
    if not allowed:
        raise ValueError(f"{text!r}: nothing stands in the brackets")
    return frozenset(allowed)


@dataclass(frozen=True, slots=True)
class Rewriting:
    """One rule, ready to use; equal rules are equal."""

    places: tuple[frozenset[str], ...]
    min_length: int
    max_length: int
    strip: int
    prefix: str
    suffix: str

    def fits(self, number: str) -> bool:
        """Tell whether the rule is for this number."""
        if not max(self.min_length, len(self.places)) <= len(number) <= self.max_length:
            return False
        return all(digit in place for digit, place in zip(number, self.places, strict=False))

    def apply(self, number: str) -> str:
        """Return the rewritten number."""
        return f"{self.prefix}{number[self.strip :]}{self.suffix}"


Rewritings = tuple[Rewriting, ...]


def rewritten(rules: Sequence[Rewriting], number: str) -> str:
    """Apply the first rule that fits; without one the number stays as it is.

    So does a number that would become empty or longer than anyone dials.
    """
    for rule in rules:
        if rule.fits(number):
            after = rule.apply(number)
            return after if 0 < len(after) <= MAX_DIALLED_DIGITS else number
    return number


def is_diallable(number: str) -> bool:
    """Tell whether a number holds nothing but digits, `*`, `#` and a leading `+`."""
    if not 0 < len(number) <= MAX_DIALLED_DIGITS or not DIALLABLE.issuperset(number):
        return False
    return "+" not in number[1:] and not _DIGITS.isdisjoint(number)
