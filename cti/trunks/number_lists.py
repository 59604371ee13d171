"""Black and white lists of numbers: exact numbers and prefixes, thousands of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cti.numbers import normalised_number
from cti.trunks.rewriting import DIALLABLE, MAX_DIALLED_DIGITS


class ListKind(StrEnum):
    """What being on a list means."""

    BLACK = "black"
    WHITE = "white"


class AnonymousPolicy(StrEnum):
    """What becomes of callers who show no number."""

    ALLOW = "allow"
    REFUSE = "refuse"


def entry_fault(entry: str) -> bool:
    """Tell whether an entry is neither a number nor a prefix that ends in an asterisk."""
    number = normalised_number(entry.removesuffix("*"))
    return not 0 < len(number) <= MAX_DIALLED_DIGITS or not DIALLABLE.issuperset(number)


def read_entries(text: str) -> tuple[list[str], list[int]]:
    """Return the entries of a list file, and the numbers of the lines that are wrong.

    One entry a line; what follows `#` and a space, or stands behind an entry, is a remark.
    """
    entries: list[str] = []
    wrong: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(None, 1)
        if not words or words[0].startswith("#"):
            continue
        if entry_fault(words[0]):
            wrong.append(number)
        else:
            entries.append(words[0])
    return entries, wrong


class NumberTable:
    """A set of numbers and prefixes; a look-up costs one hash a length of prefix."""

    __slots__ = ("_exact", "_lengths", "_prefixes")

    def __init__(self, entries: Iterable[str]) -> None:
        exact: set[str] = set()
        prefixes: set[str] = set()
        for entry in entries:
            if entry.endswith("*"):
                prefixes.add(normalised_number(entry[:-1]))
            else:
                exact.add(normalised_number(entry))
        self._exact = frozenset(exact)
        self._prefixes = frozenset(prefixes)
        self._lengths = tuple(sorted({len(prefix) for prefix in prefixes}))

    def __contains__(self, number: str) -> bool:
        return number in self._exact or any(
            number[:length] in self._prefixes for length in self._lengths
        )

    def __len__(self) -> int:
        return len(self._exact) + len(self._prefixes)


def prefix_table(entries: Iterable[str]) -> NumberTable:
    """Return a table in which every entry is a prefix, with an asterisk or without."""
    return NumberTable(entry.removesuffix("*") + "*" for entry in entries)


@dataclass(frozen=True, slots=True)
class NumberList:
    """A named list."""

    name: str
    kind: ListKind
    numbers: NumberTable


@dataclass(frozen=True, slots=True)
class CallerVerdict:
    """What the lists say of a caller; `rule` is the list's name, empty for none."""

    rule: str = ""
    is_blocked: bool = False


_UNLISTED = CallerVerdict()
_ANONYMOUS = CallerVerdict("anonymous", is_blocked=True)


@dataclass(frozen=True, slots=True)
class CallerPolicy:
    """The lists of a tenant or of the platform."""

    lists: Sequence[NumberList] = ()
    anonymous: AnonymousPolicy = AnonymousPolicy.ALLOW
    blocked_status: int = 603
    _white: tuple[NumberList, ...] = field(init=False)
    _black: tuple[NumberList, ...] = field(init=False)

    def __post_init__(self) -> None:
        for name, kind in (("_white", ListKind.WHITE), ("_black", ListKind.BLACK)):
            object.__setattr__(self, name, tuple(one for one in self.lists if one.kind is kind))

    @property
    def is_empty(self) -> bool:
        """Whether the policy lets everybody pass."""
        return not self.lists and self.anonymous is AnonymousPolicy.ALLOW

    def white(self, number: str) -> str:
        """Return the white list the number is on."""
        return next((one.name for one in self._white if number in one.numbers), "")

    def black(self, number: str) -> str:
        """Return the black list the number is on."""
        return next((one.name for one in self._black if number in one.numbers), "")


def judge_caller(
    policies: Sequence[CallerPolicy], number: str, *, is_anonymous: bool
) -> tuple[CallerVerdict, int]:
    """Judge a caller by the policies, the tenant's first; return also the status that refuses.

    A white list of any of them wins over all black lists, and over the policy on anonymous callers
    where the trunk tells the number that the caller withholds.
    """
    for policy in policies:
        if name := policy.white(number):
            return CallerVerdict(name), 0
    for policy in policies:
        if name := policy.black(number):
            return CallerVerdict(name, is_blocked=True), policy.blocked_status
        if is_anonymous and policy.anonymous is AnonymousPolicy.REFUSE:
            return _ANONYMOUS, policy.blocked_status
    return _UNLISTED, 0
