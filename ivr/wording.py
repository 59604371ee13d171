"""How written text is cut and respelled before it is synthesised."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from ivr.spoken import LANGUAGES

_NUMBER = re.compile(r"(?<![A-Za-z0-9.])\d+(?:\.\d+)?(?![0-9])")
_YEAR = re.compile(r"(\d{4})年")
_OTHER_LANGUAGE = {
    "zh": ("en", re.compile(r"[A-Za-z][A-Za-z'-]*,?(?: [A-Za-z0-9,.'?!-]+)+")),
    "en": ("zh", re.compile(r"[\u4e00-\u9fff][\u4e00-\u9fff0-9,。、]*")),
}
_SPEAKABLE = re.compile(r"\w")
_FOLD = re.compile(r"\s+(?=[^\x00-\x7f])|(?<=[^\x00-\x7f])\s+|^\s+|\s+$")
_PAUSES = " ,.;:!?，。；：！？、"
_SPELLED_FROM = 5  # a longer number is a service code or an account, read digit by digit


class Piece(NamedTuple):
    """A text that is synthesised as a whole."""

    language: str
    text: str


@lru_cache(maxsize=8192)
def cut(text: str, language: str) -> tuple[Piece, ...]:
    """Return the pieces of a text: a phrase of the other language gets the other voice."""
    other, phrase = _OTHER_LANGUAGE[language]
    pieces: tuple[Piece, ...] = ()
    end = 0
    for match in phrase.finditer(text):
        pieces += _piece(language, text[end : match.start()]) + _piece(other, match[0])
        end = match.end()
    return pieces + _piece(language, text[end:])


def _piece(language: str, text: str) -> tuple[Piece, ...]:
    if not _SPEAKABLE.search(text):
        return ()
    text = _FOLD.sub("", text) if language == "zh" else " ".join(text.split())
    return (Piece(language, _respell(text.lstrip(_PAUSES), language)),)


def _respell(text: str, language: str) -> str:
    words = LANGUAGES[language]
    joint = "" if language == "zh" else " "

    def number(match: re.Match[str]) -> str:
        digits = match[0]
        whole, _, fraction = digits.partition(".")
        if len(whole) >= _SPELLED_FROM or (len(whole) > 1 and whole[0] == "0"):
            return joint.join(words.digits(digits))
        if language != "zh":
            return digits  # the English voice reads these well itself
        pieces = words.cardinal(int(whole))
        return "".join([*pieces, words.point, *words.digits(fraction)] if fraction else pieces)

    if language == "zh":
        text = _YEAR.sub(lambda match: "".join(words.digits(match[1])) + "年", text)
    return _NUMBER.sub(number, text)
