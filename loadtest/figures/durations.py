"""Many durations in little room: counts in bins that grow with the value."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

_SMALLEST_S = 1e-6
_BINS_A_DOUBLING = 32
"""A bin is 2.2 % wide, and so is the error of a share."""


@dataclass(slots=True)
class Durations:
    """A histogram of seconds; adding costs one logarithm."""

    count: int = 0
    sum_s: float = 0.0
    max_s: float = 0.0
    bins: Counter[int] = field(default_factory=Counter)

    def add(self, seconds: float) -> None:
        """Take one duration."""
        self.count += 1
        self.sum_s += seconds
        self.max_s = max(self.max_s, seconds)
        self.bins[_bin(seconds)] += 1

    def copy(self) -> Durations:
        """Return what is held now, apart."""
        return Durations(self.count, self.sum_s, self.max_s, self.bins.copy())

    def since(self, earlier: Durations) -> Durations:
        """Return those added since; the longest of them is known to its bin only."""
        bins = self.bins - earlier.bins
        longest = min(self.max_s, _bound_s(max(bins))) if bins else 0.0
        return Durations(self.count - earlier.count, self.sum_s - earlier.sum_s, longest, bins)

    def histogram(self) -> list[tuple[float, int]]:
        """Return upper bounds in seconds and how many are in each bin, empty ones left out."""
        return [(_bound_s(place), self.bins[place]) for place in sorted(self.bins)]

    @property
    def mean_s(self) -> float:
        """The mean, 0 of nothing."""
        return self.sum_s / self.count if self.count else 0.0

    def share_s(self, share: float) -> float:
        """Return what this share of the durations did not exceed, 0 of nothing."""
        wanted = math.ceil(share * self.count)
        seen = 0
        for place in sorted(self.bins):
            seen += self.bins[place]
            if seen >= wanted and seen:
                return min(self.max_s, _bound_s(place))
        return 0.0


def _bound_s(place: int) -> float:
    return float(_SMALLEST_S * 2 ** ((place + 1) / _BINS_A_DOUBLING))


def _bin(seconds: float) -> int:
    return int(_BINS_A_DOUBLING * math.log2(max(seconds, _SMALLEST_S) / _SMALLEST_S))
