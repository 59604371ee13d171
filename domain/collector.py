"""Python's collector of circular references, told what calls need of it."""

from __future__ import annotations

import gc

_YOUNG = 200
_PORTIONS = 300_000
"""Portions of young objects between two collections of all: about an hour at 100 calls a second."""


def leave_to_the_collector_what_comes() -> None:
    """Spare collections what stays: modules, settings, flows, and transactions for their 64*T1.

    Calls leave no circles behind (tests/call_control/test_memory.py), so that a full collection
    finds next to nothing. It holds up everybody, though: 0.2 s with the transactions of 100 calls a
    second, every few seconds by Python's own thresholds.

    What is young is looked at once and in small portions, for requests leave circles. A second look
    found nothing more, and took 10 to 20 ms each time: as many objects as are made go meanwhile,
    and by Python's count, which is of their difference, there were few.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _PORTIONS, 1)
