"""Personal numbers as logs may show them."""

from __future__ import annotations


def mask_number(number: str) -> str:
    """Return the number with its middle hidden: 13812345678 becomes 138****5678.

    Numbers of up to five digits are service codes or extensions and stay as they are. Of a name in
    the number's place the first letter is left; "anonymous" (RFC 3323 4.1.1.3) is nobody's.
    """
    if number.lower() == "anonymous":
        return number
    if not any(map(str.isdigit, number)):
        return f"{number[:1]}**" if number else ""
    if len(number) <= 5:
        return number
    tail = 4 if len(number) >= 8 else 2
    return f"{number[:3]}****{number[-tail:]}"
