"""Keys a caller pressed: the buffer between prompts, and one collection of digits.

Pure: time comes in as monotonic seconds, nothing here waits.
"""

from __future__ import annotations

from collections import deque

from cti.call import Collected, CollectEnd

KEYS = frozenset("0123456789*#ABCD")

INFO_TYPE = "application/dtmf-relay"

_MAX_BUFFERED_KEYS = 64

_KEY_MS = 100
_MIN_KEY_MS, _MAX_KEY_MS = 40, 10_000


class KeyBuffer:
    """Keys nobody has collected yet; a caller who types without end loses the newest."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: deque[str] = deque()

    def push(self, key: str) -> None:
        """Add one key; what is no DTMF key, or too much, is dropped."""
        if key in KEYS and len(self._keys) < _MAX_BUFFERED_KEYS:
            self._keys.append(key)

    def take(self) -> str | None:
        """Remove and return the oldest key."""
        return self._keys.popleft() if self._keys else None

    def clear(self) -> None:
        """Forget all keys."""
        self._keys.clear()

    def __len__(self) -> int:
        return len(self._keys)


class Collector:
    """One collection of digits, begun when its prompt has ended or was stopped by a key."""

    __slots__ = ("_digits", "_inter_digit_timeout_s", "_max_digits", "_terminators", "deadline")

    def __init__(
        self,
        now: float,
        *,
        max_digits: int,
        terminators: str,
        first_digit_timeout_ms: int,
        inter_digit_timeout_ms: int,
    ) -> None:
        self._digits = ""
        self._max_digits = max_digits
        self._terminators = terminators
        self._inter_digit_timeout_s = inter_digit_timeout_ms / 1000
        self.deadline = now + first_digit_timeout_ms / 1000

    def key(self, key: str, now: float) -> Collected | None:
        """Take a key; returns the result when the collection is complete by it."""
        if key in self._terminators:
            return Collected(self._digits, CollectEnd.TERMINATOR)
        self._digits += key
        if len(self._digits) >= self._max_digits:
            return Collected(self._digits, CollectEnd.COMPLETE)
        self.deadline = now + self._inter_digit_timeout_s
        return None

    def expired(self) -> Collected:
        """Return the result when `deadline` passed without a key."""
        if self._digits:
            return Collected(self._digits, CollectEnd.INTER_DIGIT_TIMEOUT)
        return Collected("", CollectEnd.FIRST_DIGIT_TIMEOUT)


def info_body(key: str, duration_ms: int) -> bytes:
    """Return the body of an INFO of type `INFO_TYPE` for a key that was held so long."""
    return f"Signal={key}\r\nDuration={duration_ms}\r\n".encode("ascii")


def info_duration_ms(body: bytes) -> int:
    """Return how long the key of an INFO was held; what it does not tell is 100 ms."""
    for line in body[:256].decode("ascii", "replace").splitlines():
        name, _, value = line.partition("=")
        text = value.strip()
        if name.strip().lower() == "duration" and text.isascii() and text.isdigit():
            return min(max(int(text), _MIN_KEY_MS), _MAX_KEY_MS)
    return _KEY_MS


def info_digit(content_type: str, body: bytes) -> str | None:
    """Return the key of a SIP INFO body, None when it carries none.

    `application/dtmf-relay` has `Signal=5` lines, `application/dtmf` the bare key. Neither is an
    RFC; both are what gateways send when they cannot send RFC 4733.
    """
    kind = content_type.partition(";")[0].strip().lower()
    text = body[:256].decode("ascii", "replace")
    if kind == "application/dtmf":
        key = text.strip().upper()
    elif kind == "application/dtmf-relay":
        key = ""
        for line in text.splitlines():
            name, _, value = line.partition("=")
            if name.strip().lower() == "signal":
                key = value.strip().upper()
    else:
        return None
    key = {"10": "*", "11": "#"}.get(key, key)
    return key if key in KEYS else None
