"""What a REFER asks for: its Refer-To and Referred-By headers (RFC 3515 2.1, RFC 3892 3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote_to_bytes

from cti.sip.events.replaces import Replaces
from cti.sip.messages.message import Request
from cti.sip.messages.syntax import Malformed, SipSyntaxError, is_token, is_unsafe
from cti.sip.messages.uri import NameAddr, SipUri

# RFC 3261 19.1.5: headers of a URI are honoured only where they do no harm.
_PASSED_HEADERS: Final = {"subject": "Subject", "user-to-user": "User-To-User"}
_MAX_HEADER_CHARACTERS = 512
_TEL_NUMBER = frozenset("0123456789ABCDEFabcdef*#+-.()")


@dataclass(frozen=True, slots=True)
class ReferTo:
    """Where a call is to be sent."""

    target: str
    """The URI to call, without its headers and its method."""
    replaces: Replaces | None
    """The call at the target to take over, for an attended transfer."""
    headers: tuple[tuple[str, str], ...]
    """Further headers for the new INVITE, of those that may be passed on."""


def refer_to_of(request: Request) -> ReferTo:
    """Read the Refer-To; SipSyntaxError, with the status to refuse with, when it cannot be used."""
    rows = request.headers.rows("Refer-To")
    if len(rows) != 1:
        raise SipSyntaxError(Malformed.HEADER_REPEATED, "REFER needs exactly one Refer-To")
    text = NameAddr.parse(rows[0]).uri_text
    scheme = text.partition(":")[0].lower()
    if scheme == "tel":
        return ReferTo(_tel_uri(text), None, ())
    if scheme not in {"sip", "sips"}:
        raise SipSyntaxError(Malformed.URI, "Refer-To takes sip, sips and tel", 416)
    return _of_sip_uri(SipUri.parse(text))


def referred_by_of(request: Request) -> str:
    """Return the Referred-By as sent, empty without one; SipSyntaxError for a broken one."""
    rows = request.headers.rows("Referred-By")
    if not rows:
        return ""
    if len(rows) > 1:
        raise SipSyntaxError(Malformed.HEADER_REPEATED, "Referred-By appears twice")
    NameAddr.parse(rows[0])
    return rows[0]


def _of_sip_uri(uri: SipUri) -> ReferTo:
    if (uri.params.get("method") or "INVITE").upper() != "INVITE":
        raise SipSyntaxError(Malformed.URI, "Refer-To takes the method INVITE only", 403)
    named, passed = _read_headers(uri.headers)
    required = named.get("require", "").lower()
    if required not in {"", "replaces"}:
        raise SipSyntaxError(Malformed.URI, "Refer-To requires an unknown extension", 403)
    replaces = Replaces.parse(named["replaces"]) if "replaces" in named else None
    params = {name: value for name, value in uri.params.items() if name != "method"}
    target = replace(uri, params=params, headers="", password=None)
    return ReferTo(str(target), replaces, tuple(passed))


def _read_headers(text: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return the headers we act on by lower-case name, and those to pass on (19.1.1)."""
    named: dict[str, str] = {}
    passed: list[tuple[str, str]] = []
    for piece in filter(None, text.split("&")):
        raw_name, equals, raw_value = piece.partition("=")
        name, value = _decoded(raw_name).lower(), _decoded(raw_value)
        if not equals or not is_token(name):
            raise SipSyntaxError(Malformed.URI, "Malformed header in Refer-To")
        if name in named:
            raise SipSyntaxError(Malformed.URI, "Header appears twice in Refer-To")
        if name in {"replaces", "require"}:
            named[name] = value
        elif name in _PASSED_HEADERS and len(value) <= _MAX_HEADER_CHARACTERS:
            passed.append((_PASSED_HEADERS[name], value))
    return named, passed


def _decoded(text: str) -> str:
    try:
        plain = unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise SipSyntaxError(Malformed.URI, "Header in Refer-To is not UTF-8") from None
    if is_unsafe(plain) or not plain.isprintable():
        raise SipSyntaxError(Malformed.URI, "Control character in Refer-To")
    return plain


def _tel_uri(text: str) -> str:
    """Return a tel: URI of a number that can be dialled, without its parameters (RFC 3966 3)."""
    number = text.partition(":")[2].partition(";")[0]
    if not number or not _TEL_NUMBER.issuperset(number):
        raise SipSyntaxError(Malformed.URI, "Malformed number in Refer-To")
    return f"tel:{number}"
