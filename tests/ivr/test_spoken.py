from __future__ import annotations

from datetime import date, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.spoken import LANGUAGES, Format, speak, vocabulary


def zh(value: object, form: str) -> str:
    return "".join(speak(value, Format(form), "zh") or ["?"])


def en(value: object, form: str) -> str:
    return " ".join(speak(value, Format(form), "en") or ["?"])


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "零"), (2, "二"), (10, "十"), (12, "十二"), (20, "二十"), (100, "一百"),
        (101, "一百零一"),
        (110, "一百一十"), (112, "一百一十二"), (200, "二百"), (1000, "一千"), (1001, "一千零一"),
        (1010, "一千零一十"), (2000, "两千"), (2200, "两千二百"), (10000, "一万"),
        (10001, "一万零一"),
        (10010, "一万零一十"), (10500, "一万零五百"), (12000, "一万二千"), (20000, "两万"),
        (20005, "两万零五"), (100000, "十万"), (105000, "十万五千"), (200000, "二十万"),
        (1000000, "一百万"), (100000000, "一亿"), (200000000, "两亿"), (100000001, "一亿零一"),
        (100010000, "一亿零一万"), (1000000000000, "一万亿"), (1000500000000, "一万零五亿"),
        (-3, "负三"), (0.5, "零点五"), ("3.50", "三点五"), ("12.00", "十二"),
    ],
)  # fmt: skip
def test_mandarin_numbers(number: object, words: str) -> None:
    assert zh(number, "number") == words


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("128.56", "一百二十八元五角六分"), (0, "零元"), (2, "两元"), (12, "十二元"),
        ("0.05", "五分"),
        ("0.2", "两角"), ("10.05", "十元零五分"),
        ("10.50", "十元五角"), ("1.2", "一元二角"),
        ("2000", "两千元"), ("-5", "负五元"), ("1.005", "一元零一分"), ("-0.001", "零元"),
        ("0.02", "两分"),
    ],
)  # fmt: skip
def test_mandarin_money(amount: object, words: str) -> None:
    assert zh(amount, "money") == words


@pytest.mark.parametrize(
    ("value", "form", "words"),
    [
        ("2026-11-21", "date", "二零二六年十一月二十一日"), ("2026-10", "date", "二零二六年十月"),
        ("202610", "date", "二零二六年十月"), ("20261001", "date", "二零二六年十月一日"),
        ("14:05", "time", "十四点零五分"), ("02:00", "time", "两点整"),
        ("08:30", "time", "八点三十分"),
        ("2026-11-21T16:30:00+08:00", "datetime", "二零二六年十一月二十一日十六点三十分"),
        ("2026-11-21T08:30:00Z", "time", "十六点三十分"), ("95598", "digits", "九五五九八"),
        ("13811", "phone", "幺三八幺幺"), ("GD-07", "digits", "GD零七"),
    ],
)  # fmt: skip
def test_mandarin_dates_times_and_digits(value: str, form: str, words: str) -> None:
    assert zh(value, form) == words


@pytest.mark.parametrize(
    ("value", "form", "words"),
    [
        (0, "number", "zero"), (105, "number", "one hundred and five"),
        (1005, "number", "one thousand and five"),
        (234567, "number",
         "two hundred and thirty-four thousand five hundred and sixty-seven"),
        (1000001, "number", "one million and one"),
        (-2.5, "number", "minus two point five"),
        ("128.56", "money", "one hundred and twenty-eight point five six yuan"),
        ("10.50", "money", "ten point five yuan"), (2, "money", "two yuan"),
        ("2026-11-21", "date", "November twenty-first twenty twenty-six"),
        ("2026-10", "date", "October twenty twenty-six"),
        ("2005-03-02", "date", "March second two thousand and five"),
        ("1900-01-31", "date", "January thirty-first nineteen hundred"),
        ("1906-01-31", "date", "January thirty-first nineteen oh six"),
        ("14:05", "time", "two oh five p.m."), ("00:00", "time", "twelve a.m."),
        ("12:30", "time", "twelve thirty p.m."), ("95598", "digits", "nine five five nine eight"),
        ("138", "phone", "one three eight"),
    ],
)  # fmt: skip
def test_english(value: object, form: str, words: str) -> None:
    assert en(value, form) == words


@pytest.mark.parametrize("form", [f for f in Format if f is not Format.TEXT])
@pytest.mark.parametrize(
    "value", [None, True, [], {}, "", "元", "NaN", "Infinity", "9" * 50, "1e99"]
)
def test_what_is_no_value_is_not_spoken(value: object, form: Format) -> None:
    spoken = [speak(value, form, language) for language in LANGUAGES]
    if value in ("1e99", "NaN", "Infinity", "9" * 50) and form in (Format.DIGITS, Format.PHONE):
        assert all(spoken)
    else:
        assert spoken == [None, None]


_DIGIT = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"两": 2}


def _read_mandarin(words: str) -> int:
    """An independent reading of Mandarin numbers."""
    for unit, size in (("万亿", 10**12), ("亿", 10**8), ("万", 10**4)):
        if unit in words:
            # the last unit that is not part of a larger one splits the number
            high, low = words.rsplit(unit, 1) if unit != "万" else words.split(unit, 1)
            return _read_mandarin(high) * size + (_read_mandarin(low) if low else 0)
    total, digit = 0, None
    for char in words:
        if char in _DIGIT:
            digit = _DIGIT[char]
        else:
            total += (1 if digit is None else digit) * {"千": 1000, "百": 100, "十": 10}[char]
            digit = None
    return total + (digit or 0)


@given(st.integers(0, 10**16 - 1))
def test_mandarin_numbers_are_read_back(number: int) -> None:
    words = zh(number, "number")
    assert "零零" not in words
    high, _, low = words.partition("亿")
    if "亿" in words:  # what stands before 亿 may have its own 万
        read = _read_mandarin(high) * 10**8 + (_read_mandarin(low) if low else 0)
    else:
        read = _read_mandarin(words)
    assert read == number


_SMALL = (  # noqa: SIM905 - words read better than quotes
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_SIZES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
          "quadrillion": 10**15}  # fmt: skip


def _read_english(words: str) -> int:
    total, group = 0, 0
    for word in words.replace("-", " ").split():
        if word in _SMALL:
            group += _SMALL.index(word)
        elif word in _TENS:
            group += 20 + 10 * _TENS.index(word)
        elif word == "hundred":
            group *= 100
        elif word in _SIZES:
            total, group = total + group * _SIZES[word], 0
    return total + group


@given(st.integers(0, 10**16 - 1))
def test_english_numbers_are_read_back(number: int) -> None:
    assert _read_english(en(number, "number")) == number


@given(st.integers(0, 10**10))
def test_money_is_read_back(fen: int) -> None:
    words = zh(f"{fen / 100:.2f}" if fen < 10**8 else f"{fen // 100}.{fen % 100:02d}", "money")
    yuan, _, rest = words.rpartition("元")
    value = _read_mandarin(yuan.lstrip("负")) * 100 if yuan else 0
    rest = rest.lstrip("零")
    for char, unit in zip(rest[::2], rest[1::2], strict=True):
        value += _DIGIT[char] * {"角": 10, "分": 1}[unit]
    assert value == fen


@given(st.text(max_size=60), st.sampled_from(list(Format)), st.sampled_from(["zh", "en"]))
def test_no_text_breaks_speaking(text: str, form: Format, language: str) -> None:
    pieces = speak(text, form, language)
    assert pieces is None or all(pieces)


@given(st.dates(date(2026, 1, 1), date(2026, 12, 31)), st.times(), st.integers(0, 9999))
def test_usual_values_are_in_the_vocabulary(day: date, moment: time, number: int) -> None:
    today = date(2026, 6, 30)
    for language in LANGUAGES:
        for form, value in (
            (Format.DATE, day.isoformat()),
            (Format.TIME, moment.isoformat("minutes")),
            (Format.NUMBER, number),
            (Format.MONEY, f"{number}.{number % 100:02d}"),
        ):
            pieces = speak(value, form, language)
            assert pieces is not None
            assert set(pieces) <= vocabulary(form, language, today)
