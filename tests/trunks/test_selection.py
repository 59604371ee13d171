"""The order of trunks."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cti.trunks.selection import Candidate, Fitness, in_order

candidates = st.lists(
    st.builds(
        Candidate,
        item=st.integers(0, 1000),
        priority=st.integers(0, 3),
        weight=st.integers(1, 100),
        fitness=st.sampled_from(Fitness),
    ),
    max_size=8,
)


@given(candidates, st.integers())
def test_the_order(found: list[Candidate[int]], seed: int) -> None:
    order = in_order(found, random.Random(seed).random)
    ranks = [(one.fitness is Fitness.UNFIT, one.priority) for one in order]
    assert ranks == sorted(ranks)
    assert Counter(order) == Counter(one for one in found if one.fitness is not Fitness.FULL)


def test_weights_share_the_calls() -> None:
    trunks = [Candidate("a", 1, 3), Candidate("b", 1, 1)]
    rng = random.Random(7)
    first = Counter(in_order(trunks, rng.random)[0].item for _ in range(4000))
    assert 0.72 < first["a"] / 4000 < 0.78
