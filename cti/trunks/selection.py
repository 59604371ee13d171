"""The order in which trunks are tried: by priority, and by weight among equals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Fitness(StrEnum):
    """Whether a trunk can take a call now."""

    FIT = "fit"
    UNFIT = "unfit"  # down, suspect, or asked for rest by Retry-After
    FULL = "full"  # at its own limit


@dataclass(frozen=True, slots=True)
class Candidate(Generic[Item]):
    """A trunk that might be tried."""

    item: Item
    priority: int
    weight: int
    fitness: Fitness = Fitness.FIT


def in_order(
    candidates: Iterable[Candidate[Item]], random: Callable[[], float]
) -> list[Candidate[Item]]:
    """Return the candidates to try, the best first; `random` gives numbers from 0 to 1.

    Full ones are left out. Unfit ones come last: a call that all others failed may still go over a
    trunk that is thought to be down, and when all are, to try them is better than to refuse it.
    """
    usable = [one for one in candidates if one.fitness is not Fitness.FULL]
    # Weighted order in one sort (Efraimidis and Spirakis): the greatest of random ** (1 / weight).
    return sorted(
        usable,
        key=lambda one: (
            one.fitness is Fitness.UNFIT,
            one.priority,
            -(random() ** (1 / one.weight)),
        ),
    )
