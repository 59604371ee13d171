"""Identifiers that sort by the time they were made."""

from __future__ import annotations

import time
from uuid import RFC_4122, UUID

import pytest

from domain.ids import time_ordered_id


def test_an_id_is_a_uuid_of_version_7_with_its_time_in_front(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_123_456_789)
    text = time_ordered_id()
    assert len(text) == 32
    assert (UUID(text).version, UUID(text).variant) == (7, RFC_4122)
    assert int(text[:12], 16) == 1_800_000_000_123


def test_all_other_bits_are_random() -> None:
    ones, zeros = 0, (1 << 128) - 1
    for _ in range(300):
        value = int(time_ordered_id(), 16)
        ones, zeros = ones | value, zeros & value
    random_bits = (1 << 76) - 1 - (0x3 << 62)
    assert ones & random_bits == random_bits
    assert zeros & random_bits == 0
