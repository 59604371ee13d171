"""Personal numbers as logs may show them."""

from __future__ import annotations


def mask_number(number: str) -> str:
    """Return the number with its middle hidden: 13812345678 becomes 138****5678.

    Numbers of up to five digits are service codes or extensions and stay as they are.
    """
    if len(number) <= 5:
        return number
    tail = 4 if len(number) >= 8 else 2
    return f"{number[:3]}****{number[-tail:]}"
