"""Which numbers, as a carrier sends them, belong to whom after each trunk's own rewriting.

Trunks of one network may rewrite called numbers in different ways. What leads to an access code is
then a pattern of characters: those of the code stand fixed at the end, before them stands what a
rule takes away. A tree of these patterns, read from their ends, tells owners and rivals in a time
that grows with the length of numbers and not with the number of trunks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cti.numbers import HOME_COUNTRY_PREFIXES, normalised_number
from cti.trunks.rewriting import DIALLABLE, Rewriting, rewritten
from cti.trunks.trunk import Trunk

# An earlier rule may take some numbers of a pattern away: so many are tried to find one it leaves.
_MOST_WITNESSES = 256

Pattern = tuple[frozenset[str], ...]
"""What may stand at each place of a number."""


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """A trunk's wish to have the calls to one of its tenant's numbers."""

    trunk: Trunk
    number: str
    order: int

    def holds(self, called: str) -> bool:
        """Tell whether a number as sent, without separators, is meant."""
        return normalised_number(rewritten(self.trunk.called_in, called)) == self.number


class _Node:
    """The patterns that end alike so far."""

    __slots__ = ("claims", "next")

    def __init__(self) -> None:
        self.next: dict[frozenset[str], _Node] = {}
        self.claims: list[Claim] = []


class Claims:
    """All claims of one network."""

    def __init__(self) -> None:
        self._root = _Node()
        self._order = itertools.count()

    def add(self, trunk: Trunk, number: str) -> tuple[Claim, str] | None:
        """Add a claim; return one of another tenant, and a number that both would have."""
        claim = Claim(trunk, number, next(self._order))
        for pattern in _patterns(trunk.called_in, number):
            backwards = pattern[::-1]
            for rival, common in _meeting(self._root, backwards, ()):
                if rival.trunk.tenant == trunk.tenant:
                    continue
                for witness in _numbers(common):
                    if claim.holds(witness) and rival.holds(witness):
                        return rival, witness
            node = self._root
            for place in backwards:
                node = node.next.setdefault(place, _Node())
            node.claims.append(claim)
        return None

    def find(self, called: str) -> Claim | None:
        """Return the first claim to a number as sent, without separators."""
        backwards = tuple(map(frozenset, called[::-1]))
        found = [claim for claim, _ in _meeting(self._root, backwards, ()) if claim.holds(called)]
        return min(found, key=lambda claim: claim.order, default=None)


def _patterns(rules: Sequence[Rewriting], number: str) -> Iterator[Pattern]:
    """Yield patterns of all that might become a number, and some that earlier rules take away."""
    for after in (number, *(prefix + number for prefix in HOME_COUNTRY_PREFIXES)):
        if rewritten(rules, after) == after:
            yield tuple(map(frozenset, after))
        for rule in rules:
            yield from _before(rule, after)


def _before(rule: Rewriting, after: str) -> Iterator[Pattern]:
    """Yield patterns of what a rule turns into `after`."""
    end = len(after) - len(rule.suffix)
    if len(rule.prefix) > end or not (
        after.startswith(rule.prefix) and after.endswith(rule.suffix)
    ):
        return
    kept = after[len(rule.prefix) : end]
    # A rule that leaves nothing of a number takes shorter ones too.
    lengths = (
        range(rule.strip + len(kept), rule.strip + len(kept) + 1)
        if kept
        else range(1, rule.strip + 1)
    )
    for length in lengths:
        if not max(rule.min_length, len(rule.places)) <= length <= rule.max_length:
            continue
        wanted = (*rule.places, *[DIALLABLE] * (length - len(rule.places)))
        fixed = map(frozenset, kept)
        pattern = (*wanted[: length - len(kept)], *fixed)
        if all(place & allowed for place, allowed in zip(pattern, wanted, strict=True)):
            yield pattern


def _meeting(node: _Node, backwards: Pattern, common: Pattern) -> Iterator[tuple[Claim, Pattern]]:
    """Yield the claims whose patterns share numbers with one, and those numbers, backwards."""
    depth = len(common)
    if depth == len(backwards):
        for claim in node.claims:
            yield claim, common
        return
    for place, following in node.next.items():
        shared = place & backwards[depth]
        if shared:
            yield from _meeting(following, backwards, (*common, shared))


def _numbers(backwards: Pattern) -> Iterator[str]:
    """Yield numbers of a pattern; rules differ in how numbers begin, and so do these."""
    for characters in itertools.islice(itertools.product(*map(sorted, backwards)), _MOST_WITNESSES):
        yield "".join(reversed(characters))
