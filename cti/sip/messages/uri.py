"""SIP URIs, addresses with display names, and Via (RFC 3261 19.1, 20.10, 20.42)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from string import ascii_letters, digits
from typing import NamedTuple, Self
from urllib.parse import quote as percent_quote
from urllib.parse import unquote_to_bytes

from cti.sip.messages.syntax import (
    Malformed,
    Params,
    SipSyntaxError,
    end_of_quoted,
    format_host_port,
    format_params,
    is_token,
    is_unsafe,
    parse_host_port,
    parse_params,
    quote,
    unquote,
)

_HEX = frozenset("0123456789abcdefABCDEF")
# RFC 3261 25.1: unreserved, and user-unreserved; "%" is handled by itself.
_USER_SAFE = "-_.!~*'()&=+$,;?/"
# RFC 3261 25.1: param-unreserved and unreserved, which need no escape in a parameter.
_PARAM_CHARACTERS = frozenset(ascii_letters + digits + "-_.!~*'()[]/:&+$")
MAGIC_COOKIE = "z9hG4bK"


@dataclass(frozen=True, slots=True)
class SipUri:
    """A sip: or sips: URI; many may share one, so that its parameters are not to be changed.

    `user` and the parameters are unescaped when the result is printable and unambiguous, else kept
    as written; `host` is lower-case and has no brackets; `headers` is the raw text after the
    question mark.
    """

    scheme: str = "sip"
    user: str = ""
    host: str = ""
    port: int | None = None
    params: Params = field(default_factory=dict, hash=False)
    headers: str = ""
    password: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a URI; any scheme but sip and sips is refused."""
        scheme, colon, rest = text.partition(":")
        scheme = scheme.lower()
        if not colon or scheme not in {"sip", "sips"}:
            raise SipSyntaxError(Malformed.URI, "Not a SIP URI")
        if not rest.isprintable() or " " in rest or "<" in rest or ">" in rest or '"' in rest:
            raise SipSyntaxError(Malformed.URI, "Forbidden character in URI")
        user_info, at, rest = rest.rpartition("@")
        user, password = "", None
        if at:
            user, secret_mark, secret = user_info.partition(":")
            password = secret if secret_mark else None
            # An unescaped "@" in the user part would make it open who owns the URI.
            if not user or "@" in user_info:
                raise SipSyntaxError(Malformed.URI, "Malformed user in URI")
            if "%" in user:
                user = _unescape(user)
        rest, _, headers = rest.partition("?")
        host_port, semicolon, params = rest.partition(";")
        host, port = parse_host_port(host_port)
        return cls(
            scheme,
            user,
            host,
            port,
            _uri_params(params) if semicolon else {},
            headers,
            password,
        )

    def __str__(self) -> str:
        if self.user:
            user = self.user if _is_plain(self.user) else _escape(self.user)
            secret = "" if self.password is None else f":{self.password}"
            authority = f"{user}{secret}@{format_host_port(self.host, self.port)}"
        else:
            authority = format_host_port(self.host, self.port)
        headers = f"?{self.headers}" if self.headers else ""
        return f"{self.scheme}:{authority}{format_params(self.params)}{headers}"


def _uri_params(text: str) -> Params:
    params = parse_params(";" + text)
    if "%" not in text:
        return params
    unescaped = {
        _unescape_param(name).lower(): None if value is None else _unescape_param(value)
        for name, value in params.items()
    }
    if len(unescaped) < len(params):
        raise SipSyntaxError(Malformed.URI, "Parameter appears twice")
    return unescaped


def _unescape_param(text: str) -> str:
    plain = _unescape(text)
    return plain if _PARAM_CHARACTERS.issuperset(plain) else text


def _is_plain(user: str) -> bool:
    return user.isascii() and user.isalnum()


def _unescape(text: str) -> str:
    try:
        plain = unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return text
    return plain if plain.isprintable() and " " not in plain and "%" not in plain else text


def _escape(text: str) -> str:
    if "%" not in text:
        return percent_quote(text, safe=_USER_SAFE)
    escaped = []
    for at, character in enumerate(text):
        if character == "%" and len(pair := text[at + 1 : at + 3]) == 2 and _HEX.issuperset(pair):
            escaped.append("%")  # an escape that parsing left alone
        else:
            escaped.append(percent_quote(character, safe=_USER_SAFE))
    return "".join(escaped)


_MAX_KEPT_URI = 64
_parse_short_uri = lru_cache(maxsize=4096)(SipUri.parse)
"""Our own addresses, and those of the few peers in nearly all messages."""


def parse_uri(text: str) -> SipUri | str:
    """Return a SipUri, or the text itself when it has another scheme (tel:, urn:) or is broken."""
    try:
        return _parse_short_uri(text) if len(text) <= _MAX_KEPT_URI else SipUri.parse(text)
    except SipSyntaxError:
        return text


def without_headers(uri: str) -> str:
    """Return a URI as a Request-URI has it (RFC 3261 19.1.1): what follows `?` stays away.

    In the user part a question mark is a character like others.
    """
    user, at, rest = uri.rpartition("@")
    return f"{user}{at}{rest.partition('?')[0]}"


# What nearly all user agents write; anything else goes the long way.
_USUAL_ADDRESS = re.compile(r'(?:"([^"\\]*)" ?)?<([^<>":\s]+:[^<>"\s]*)>(?:;tag=([^;="\s]+))?')


class NameAddr:
    """The value of From, To, Contact, Route and the like; treat as immutable.

    `uri` is parsed when first asked for: most addresses of most messages are only echoed.
    """

    __slots__ = ("_uri", "display", "params", "uri_text")

    def __init__(self, uri: SipUri | str, display: str = "", params: Params | None = None) -> None:
        self.uri_text = str(uri)
        self.display = display
        self.params: Params = {} if params is None else params
        self._uri = None if isinstance(uri, str) else uri
        if is_unsafe(self.uri_text) or is_unsafe(display) or ">" in self.uri_text:
            raise ValueError("line break or angle bracket in an address")

    @property
    def uri(self) -> SipUri | str:
        """The URI, raw when its scheme is not sip or sips or when it cannot be parsed."""
        if self._uri is not None:
            return self._uri
        parsed = parse_uri(self.uri_text)
        if isinstance(parsed, SipUri):
            self._uri = parsed
        return parsed

    @property
    def tag(self) -> str | None:
        """The tag, None when there is none."""
        return self.params.get("tag")

    def with_tag(self, tag: str) -> NameAddr:
        """Return the same address with this tag."""
        return NameAddr(self._uri or self.uri_text, self.display, {**self.params, "tag": tag})

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """Parse a name-addr or an addr-spec, with parameters."""
        usual = _USUAL_ADDRESS.fullmatch(text)
        if usual is not None:
            display, uri_text, tag = usual.groups("")
            return cls._of_parser(uri_text, display, {"tag": tag} if tag else {})
        text = text.strip()
        display = ""
        if text[:1] == '"':
            end = end_of_quoted(text, 0)
            display = unquote(text[:end])
            opening = text.find("<", end)
            if opening < 0 or (opening > end and not text[end:opening].isspace()):
                raise SipSyntaxError(Malformed.HEADER_VALUE, "Display name without an address")
        else:
            opening = text.find("<")
            if opening > 0 and ";" in text[:opening]:
                opening = -1  # a bracket in a parameter of an address without any
            elif opening > 0:
                display = text[:opening].rstrip()
                if "," in display or '"' in display:
                    raise SipSyntaxError(Malformed.HEADER_VALUE, "Malformed display name")
        if opening < 0:
            # RFC 3261 20: without brackets, parameters belong to the header, not to the URI.
            uri_text, semicolon, rest = text.partition(";")
            uri_text = uri_text.rstrip()
            params = semicolon + rest
            if "?" in uri_text or "," in uri_text:
                raise SipSyntaxError(Malformed.HEADER_VALUE, "URI needs angle brackets")
        else:
            closing = text.find(">", opening)
            if closing < 0:
                raise SipSyntaxError(Malformed.HEADER_VALUE, "Angle bracket is not closed")
            uri_text = text[opening + 1 : closing].strip()
            params = text[closing + 1 :].lstrip()
        if ":" not in uri_text:
            raise SipSyntaxError(Malformed.HEADER_VALUE, "Address without a URI")
        return cls._of_parser(uri_text, display, parse_params(params))

    @classmethod
    def _of_parser(cls, uri_text: str, display: str, params: Params) -> NameAddr:
        address = cls.__new__(cls)
        address.uri_text = uri_text
        address.display = display
        address.params = params
        address._uri = None  # noqa: SLF001 - its own class
        return address

    def __str__(self) -> str:
        name = f"{quote(self.display)} " if self.display else ""
        return f"{name}<{self.uri_text}>{format_params(self.params)}"

    def __repr__(self) -> str:
        return f"NameAddr({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NameAddr) and (
            (self.display, self.uri, self.params) == (other.display, other.uri, other.params)
        )

    def __hash__(self) -> int:
        return hash((self.display, self.uri))


_TRANSPORTS = {f"SIP/2.0/{each}": each for each in ("UDP", "TCP", "TLS", "WS", "WSS")}
_USUAL_PARAMS = re.compile(r";branch=([^;=\s\"]+)(?:(;rport)(?:=([0-9]+))?)?")


def _split_protocol(via: str) -> tuple[str, str]:
    """Split `SIP / 2.0 / UDP host…`, with any white space the grammar has, before the host."""
    protocol = via.split("/", 2)
    if len(protocol) != 3 or protocol[0].strip().upper() != "SIP" or protocol[1].strip() != "2.0":
        raise SipSyntaxError(Malformed.HEADER_VALUE, "Malformed Via protocol")
    sent = protocol[2].split(None, 1)
    if len(sent) != 2 or not is_token(sent[0]):
        raise SipSyntaxError(Malformed.HEADER_VALUE, "Malformed Via")
    return sent[0].upper(), sent[1]


class Via(NamedTuple):
    """One Via value; `host` is lower-case and has no brackets."""

    transport: str
    host: str
    port: int | None
    params: Params

    @property
    def branch(self) -> str:
        """The branch, empty when there is none."""
        return self.params.get("branch") or ""

    @property
    def sent_by(self) -> str:
        """Host and port in one text that can be compared."""
        return f"{self.host}:{self.port or 5060}"

    def with_params(self, **params: str | None) -> Via:
        """Return the same Via with these parameters set."""
        return Via(self.transport, self.host, self.port, {**self.params, **params})

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `SIP/2.0/UDP host:port;branch=…`, with white space where the grammar has it."""
        protocol, _, sent = text.partition(" ")
        transport = _TRANSPORTS.get(protocol)
        if transport is None or not sent:
            transport, sent = _split_protocol(text)
        host_port, semicolon, params = sent.partition(";")
        host, port = parse_host_port(host_port.strip())
        params = semicolon + params
        usual = _USUAL_PARAMS.fullmatch(params)
        if usual is None:
            return cls(transport, host, port, parse_params(params))
        branch, rport, number = usual.groups()
        known: Params = {"branch": branch}
        if rport is not None:
            known["rport"] = number
        return cls(transport, host, port, known)

    def __str__(self) -> str:
        sent_by = format_host_port(self.host, self.port)
        return f"SIP/2.0/{self.transport} {sent_by}{format_params(self.params)}"
