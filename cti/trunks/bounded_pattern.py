"""Regular expressions whose cost is bounded whatever text they meet.

Python's `re` backtracks: a repetition inside of a repetition takes exponential time. Patterns of
the configuration are therefore held to a flat form, and the text they meet to a short length.
"""

from __future__ import annotations

import re

MAX_TEXT_CHARACTERS = 256
_MOST_REPETITIONS = 2
_MOST_OPTIONAL = 4  # each one doubles the ways to match

_ATOM = r"(?:\\[dDwWsS]|\\[^\w\s]|\[\^?[^\[\]\\]+\]|[^\\\[\](){}*+?|^$])"
_REPETITION = r"(?:[*+?]|\{\d{1,2}(?:,\d{0,2})?\})"
_PIECES = rf"(?:{_ATOM}{_REPETITION}?)*"
_FLAT = re.compile(rf"\^?(?:{_PIECES}\({_PIECES}\))?{_PIECES}\$?")
_VARIABLE = re.compile(r"[*+]|\{\d{1,2},\d{0,2}\}")
_ONE_CHARACTER = re.compile(r"\\.|\[\^?[^\[\]\\]+\]")


def check_pattern(text: str) -> None:
    """Raise ValueError unless the pattern is flat: at most one group, two open repetitions."""
    if not _FLAT.fullmatch(text):
        raise ValueError(
            f"{text!r}: only characters, sets, one (group) and repetitions of single characters"
        )
    plain = _ONE_CHARACTER.sub("x", text)
    if len(_VARIABLE.findall(plain)) > _MOST_REPETITIONS or plain.count("?") > _MOST_OPTIONAL:
        raise ValueError(
            f"{text!r}: at most {_MOST_REPETITIONS} of *, + and {{m,n}}, and {_MOST_OPTIONAL} of ?"
        )
    re.compile(text)


def found_by(pattern: re.Pattern[str], text: str) -> str:
    """Return the group, or all of the match where there is none; empty without a match."""
    match = pattern.search(text[:MAX_TEXT_CHARACTERS])
    return "" if match is None else match[pattern.groups]
