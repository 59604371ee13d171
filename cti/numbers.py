"""Telephone numbers as they stand in SIP: one form for comparisons and look-ups."""

from __future__ import annotations

from cti.sip.messages.uri import NameAddr, SipUri, parse_uri

MAX_NUMBER_LENGTH = 64

# RFC 3966 section 5.1.1: visual separators of telephone numbers.
_SEPARATORS = str.maketrans("", "", "-.()")
HOME_COUNTRY_PREFIXES = ("+86", "0086")


def without_separators(user: str) -> str:
    """Return a number without URI parameters and visual separators."""
    return user.partition(";")[0].translate(_SEPARATORS)


def normalised_number(user: str) -> str:
    """Return a dialled number without URI parameters, separators and the home country's prefix."""
    number = without_separators(user)
    for prefix in HOME_COUNTRY_PREFIXES:
        if number.startswith(prefix):
            return number[len(prefix) :]
    return number


def number_of(uri: SipUri | str) -> str:
    """Return the number of a sip: or tel: URI, empty where it has none."""
    if isinstance(uri, str):
        uri = parse_uri(uri)
    if isinstance(uri, SipUri):
        user = uri.user
    else:
        scheme, _, rest = uri.partition(":")
        user = rest if scheme.lower() == "tel" else ""
    return normalised_number(user)[:MAX_NUMBER_LENGTH]


def number_of_address(text: str | None) -> str:
    """Return the number of a From-like header value, empty where it has none."""
    if text is None:
        return ""
    try:
        return number_of(NameAddr.parse(text).uri)
    except ValueError:
        return ""
