"""Where a 3xx response sends a call (RFC 3261 8.1.3.4)."""

from __future__ import annotations

from cti.sip.messages.message import Response, SipSyntaxError
from cti.sip.messages.uri import NameAddr, SipUri, parse_uri, without_headers

_SCHEMES = ("sip", "sips", "tel")
_MAX_TARGETS = 8
_MAX_TRIES = 5


def targets_of(response: Response) -> tuple[str, ...]:
    """Return the URIs of the Contacts that an INVITE can go to, by their q values."""
    found: list[tuple[float, str]] = []
    try:
        values = response.headers.get_all("Contact")
    except SipSyntaxError:
        return ()
    for value in values[:_MAX_TARGETS]:
        try:
            address = NameAddr.parse(value)
        except SipSyntaxError:
            continue
        # 19.1.5: headers of the URI would become headers of ours; none of them is wanted.
        uri = without_headers(address.uri_text)
        scheme = uri.partition(":")[0].lower()
        is_broken = scheme in {"sip", "sips"} and not isinstance(parse_uri(uri), SipUri)
        if scheme in _SCHEMES and not is_broken and " " not in uri:
            found.append((_q(address.params.get("q")), uri))
    found.sort(key=lambda each: -each[0])
    return tuple(uri for _, uri in found)


def _q(text: str | None) -> float:
    try:
        value = float(text) if text is not None else 1.0
    except ValueError:
        return 0.0
    return value if 0.0 <= value <= 1.0 else 0.0


class Redirects:
    """The targets of one call that were tried and that are left, each of them once."""

    __slots__ = ("_left", "_tried")

    def __init__(self, first: str) -> None:
        self._tried = {first}
        self._left: list[str] = []

    def add(self, targets: tuple[str, ...]) -> None:
        """Take the targets of a 3xx; they come before those that are left."""
        self._left = [*targets, *self._left]

    def next(self) -> str | None:
        """Return the next URI to try; None when there is none, or enough was tried."""
        while self._left and len(self._tried) <= _MAX_TRIES:
            uri = self._left.pop(0)
            if uri not in self._tried:
                self._tried.add(uri)
                return uri
        return None
