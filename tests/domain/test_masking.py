"""What logs and tables show of numbers."""

from __future__ import annotations

import pytest

from domain.masking import mask_number


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("13812345678", "138****5678"),
        ("053288886666", "053****6666"),
        ("8612345", "861****45"),
        ("95598", "95598"),
        ("1001", "1001"),
        ("", ""),
        ("anonymous", "anonymous"),
        ("Anonymous", "Anonymous"),
        ("张三", "张**"),
        ("alice", "a**"),
    ],
)
def test_numbers_and_names_are_masked(number: str, shown: str) -> None:
    assert mask_number(number) == shown
