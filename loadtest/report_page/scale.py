"""Axes: where a value lies, and which values are written beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_LOG_STEPS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` on pixels from `first_px` to `last_px`."""

    low: float
    high: float
    first_px: float
    last_px: float
    is_logarithmic: bool = False

    def px(self, value: float) -> float:
        """Return where a value lies."""
        low, high = self._of(self.low), self._of(self.high)
        share = (self._of(value) - low) / (high - low) if high > low else 0.0
        return self.first_px + share * (self.last_px - self.first_px)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Return round values, about so many."""
        if self.is_logarithmic:
            return _logarithmic(self.low, self.high)
        step = nice_step((self.high - self.low) / max(1, wanted))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(place * step, 9) for place in range(first, last + 1)]

    def _of(self, value: float) -> float:
        return math.log10(max(value, 1e-9)) if self.is_logarithmic else value


def nice_step(least: float) -> float:
    """Return the smallest round step that is not below this."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in _STEPS if step * power >= least * (1 - 1e-9))


def nice_top(highest: float, wanted: int = 5) -> float:
    """Return a round value that `highest` does not exceed, 1 of nothing."""
    if highest <= 0:
        return 1.0
    step = nice_step(highest / wanted)
    return step * math.ceil(highest / step - 1e-9)


def _logarithmic(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [step * 10.0**power for power in powers for step in _LOG_STEPS]
    ticks = [value for value in values if low <= value * (1 + 1e-9) and value <= high * (1 + 1e-9)]
    most = 12
    return ticks if len(ticks) <= most else [value for value in ticks if _is_power(value)]


def _is_power(value: float) -> bool:
    exponent = math.log10(value)
    return abs(exponent - round(exponent)) < 1e-6


def tick_text(value: float) -> str:
    """Write a tick's value short."""
    if abs(value) >= 1_000_000:
        return f"{value / 1_000_000:g} M"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
