"""Values as words: numbers, money, dates, times and digits in Mandarin and English.

Every function returns pieces: short texts that are said one after the other. The pieces come from a
small closed vocabulary, so that each is synthesised or recorded once and any value is put together
from sound files that lie ready.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from enum import StrEnum
from typing import Protocol
from zoneinfo import ZoneInfo

from ivr.spoken_english import English
from ivr.spoken_mandarin import Mandarin

Pieces = list[str]


class Format(StrEnum):
    """How a value is read: the word after `|` in a text, or `as` of the node `say`."""

    TEXT = "text"
    NUMBER = "number"
    MONEY = "money"
    DATE = "date"
    TIME = "time"
    DATETIME = "datetime"
    DIGITS = "digits"
    PHONE = "phone"


class Words(Protocol):
    """What a language must be able to say."""

    minus: str
    point: str

    def cardinal(self, number: int) -> Pieces:
        """Read 0 to 10^16 - 1."""

    def money(self, yuan: int, fen: int) -> Pieces:
        """Read an amount; `fen` is 0 to 99."""

    def date(self, day: date) -> Pieces:
        """Read year, month and day."""

    def month_of_year(self, year: int, month: int) -> Pieces:
        """Read year and month."""

    def time(self, moment: time) -> Pieces:
        """Read hours and minutes."""

    def digits(self, text: str) -> Pieces:
        """Read digits and Latin letters one by one; all else is left out."""

    def phone(self, text: str) -> Pieces:
        """Read digits the way telephone numbers are read."""


LANGUAGES: dict[str, Words] = {"zh": Mandarin(), "en": English()}

_LIMIT = Decimal(10) ** 16  # beyond 万亿 nobody reads a number as a number
_LONGEST_NUMBER = 40  # characters
_MONTH = re.compile(r"([0-9]{4})-?([0-9]{2})")
_LOCAL_TIME = ZoneInfo("Asia/Shanghai")


def speak(value: object, form: Format, language: str) -> Pieces | None:
    """Return the pieces of `value`, or None where it is no value of that form."""
    if value is None or isinstance(value, bool | list | dict):
        return None
    text = str(value).strip()
    if form is Format.TEXT:
        return [text] if text else None
    return _READERS[form](text, LANGUAGES[language])


def vocabulary(form: Format, language: str, today: date) -> set[str]:
    """Return the pieces that usual values of this form are made of, to have them ready."""
    words = LANGUAGES[language]
    pieces: set[str] = set()
    if form in (Format.NUMBER, Format.MONEY):
        pieces.update((words.minus, words.point))
        for number in (*range(1000), *range(1000, 10_000, 10), 10_005, 10_050, 20_000):
            pieces.update(words.cardinal(number))
        pieces.update(words.digits("0123456789"))
    if form is Format.MONEY:
        for fen in range(100):
            pieces.update(words.money(0, fen), words.money(10, fen))
    if form in (Format.DATE, Format.DATETIME):
        for offset in range(-400, 400):
            day = today + timedelta(days=offset)
            pieces.update(words.date(day), words.month_of_year(day.year, day.month))
    if form in (Format.TIME, Format.DATETIME):
        for minute in range(24 * 60):
            pieces.update(words.time(time(*divmod(minute, 60))))
    if form is Format.DIGITS:
        pieces.update(words.digits("0123456789"))
    if form is Format.PHONE:
        pieces.update(words.phone("0123456789"))
    return pieces


def _decimal(text: str) -> Decimal | None:
    if len(text) > _LONGEST_NUMBER:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number) < _LIMIT else None


def _number(text: str, words: Words) -> Pieces | None:
    number = _decimal(text)
    if number is None:
        return None
    whole, _, fraction = f"{abs(number):f}".partition(".")
    pieces = words.cardinal(int(whole))
    if fraction := fraction[:_LONGEST_NUMBER].rstrip("0"):
        pieces = [*pieces, words.point, *words.digits(fraction)]
    return [words.minus, *pieces] if number < 0 else pieces


def _money(text: str, words: Words) -> Pieces | None:
    amount = _decimal(text)
    if amount is None:
        return None
    fen = int((abs(amount) * 100).to_integral_value(ROUND_HALF_UP))
    if fen >= _LIMIT:
        return None
    pieces = words.money(*divmod(fen, 100))
    return [words.minus, *pieces] if amount < 0 and fen else pieces


def _date(text: str, words: Words) -> Pieces | None:
    if month := _MONTH.fullmatch(text):
        number = int(month[2])
        return words.month_of_year(int(month[1]), number) if 1 <= number <= 12 else None
    moment = _moment(text)
    return None if moment is None else words.date(moment.date())


def _time(text: str, words: Words) -> Pieces | None:
    try:
        return words.time(time.fromisoformat(text))
    except ValueError:
        moment = _moment(text)
        return None if moment is None else words.time(moment.time())


def _datetime(text: str, words: Words) -> Pieces | None:
    moment = _moment(text)
    return None if moment is None else [*words.date(moment.date()), *words.time(moment.time())]


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is None else moment.astimezone(_LOCAL_TIME)
    except (ValueError, OverflowError):
        return None


def _digits(text: str, words: Words) -> Pieces | None:
    return words.digits(text) or None


def _phone(text: str, words: Words) -> Pieces | None:
    return words.phone(text) or None


_READERS: dict[Format, Callable[[str, Words], Pieces | None]] = {
    Format.NUMBER: _number,
    Format.MONEY: _money,
    Format.DATE: _date,
    Format.TIME: _time,
    Format.DATETIME: _datetime,
    Format.DIGITS: _digits,
    Format.PHONE: _phone,
}
