"""Nonces of digest authentication: made without memory, counted once they are used.

A nonce carries its time, the process that made it, for whom it is, and a signature by the secret of
its day, which all nodes share: a challenge of one node is met at another. An unanswered challenge
costs no memory; only nonces that were used with success are remembered, for their counts.

Whoever answers a nonce made for its address has received it there: a forged sender has not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_SIGNED = struct.Struct(">Q4s4s4s")
_SIGNATURE_BYTES = 16
_NONCE_BYTES = _SIGNED.size + _SIGNATURE_BYTES
_US_PER_DAY = 86_400 * 1_000_000
# Clocks of nodes differ a little.
_SKEW_S = 5.0
# A challenge of another node is met at once or not at all; counts are not shared.
_FOREIGN_LIFETIME_S = 30.0
_WINDOW_COUNTS = 32
_WINDOW = (1 << _WINDOW_COUNTS) - 1

SecretOf = Callable[[int], bytes]
"""Gives the secret of a day, which is a number of days."""


@dataclass(frozen=True, slots=True)
class Nonce:
    """A nonce with a good signature."""

    text: str
    issued_us: int
    is_own: bool
    """Whether this process made it."""


class _Counts:
    """The counts of one nonce that were used: the highest, and which of those just below it.

    A window and not the highest alone, since datagrams overtake one another (RFC 7616 3.4: the
    count is there to detect replays).
    """

    __slots__ = ("_highest", "_seen", "issued_us")

    def __init__(self, issued_us: int, count: int) -> None:
        self.issued_us = issued_us
        self._highest = count
        self._seen = 1

    def take(self, count: int) -> bool:
        ahead = count - self._highest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, _WINDOW_COUNTS) | 1) & _WINDOW
            self._highest = count
            return True
        behind = -ahead
        # Looked at first: a bit for a count that is behind by thousands of millions is half a GB.
        if behind >= _WINDOW_COUNTS:
            return False
        bit = 1 << behind
        if self._seen & bit:
            return False
        self._seen |= bit
        return True


class Nonces:
    """Makes nonces and takes each count of each once. `now` is the Unix time in seconds."""

    def __init__(self, secret_of: SecretOf, *, lifetime_s: float, most: int) -> None:
        self._secret_of = secret_of
        self._lifetime_s = lifetime_s
        self._most = most
        self._process = os.urandom(4)
        self._used: OrderedDict[str, _Counts] = OrderedDict()
        self._forgotten_us = -1

    def __len__(self) -> int:
        return len(self._used)

    def new(self, now: float, whom: str = "") -> str:
        """Make a nonce; `whom` alone may answer it."""
        issued_us = int(now * 1e6)
        signed = _SIGNED.pack(issued_us, self._process, _mark(whom), os.urandom(4))
        return base64.urlsafe_b64encode(signed + self._signature(signed, issued_us)).decode()

    def read(self, text: str, whom: str = "") -> Nonce | None:
        """Return what a nonce that a node made for `whom` says; None for any other."""
        try:
            raw = base64.urlsafe_b64decode(text.encode("ascii"))
        except (UnicodeEncodeError, binascii.Error):
            return None
        if len(raw) != _NONCE_BYTES or base64.urlsafe_b64encode(raw).decode() != text:
            return None
        signed = raw[: _SIGNED.size]
        issued_us, process, mark, _ = _SIGNED.unpack(signed)
        if not hmac.compare_digest(self._signature(signed, issued_us), raw[_SIGNED.size :]):
            return None
        if mark != _mark(whom):
            return None
        return Nonce(text, issued_us, process == self._process)

    def take(self, nonce: Nonce, count: int, now: float) -> bool:
        """Take note of a use; False for one that is too old, was seen before, or might have been.

        Counts live in their process. So that nothing can be replayed at another node for long, a
        nonce from there is good for its first count, and only while it is fresh.
        """
        age_s = now - nonce.issued_us / 1e6
        lifetime_s = self._lifetime_s if nonce.is_own else _FOREIGN_LIFETIME_S
        if not -_SKEW_S <= age_s <= lifetime_s or count < 1 or (count > 1 and not nonce.is_own):
            return False
        counts = self._used.get(nonce.text)
        if counts is not None:
            return counts.take(count)
        if nonce.issued_us <= self._forgotten_us:
            return False
        self._make_room(now)
        self._used[nonce.text] = _Counts(nonce.issued_us, count)
        return True

    def _make_room(self, now: float) -> None:
        """Forget what is too old, then what was used first; its kind is not taken again."""
        oldest_us = int((now - self._lifetime_s) * 1e6)
        while self._used:
            first = next(iter(self._used.values()))
            if first.issued_us >= oldest_us:
                if len(self._used) < self._most:
                    return
                self._forgotten_us = max(self._forgotten_us, first.issued_us)
            self._used.popitem(last=False)

    def _signature(self, signed: bytes, issued_us: int) -> bytes:
        secret = self._secret_of(issued_us // _US_PER_DAY)
        return hmac.digest(secret, signed, "sha256")[:_SIGNATURE_BYTES]


def _mark(whom: str) -> bytes:
    return hashlib.blake2s(whom.encode(), digest_size=4).digest()
