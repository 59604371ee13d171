"""Lexical parts of the SIP grammar (RFC 3261 25.1) that messages, URIs and headers share."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cti.sip.messages.message import Request

Params = dict[str, str | None]
"""Parameters by lower-case name, in order; a flag such as `lr` has the value None."""


class Malformed(StrEnum):
    """Why a message was refused: the whole label set of `sip_malformed_total`."""

    NOT_SIP = "not_sip"
    VERSION = "version"
    START_LINE = "start_line"
    HEADER_LINE = "header_line"
    HEADER_VALUE = "header_value"
    HEADER_MISSING = "header_missing"
    HEADER_REPEATED = "header_repeated"
    URI = "uri"
    CONTENT_LENGTH = "content_length"
    TOO_LARGE = "too_large"


class SipSyntaxError(ValueError):
    """Text that is not SIP.

    `reason` says what is wrong in the words of a reason phrase; `partial` is the request as far as
    it was read, when that is enough to answer it with `status`.
    """

    def __init__(
        self,
        kind: Malformed,
        reason: str,
        status: int = 400,
        partial: Request | None = None,
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.status = status
        self.partial = partial
        self.content_length: int | None = None


# Tokens that are seen all the time.
_METHODS = frozenset({
    "ACK", "BYE", "CANCEL", "INFO", "INVITE", "MESSAGE", "NOTIFY", "OPTIONS", "PRACK", "PUBLISH",
    "REFER", "REGISTER", "SUBSCRIBE", "UPDATE",
})  # fmt: skip
_ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_DELETE_TOKEN_CHARS = dict.fromkeys(map(ord, _ALPHANUMERIC + "-.!%*_+`'~"))
# The underscore is not in the grammar of a host, but in the names of many real ones.
_DELETE_HOST_CHARS = dict.fromkeys(map(ord, _ALPHANUMERIC + "-._"))


def is_token(text: str) -> bool:
    """Tell whether `text` is a token, such as a method or a header name."""
    return text in _METHODS or (bool(text) and not text.translate(_DELETE_TOKEN_CHARS))


def is_unsafe(text: str) -> bool:
    """Tell whether `text` would break out of its header line when written."""
    return "\r" in text or "\n" in text or "\0" in text


def end_of_quoted(text: str, start: int) -> int:
    """Return the index after the quoted string whose opening quote is at `start`."""
    at = start + 1
    while True:
        at = text.find('"', at)
        if at < 0:
            raise SipSyntaxError(Malformed.HEADER_VALUE, "Quoted string is not closed")
        # An odd run of backslashes before the quote escapes it.
        before = at
        while text[before - 1] == "\\" and before - 1 > start:
            before -= 1
        if (at - before) % 2 == 0:
            return at + 1
        at += 1


def unquote(text: str) -> str:
    """Return the content of a quoted string; other text comes back as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    content = text[1:-1]
    if "\\" not in content:
        return content
    characters = iter(content)
    return "".join(next(characters, "") if c == "\\" else c for c in characters)


def quote(text: str) -> str:
    """Return `text` as a quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def split_outside(text: str, separator: str) -> list[str]:
    """Split at separators that are neither in a quoted string nor in angle brackets."""
    if '"' not in text and "<" not in text:
        return [piece.strip() for piece in text.split(separator)]
    pieces: list[str] = []
    start = at = 0
    cut = quoted = bracket = -1  # the next of each; searched again only when passed
    while True:
        cut = _next(text, separator, cut, at)
        quoted = _next(text, '"', quoted, at)
        bracket = _next(text, "<", bracket, at)
        if cut < quoted and cut < bracket:
            pieces.append(text[start:cut].strip())
            start = at = cut + 1
        elif quoted < bracket:
            at = end_of_quoted(text, quoted)
        elif bracket < len(text):
            at = text.find(">", bracket) + 1
            if at == 0:
                raise SipSyntaxError(Malformed.HEADER_VALUE, "Angle bracket is not closed")
        else:
            pieces.append(text[start:].strip())
            return pieces


def _next(text: str, character: str, known: int, at: int) -> int:
    """Return where `character` is next, len(text) when nowhere; `known` is the last answer."""
    if known >= at:
        return known
    found = text.find(character, at)
    return found if found >= 0 else len(text)


def parse_params(text: str) -> Params:
    """Parse `;name=value;flag`; values stay as written, quotes included."""
    params: Params = {}
    if not text:
        return params
    if text.startswith(";tag=") and text.find(";", 1) < 0 and '"' not in text:
        return {"tag": text[5:].strip()}  # From and To of most messages
    pieces = split_outside(text, ";") if '"' in text else text.split(";")
    if pieces[0].strip():
        raise SipSyntaxError(Malformed.HEADER_VALUE, "Text where a parameter should start")
    if not pieces[-1].strip():
        pieces.pop()  # a semicolon at the end harms nobody
    for piece in pieces[1:]:
        name, equals, value = piece.partition("=")
        name = name.strip().lower()
        if not name:
            raise SipSyntaxError(Malformed.HEADER_VALUE, "Empty parameter")
        if name in params:
            # RFC 3261 7.3.1: a parameter name must not appear twice in a header field value.
            raise SipSyntaxError(Malformed.HEADER_VALUE, "Parameter appears twice")
        params[name] = value.strip() if equals else None
    return params


def format_params(params: Params) -> str:
    """Write parameters back as `;name=value;flag`."""
    return "".join(
        [f";{name}" if value is None else f";{name}={value}" for name, value in params.items()]
    )


def parse_host_port(text: str) -> tuple[str, int | None]:
    """Parse `host:port`, `[IPv6]:port` or either without port; the host comes back lower-case."""
    if len(text) <= _MAX_KEPT_HOST:
        return _parse_short_host_port(text)
    return _parse_host_port(text)


def _parse_host_port(text: str) -> tuple[str, int | None]:
    if text[:1] == "[":
        host, closing, rest = text[1:].partition("]")
        rest = rest.strip()
        if ":::" in host:
            # The grammar of RFC 3261 asks for a third colon before an IPv4 address by mistake
            # (RFC 5118 4.10).
            hexadecimal, _, dotted = host.partition(":::")
            host = f"{hexadecimal}::{dotted}" if "." in dotted else host
        if not closing or not _is_ipv6(host) or (rest and rest[0] != ":"):
            raise SipSyntaxError(Malformed.URI, "Malformed IPv6 reference")
        colon, port_text = rest[:1], rest[1:].strip()
    else:
        host, colon, port_text = text.partition(":")
        host = host.strip()
        port_text = port_text.strip()
        if not host or host.translate(_DELETE_HOST_CHARS):
            raise SipSyntaxError(Malformed.URI, "Malformed host")
    if not colon:
        return host.lower(), None
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5):
        raise SipSyntaxError(Malformed.URI, "Malformed port")
    port = int(port_text)
    if not 0 < port < 65536:
        raise SipSyntaxError(Malformed.URI, "Port out of range")
    return host.lower(), port


# The same few hosts are in nearly all messages.
_MAX_KEPT_HOST = 48
_parse_short_host_port = lru_cache(maxsize=4096)(_parse_host_port)


def format_host_port(host: str, port: int | None) -> str:
    """Write `host:port`, with the brackets an IPv6 address needs."""
    if ":" in host:
        host = f"[{host}]"
    return host if port is None else f"{host}:{port}"


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return "%" not in text
