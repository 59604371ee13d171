"""Rules that rewrite numbers, and the form in which numbers outside are dialled."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cti.trunks.bounded_pattern import check_pattern, found_by
from cti.trunks.number_lists import NumberTable, prefix_table
from cti.trunks.outside_number import dial_form, is_mobile
from cti.trunks.rewriting import DIALLABLE, MAX_DIALLED_DIGITS, is_diallable, rewritten
from cti.trunks.settings import NumberRule, OutboundSettings
from domain.failures import Code, PlatformError

SHANGHAI = OutboundSettings(home_area_codes=["021"], allow_international=True)
AT_HOME = prefix_table(["1380000", "1391234*"])

numbers = st.text("0123456789", min_size=1, max_size=15)
affixes = st.text("0123456789*#", max_size=8)


def rule(**fields: object) -> NumberRule:
    return NumberRule.model_validate(fields)


@pytest.mark.parametrize(
    ("rules", "number", "expected"),
    [
        ([{"match": "021", "strip": 3}], "02195598", "95598"),
        ([{"match": "021", "strip": 3}], "01095598", "01095598"),
        ([{"match": "1[3-9]xxxxxxxxx", "prefix": "0"}], "13800000000", "013800000000"),
        ([{"match": "1[3-9]", "min_length": 11, "prefix": "0"}], "138000", "138000"),
        ([{"match": "1[0-25]"}, {"prefix": "9"}], "15", "15"),
        ([{"match": "1[0-25]"}, {"prefix": "9"}], "16", "916"),
        ([{"match": "+86"}, {"match": "+", "strip": 1, "prefix": "00"}], "+4412", "004412"),
        ([{"match": "9", "suffix": "#", "max_length": 5}], "95598", "95598#"),
        ([{"match": "9", "strip": 9}], "95598", "95598"),  # nothing would be left
    ],
)  # fmt: skip
def test_the_first_rule_that_fits_counts(
    rules: list[dict[str, object]], number: str, expected: str
) -> None:
    assert rewritten([rule(**one).rewriting for one in rules], number) == expected


@pytest.mark.parametrize("pattern", ["[", "1[a]", "[]", "1.*", "[5-3]", "12-3", "(1)", "[1-]"])
def test_a_broken_pattern_is_refused_with_words_in_both_languages(pattern: str) -> None:
    with pytest.raises(ValidationError) as caught:
        rule(match=pattern)
    (fault,) = caught.value.errors()
    assert fault["type"] == "explained"
    assert fault["ctx"]["zh"] != fault["ctx"]["en"]


@given(
    st.lists(
        st.builds(
            NumberRule,
            match=st.text("0123456789x", max_size=5),
            strip=st.integers(0, 32),
            prefix=affixes,
            suffix=affixes,
        ),
        max_size=4,
    ),
    numbers,
)
def test_what_comes_out_can_be_dialled(rules: list[NumberRule], number: str) -> None:
    after = rewritten([one.rewriting for one in rules], number)
    assert 0 < len(after) <= MAX_DIALLED_DIGITS
    assert DIALLABLE.issuperset(after)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("13800001111", "13800001111"),  # a mobile of the home area, by its H code
        ("13912345678", "13912345678"),
        ("13700001111", "013700001111"),  # any other gets the long-distance prefix
        ("013700001111", "013700001111"),
        ("013800001111", "13800001111"),
        ("+8613700001111", "013700001111"),
        ("0086 13700001111".replace(" ", ""), "013700001111"),
        ("02161234567", "02161234567"),
        ("01061234567", "01061234567"),
        ("+862161234567", "02161234567"),
        ("+8610 6123-4567".replace(" ", ""), "01061234567"),
        ("61234567", "61234567"),
        ("95598", "95598"),
        ("+8695598", "95598"),
        ("4008895598", "4008895598"),
        ("+864008895598", "4008895598"),
        ("110", "110"),
        ("10086", "10086"),
        ("+442071234567", "00442071234567"),
    ],
)
def test_numbers_outside_are_dialled_by_the_rule_of_the_home_area(
    number: str, expected: str
) -> None:
    assert dial_form(number, SHANGHAI, AT_HOME) == expected


def test_the_home_area_code_can_be_left_out() -> None:
    rules = SHANGHAI.model_copy(update={"home_area_code": "strip"})
    assert dial_form("02161234567", rules, None) == "61234567"
    assert dial_form("01061234567", rules, None) == "01061234567"


@pytest.mark.parametrize(
    ("rules", "number", "is_allowed"),
    [
        ({}, "+442071234567", False),
        ({}, "00442071234567", False),
        ({"allow_international": True}, "+442071234567", True),
        ({"allow_international": True, "forbidden_prefixes": ["00"]}, "+4420", False),
        ({"forbidden_prefixes": ["1390"]}, "01390000000", True),
        ({"forbidden_prefixes": ["1390"]}, "13900000000", False),
        ({"forbidden_prefixes": ["1390"]}, "013900000000", False),
        ({"allowed_prefixes": ["021", "1"]}, "13900000000", True),
        ({"allowed_prefixes": ["021", "1"]}, "01012345678", False),
        ({}, "", False),
        ({}, "alice", False),
        ({}, "0" * 40, False),
        ({}, "123;x=1", True),
        ({}, "++1", False),
    ],
)
def test_what_a_tenant_may_not_call_is_refused(
    rules: dict[str, object], number: str, is_allowed: bool
) -> None:
    settings = OutboundSettings.model_validate(rules)
    if is_allowed:
        assert dial_form(number, settings, None)
        return
    with pytest.raises(PlatformError) as caught:
        dial_form(number, settings, None)
    assert caught.value.code is Code.NUMBER_FORBIDDEN


@given(st.text("+0123456789*#-.() ab", max_size=20), st.sampled_from(["keep", "strip"]))
def test_a_dialled_form_is_diallable_and_stays_as_it_is(number: str, home: str) -> None:
    # "strip" promises it for what is not the home area's: a local number may begin like a mobile.
    rules = SHANGHAI.model_copy(update={"home_area_code": home})
    try:
        dialled = dial_form(number, rules, AT_HOME)
    except PlatformError:
        return
    assert is_diallable(dialled)
    if home == "keep":
        assert dial_form(dialled, rules, AT_HOME) == dialled


def test_mobiles() -> None:
    assert is_mobile("13800000000")
    for other in ("1380000000", "12800000000", "10086", "１３８００００００００"):
        assert not is_mobile(other)


@given(st.lists(st.from_regex(r"[0-9]{1,8}\*?", fullmatch=True), max_size=20), numbers)
def test_a_table_holds_what_a_slow_search_finds(entries: list[str], number: str) -> None:
    found = any(
        number.startswith(entry[:-1]) if entry.endswith("*") else number == entry
        for entry in entries
    )
    assert (number in NumberTable(entries)) == found


@pytest.mark.parametrize(
    "pattern", [r"rn=(\d{3,4})", r"^0?(\d{3})", r"[^;]+;x=(\w+)", "abc", r"\+86(\d+)", ""]
)
def test_flat_patterns_are_taken(pattern: str) -> None:
    check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|aa)+",
        "a*a*a*a*b",
        "(?:x)+",
        "((a))",
        "[",
        r"\1",
        "(?=a)",
        "a{",
        r"\\*\\*\\*a",
        "a?" * 20,
    ],
)
def test_patterns_that_may_take_for_ever_are_refused(pattern: str) -> None:
    with pytest.raises((ValueError, re.error)):
        check_pattern(pattern)


@given(st.from_regex(r"[\\adw+*?{},0-9()\[\]^$.]{0,24}", fullmatch=True))
def test_a_pattern_that_is_taken_is_quick_on_the_worst_text(pattern: str) -> None:
    try:
        check_pattern(pattern)
    except (ValueError, re.error):
        return
    began = time.perf_counter()
    found_by(re.compile(pattern), "a" * 4096)
    assert time.perf_counter() - began < 0.5
