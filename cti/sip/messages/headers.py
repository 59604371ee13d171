"""Header fields of a message: names, compact forms, lists (RFC 3261 7.3 and 20)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from cti.sip.messages.syntax import Malformed, SipSyntaxError, is_token, split_outside

# IANA "SIP Compact Header Forms".
_COMPACT = {
    "a": "Accept-Contact", "b": "Referred-By", "c": "Content-Type", "d": "Request-Disposition",
    "e": "Content-Encoding", "f": "From", "i": "Call-ID", "j": "Reject-Contact",
    "k": "Supported", "l": "Content-Length", "m": "Contact", "n": "Identity-Info", "o": "Event",
    "r": "Refer-To", "s": "Subject", "t": "To", "u": "Allow-Events", "v": "Via",
    "x": "Session-Expires", "y": "Identity",
}  # fmt: skip

# Headers whose value is a comma-separated list; commas elsewhere (Date, Authorization) are text.
_LISTS = frozenset({
    "Accept", "Accept-Contact", "Accept-Encoding", "Accept-Language", "Alert-Info", "Allow",
    "Allow-Events", "Call-Info", "Contact", "Content-Encoding", "Content-Language", "Diversion",
    "Error-Info", "History-Info", "In-Reply-To", "P-Asserted-Identity", "P-Associated-URI",
    "P-Preferred-Identity", "Path", "Proxy-Require", "Reason", "Record-Route", "Reject-Contact",
    "Require", "Route", "Service-Route", "Supported", "Unsupported", "Via", "Warning",
})  # fmt: skip

# Names whose usual spelling is not simply each word capitalised.
_SPELLINGS = (
    "Call-ID", "CSeq", "MIME-Version", "P-Associated-URI", "RAck", "RSeq", "SIP-ETag",
    "SIP-If-Match", "WWW-Authenticate",
)  # fmt: skip

# RFC 3261 7.3.1: several rows are allowed only where the value is a list; of these, a second one
# would leave open which of them counts.
SINGLE = frozenset({
    "From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length", "Content-Type",
})  # fmt: skip


def _known_names() -> dict[str, str]:
    usual = {
        *_COMPACT.values(), *_LISTS, *_SPELLINGS, *SINGLE,
        "Authorization", "Content-Disposition", "Date", "Expires", "Min-Expires", "Min-SE",
        "Organization", "Priority", "Privacy", "Proxy-Authenticate", "Proxy-Authorization",
        "Replaces", "Reply-To", "Retry-After", "Server", "Subscription-State", "Timestamp",
        "User-Agent", "User-To-User",
    }  # fmt: skip
    names = {name: name for name in usual} | {name.lower(): name for name in usual}
    names |= _COMPACT
    return names | {compact.upper(): name for compact, name in _COMPACT.items()}


NAMES = _known_names()
"""Canonical names by the spellings that are usual on the wire."""


def canonical_name(name: str) -> str:
    """Return the one spelling of a header name that this stack uses."""
    known = NAMES.get(name)
    if known is not None:
        return known
    return _short_name(name) if len(name) <= _MAX_KEPT_NAME else _spelled(name)


def _spelled(name: str) -> str:
    name = name.rstrip()  # RFC 3261 25.1: HCOLON allows white space before the colon
    if not is_token(name):
        raise SipSyntaxError(Malformed.HEADER_LINE, "Malformed header name")
    return NAMES.get(name.lower()) or name.title()


# A carrier's own headers are in all its messages.
_MAX_KEPT_NAME = 48
_short_name = lru_cache(maxsize=1024)(_spelled)


class Headers:
    """Header fields: names without regard to case, values of one name in their order.

    The order of different names has no meaning (RFC 3261 7.3.1); it is the order of first use.
    """

    __slots__ = ("_rows",)

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._rows: dict[str, list[str]] = {}
        for name, value in items:
            self.add(name, value)

    @classmethod
    def of_rows(cls, rows: dict[str, list[str]]) -> Headers:
        """Wrap rows that a parser made: canonical names, values without line breaks."""
        headers = cls.__new__(cls)
        headers._rows = rows  # noqa: SLF001 - its own class
        return headers

    def get(self, name: str) -> str | None:
        """Return the first value, None when there is none."""
        name = canonical_name(name)
        rows = self._rows.get(name)
        if rows is None:
            return None
        if name in _LISTS and "," in rows[0]:
            return split_outside(rows[0], ",")[0]
        return rows[0]

    def first_row(self, name: str) -> str | None:
        """Return the first row of a canonical name as written, without a search for its name."""
        rows = self._rows.get(name)
        return rows[0] if rows is not None else None

    def has_any(self, names: frozenset[str]) -> bool:
        """Whether there is a value of any of these canonical names."""
        return not names.isdisjoint(self._rows)

    def get_all(self, name: str) -> list[str]:
        """Return every value, rows with comma-separated lists split."""
        name = canonical_name(name)
        rows = self._rows.get(name)
        if rows is None:
            return []
        if name not in _LISTS:
            return list(rows)
        values: list[str] = []
        for row in rows:
            if "," in row:
                values += filter(None, split_outside(row, ","))
            elif row:
                values.append(row)
        return values

    def add(self, name: str, value: str) -> None:
        """Append one value or row."""
        self._rows.setdefault(NAMES.get(name) or canonical_name(name), []).append(_checked(value))

    def set(self, name: str, value: str) -> None:
        """Replace all values by one."""
        self._rows[NAMES.get(name) or canonical_name(name)] = [_checked(value)]

    def prepend(self, name: str, value: str) -> None:
        """Put a value before those of the same name; a new name goes to the top."""
        name = canonical_name(name)
        rows = self._rows.get(name)
        if rows is not None:
            rows.insert(0, _checked(value))
        else:
            self._rows = {name: [_checked(value)], **self._rows}

    def replace_first(self, name: str, value: str) -> None:
        """Replace the first value, also where it shares its row with others."""
        name = canonical_name(name)
        rows = self._rows[name]
        if name in _LISTS and "," in rows[0]:
            rows[0:1] = split_outside(rows[0], ",")
        rows[0] = _checked(value)

    def remove(self, name: str) -> None:
        """Remove all values; it is no error when there is none."""
        self._rows.pop(canonical_name(name), None)

    def copy_from(self, other: Headers, *names: str) -> None:
        """Take over all rows of these names, as they were written."""
        for name in names:
            rows = other._rows.get(name)
            if rows is not None:
                self._rows[name] = list(rows)

    def copy_first(self, other: Headers, *names: str) -> None:
        """Take over the first row of each of these names, as it was written."""
        for name in names:
            rows = other._rows.get(name)
            if rows is not None:
                self._rows[name] = rows[:1]

    def rows(self, name: str) -> list[str]:
        """Return the rows of a name as written, lists not split."""
        return list(self._rows.get(canonical_name(name), ()))

    def items(self) -> Iterator[tuple[str, str]]:
        """Yield name and value of each row."""
        for name, rows in self._rows.items():
            for row in rows:
                yield name, row

    def lines(self) -> list[str]:
        """Return the header lines but Content-Length, which the writer computes."""
        return [
            f"{name}: {row}"
            for name, rows in self._rows.items()
            if name != "Content-Length"
            for row in rows
        ]

    def copy(self) -> Headers:
        """Return headers that can change on their own."""
        return Headers.of_rows({name: list(rows) for name, rows in self._rows.items()})

    def __contains__(self, name: str) -> bool:
        return canonical_name(name) in self._rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._rows == other._rows

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({list(self.items())!r})"


def _checked(value: str) -> str:
    if "\r" in value or "\n" in value or "\0" in value:  # as is_unsafe, without a call
        raise ValueError("line break in a header value")
    return value
