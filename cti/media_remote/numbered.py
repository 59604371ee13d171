"""A queue to the other side that survives its stream: entries wait until they have been seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

_COMPACT_AT = 256


class Numbered(Generic[T]):
    """Entries are numbered from 1; what was sent is kept until the other side has seen it."""

    def __init__(self) -> None:
        self._entries: list[T] = []
        self._first = 1  # the number of the first entry kept
        self._next = 1  # the number of the next entry to send
        self._seen = 0

    def append(self, entry: T) -> None:
        """Queue an entry."""
        self._entries.append(entry)

    def __len__(self) -> int:
        """Count what the other side has not seen."""
        return self._first + len(self._entries) - 1 - self._seen

    @property
    def has_news(self) -> bool:
        """Whether something was not sent yet."""
        return self._next < self._first + len(self._entries)

    def take(self, most: int) -> tuple[int, Sequence[T]]:
        """Return up to `most` entries that were not sent yet, and the number of the first."""
        number = self._next
        begin = number - self._first
        taken = self._entries[begin : begin + most]
        self._next += len(taken)
        return number, taken

    def seen(self, number: int) -> None:
        """Forget entries up to a number."""
        self._seen = max(self._seen, min(number, self._next - 1))
        done = self._seen + 1 - self._first
        if done >= _COMPACT_AT or done == len(self._entries):
            del self._entries[:done]
            self._first = self._seen + 1

    def rewind(self, seen: int) -> None:
        """Send again what comes after the last one that was seen: the stream is a new one."""
        self.seen(seen)
        self._next = self._seen + 1

    def clear(self) -> None:
        """Begin again at 1, with nothing."""
        self._entries.clear()
        self._first = self._next = 1
        self._seen = 0


class SeenCount:
    """The numbers that came from the other side: tells what is new, and when to say so."""

    def __init__(self, tell_after: int = 256) -> None:
        self.last = 0
        self._told = 0
        self._tell_after = tell_after

    def new_of(self, first: int, entries: Sequence[T]) -> Sequence[T]:
        """Return the entries that were not taken yet, and count them."""
        fresh = entries[max(0, self.last + 1 - first) :]
        self.last = max(self.last, first + len(entries) - 1)
        return fresh

    @property
    def is_due(self) -> bool:
        """Whether the other side keeps much that it could forget."""
        return self.last - self._told >= self._tell_after

    def told(self) -> int:
        """Return the last number, which is being told."""
        self._told = self.last
        return self.last

    def clear(self) -> None:
        """Begin again."""
        self.last = self._told = 0
