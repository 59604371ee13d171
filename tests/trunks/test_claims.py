"""Numbers that trunks of one network claim, checked against trying every number."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from cti.numbers import normalised_number
from cti.settings import TrunkSettings
from cti.trunks.claims import Claims
from cti.trunks.rewriting import rewritten
from cti.trunks.trunk import Trunk
from domain.ids import TenantId

LONGEST = 5
NUMBERS = [
    "".join(digits)
    for length in range(1, LONGEST + 1)
    for digits in itertools.product("12", repeat=length)
]

rules = st.lists(
    st.fixed_dictionaries(
        {
            "match": st.from_regex(r"([12x]|\[12\]){0,3}", fullmatch=True),
            "min_length": st.integers(0, 3),
            "max_length": st.integers(3, 6),
            "strip": st.integers(0, 4),
            "prefix": st.sampled_from(["", "", "1", "21"]),
            "suffix": st.sampled_from(["", "", "2"]),
        }
    ),
    max_size=3,
)


def trunk(at: int, rules: list[dict[str, object]]) -> Trunk:
    settings = TrunkSettings.model_validate(
        {"name": f"trunk{at}", "server": "192.0.2.1", "number_rules": {"called_in": rules}}
    )
    return Trunk(TenantId(f"tenant{at}"), settings)


@given(st.lists(st.tuples(rules, st.sampled_from(NUMBERS[:14])), min_size=1, max_size=4))
def test_owners_and_rivals_are_those_that_trying_finds(
    wishes: list[tuple[list[dict[str, object]], str]],
) -> None:
    claims = Claims()
    owners: dict[str, int] = {}
    for at, (called_in, number) in enumerate(wishes):
        own = trunk(at, called_in)
        wanted = [each for each in NUMBERS if rewritten(own.called_in, each) == number]
        met = claims.add(own, number)
        if met is not None:
            rival, called = met
            assert rival.trunk is not own
            assert normalised_number(rewritten(rival.trunk.called_in, called)) == rival.number
            assert normalised_number(rewritten(own.called_in, called)) == number
            return
        assert owners.keys().isdisjoint(wanted)
        owners |= dict.fromkeys(wanted, at)
    for called in NUMBERS:
        claim = claims.find(called)
        found = None if claim is None else int(claim.trunk.name.removeprefix("trunk"))
        assert found == owners.get(called)


def test_a_number_is_the_same_with_the_home_country() -> None:
    claims = Claims()
    assert claims.add(trunk(0, []), "95598") is None
    for called in ("95598", "+8695598", "008695598"):
        assert claims.find(called) is not None
    met = claims.add(trunk(1, [{"match": "+86", "strip": 3, "prefix": "1"}]), "195598")
    assert met is not None
    assert met[1] == "+8695598"
    assert claims.add(trunk(2, [{"match": "95598", "prefix": "1"}]), "95598") is not None
