"""Key buffer, collection of digits, and keys in SIP INFO."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cti.call import Collected, CollectEnd
from cti.calls.digits import (
    INFO_TYPE,
    KEYS,
    Collector,
    KeyBuffer,
    info_body,
    info_digit,
    info_duration_ms,
)


def collector(max_digits: int = 3, terminators: str = "#") -> Collector:
    return Collector(
        100.0,
        max_digits=max_digits,
        terminators=terminators,
        first_digit_timeout_ms=5000,
        inter_digit_timeout_ms=3000,
    )


def test_keys_come_out_in_order_and_rubbish_does_not_go_in() -> None:
    keys = KeyBuffer()
    for key in ["1", "x", "", "11", "#", "é"]:
        keys.push(key)
    assert len(keys) == 2
    assert [keys.take(), keys.take(), keys.take()] == ["1", "#", None]
    for _ in range(1000):
        keys.push("5")
    assert len(keys) == 64
    keys.clear()
    assert not keys


def test_first_then_inter_digit_timer() -> None:
    one = collector()
    assert one.deadline == 105.0
    assert one.expired() == Collected("", CollectEnd.FIRST_DIGIT_TIMEOUT)
    assert one.key("1", 104.0) is None
    assert one.deadline == 107.0
    assert one.expired() == Collected("1", CollectEnd.INTER_DIGIT_TIMEOUT)


@given(st.text(alphabet=sorted(KEYS), max_size=12), st.integers(1, 6))
def test_ends_at_terminator_or_length(keys: str, max_digits: int) -> None:
    one = collector(max_digits)
    result = None
    used = ""
    for key in keys:
        used += key
        if (result := one.key(key, 101.0)) is not None:
            break
    before = keys.partition("#")[0]
    if len(before) >= max_digits:
        assert result == Collected(before[:max_digits], CollectEnd.COMPLETE)
        assert len(used) == max_digits
    elif "#" in keys:
        assert result == Collected(before, CollectEnd.TERMINATOR)
    else:
        assert result is None


@pytest.mark.parametrize(
    ("content_type", "body", "key"),
    [
        ("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n", "5"),
        ("application/dtmf-relay", b"Signal= *\nDuration=160", "*"),
        ("Application/DTMF-Relay;x=y", b"signal = a\r\n", "A"),
        ("application/dtmf-relay", b"Signal=11\r\n", "#"),
        ("application/dtmf", b"7\r\n", "7"),
        ("application/dtmf", b"10", "*"),
        ("application/dtmf", b"77", None),
        ("application/dtmf", b"", None),
        ("application/dtmf-relay", b"Duration=160", None),
        ("text/plain", b"5", None),
    ],
)
def test_info(content_type: str, body: bytes, key: str | None) -> None:
    assert info_digit(content_type, body) == key


@given(st.text(max_size=30), st.binary(max_size=300))
def test_info_survives_everything(content_type: str, body: bytes) -> None:
    for kind in (content_type, "application/dtmf", "application/dtmf-relay"):
        assert info_digit(kind, body) in KEYS | {None}


@pytest.mark.parametrize(
    ("body", "duration_ms"),
    [
        (b"Signal=5\r\nDuration=160\r\n", 160),
        (b"Signal=5\nduration = 250", 250),
        (b"Signal=5", 100),
        (b"Signal=5\r\nDuration=-3\r\n", 100),
        (b"Signal=5\r\nDuration=\xb2\r\n", 100),
        (b"Signal=5\r\nDuration=1\r\n", 40),
        (b"Signal=5\r\nDuration=99999999999\r\n", 10_000),
    ],
)
def test_how_long_the_key_of_an_info_was_held(body: bytes, duration_ms: int) -> None:
    assert info_duration_ms(body) == duration_ms


@pytest.mark.parametrize("key", "0123456789*#ABCD")
def test_what_is_sent_by_info_is_understood(key: str) -> None:
    body = info_body(key, 120)
    assert (info_digit(INFO_TYPE, body), info_duration_ms(body)) == (key, 120)
