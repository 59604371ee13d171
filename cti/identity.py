"""Who calls: what an INVITE tells of the caller and of the call's way, and what ours tell.

RFC 3323 and 3325 (privacy, asserted identity), RFC 5806 (Diversion), RFC 7044 (History-Info),
RFC 7315 4.2 (P-Called-Party-ID), RFC 7433 (User-to-User), and the older Remote-Party-ID.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass

from cti.numbers import number_of, number_of_address
from cti.sip.messages.headers import Headers, canonical_name
from cti.sip.messages.message import Request
from cti.sip.messages.syntax import SipSyntaxError, split_outside, unquote
from cti.sip.messages.uri import NameAddr, SipUri
from cti.trunks.settings import CallerIdStyle

_MAX_NAME_CHARACTERS = 64
_MAX_HISTORY = 16
_MAX_USER_TO_USER_CHARACTERS = 1024  # RFC 7433 4.1 leaves it to us; ISUP carries 128 octets

ANONYMOUS_URI = "sip:anonymous@anonymous.invalid"
_ANONYMOUS_USERS = frozenset({"", "anonymous", "unknown", "unavailable", "restricted", "private"})
# RFC 3323 4.2 and RFC 3325 9.3: the values by which a caller withholds the number.
_WITHHOLDING = frozenset({"id", "user", "header", "session"})
_HEX = frozenset(string.hexdigits)
# All that tells more of a caller than the From; most calls have none of them.
_TELLING = frozenset(
    map(
        canonical_name,
        (
            "P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID", "Privacy",
            "Diversion", "History-Info", "P-Called-Party-ID", "User-To-User", "Reason", "Call-Info",
        ),
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class UserToUser:
    """Data that users pass along with a call; `data` is as written, `text` for people and flows."""

    data: str
    encoding: str
    purpose: str

    @property
    def text(self) -> str:
        """The data decoded, where it is text."""
        if self.encoding != "hex":
            return self.data
        raw = bytes.fromhex(self.data)
        # ISUP interworking starts with a protocol discriminator (Q.931 4.5.30); 4 is IA5 text.
        raw = raw[1:] if raw[:1] in {b"\x00", b"\x04"} else raw
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return ""
        return text if text.isprintable() else ""


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """What is known of a caller.

    `number` is for routing and lists, and may be one that the caller withholds: people are shown
    `shown_number` and `shown_name`.
    """

    number: str
    name: str = ""
    withheld: bool = False
    diverted_from: str = ""
    """Who diverted the call last (the first Diversion or the last History-Info)."""
    first_called: str = ""
    """The number that was called at first."""
    history: tuple[str, ...] = ()
    called_party: str = ""
    """P-Called-Party-ID."""
    user_to_user: tuple[UserToUser, ...] = ()
    reason: str = ""
    """The Reason of the INVITE (RFC 3326), such as the cause of a diversion."""
    call_info: tuple[str, ...] = ()

    @property
    def is_anonymous(self) -> bool:
        """Whether the caller shows no number, known or not."""
        return self.withheld or not self.number

    @property
    def shown_number(self) -> str:
        """The number as agents may see it."""
        return "anonymous" if self.is_anonymous else self.number

    @property
    def shown_name(self) -> str:
        """The name as agents may see it."""
        return "" if self.withheld else self.name


def identity_of(request: Request, *, is_trusted: bool = True) -> CallerIdentity:
    """Read the identity; only a trusted trunk's word (RFC 3324) counts before the caller's own."""
    headers = request.headers
    if not headers.has_any(_TELLING):
        return _identity_by(request.from_)
    sources: list[str] = []
    if is_trusted:
        sources += _values(headers, "P-Asserted-Identity")
        sources += _values(headers, "P-Preferred-Identity")[:1]
        sources += _values(headers, "Remote-Party-ID")[:1]
    addresses = [address for address in map(_address, sources) if address is not None]
    from_ = request.from_
    asserted = next((one for one in addresses if _is_shown(one)), None)
    caller = asserted or from_
    number = number_of(caller.uri) if _is_shown(caller) else ""
    named = next((one.display for one in (*addresses, from_) if one.display), "")
    diversions = _values(headers, "Diversion")
    history = _history(headers)
    return CallerIdentity(
        number=number,
        name=_printable(named),
        withheld=_withheld(request, addresses, from_),
        diverted_from=number_of_address(diversions[0]) if diversions else _diverter(history),
        first_called=number_of_address(diversions[-1]) if diversions else (history or ("",))[0],
        history=history,
        called_party=number_of_address(next(iter(_values(headers, "P-Called-Party-ID")), None)),
        user_to_user=tuple(_user_to_user(headers)),
        reason=next(iter(_values(headers, "Reason")), ""),
        call_info=tuple(_values(headers, "Call-Info")),
    )


def _identity_by(from_: NameAddr) -> CallerIdentity:
    """Return what a From alone tells."""
    is_shown = _is_shown(from_)
    number = number_of(from_.uri) if is_shown else ""
    return CallerIdentity(number, _printable(from_.display), withheld=not is_shown)


def _values(headers: Headers, name: str) -> list[str]:
    """Return the values of a header; one that breaks the grammar is as good as none."""
    if name not in headers:
        return []
    try:
        return headers.get_all(name)
    except SipSyntaxError:
        return []


def _address(text: str) -> NameAddr | None:
    try:
        return NameAddr.parse(text)
    except SipSyntaxError:
        return None


def _is_shown(address: NameAddr) -> bool:
    """Tell whether an address names anybody (RFC 3323 4.1.1.3)."""
    uri = address.uri
    if isinstance(uri, SipUri):
        if uri.host == "anonymous.invalid" or uri.host.endswith(".anonymous.invalid"):
            return False
        return uri.user.lower() not in _ANONYMOUS_USERS
    return uri[:4].lower() == "tel:" and len(uri) > 4


def _withheld(request: Request, addresses: list[NameAddr], from_: NameAddr) -> bool:
    wishes = {
        wish.strip().lower()
        for row in request.headers.rows("Privacy")
        for wish in row.replace(",", ";").split(";")
    }
    if "none" in wishes:  # RFC 3323 4.2: it stands alone, and forbids to add privacy
        return False
    if not wishes.isdisjoint(_WITHHOLDING) or not _is_shown(from_):
        return True
    # draft-ietf-sip-privacy: privacy=full beside the Remote-Party-ID that counts
    return any(
        (one.params.get("privacy") or "off").lower() not in {"off", "no"} for one in addresses
    )


def _history(headers: Headers) -> tuple[str, ...]:
    """Return the numbers of the History-Info entries, in the order of their index."""
    entries: list[tuple[tuple[int, ...], str]] = []
    for value in _values(headers, "History-Info")[:_MAX_HISTORY]:
        address = _address(value)
        if address is None:
            continue
        index = (address.params.get("index") or "").split(".")
        if not all(part.isascii() and part.isdigit() and len(part) < 4 for part in index):
            continue
        entries.append((tuple(map(int, index)), number_of(_without_headers(address))))
    return tuple(number for _, number in sorted(entries))


def _without_headers(address: NameAddr) -> SipUri | str:
    uri = address.uri
    # RFC 7044 10.2: Reason and Privacy of an entry stand in its URI, behind a question mark.
    return uri if isinstance(uri, SipUri) else uri.partition("?")[0]


def _diverter(history: tuple[str, ...]) -> str:
    return history[-2] if len(history) > 1 else ""


def _user_to_user(headers: Headers) -> Iterator[UserToUser]:
    for row in headers.rows("User-To-User"):
        try:
            values = split_outside(row, ",")
            pieces = [split_outside(value, ";") for value in values if value]
        except SipSyntaxError:
            continue
        for data, *params in pieces:
            named = {
                name.strip().lower(): unquote(value.strip())
                for name, _, value in (param.partition("=") for param in params)
            }
            # RFC 7433 4.1: the encoding is hex unless the value is a quoted string.
            encoding = named.get("encoding", "text" if data[:1] == '"' else "hex").lower()
            plain = unquote(data)
            if len(plain) > _MAX_USER_TO_USER_CHARACTERS or not plain.isprintable():
                continue
            if encoding == "hex" and not (_HEX.issuperset(plain) and len(plain) % 2 == 0):
                continue
            yield UserToUser(plain, encoding, named.get("purpose", ""))


def _printable(text: str) -> str:
    printable = text if text.isprintable() else "".join(filter(str.isprintable, text))
    return printable[:_MAX_NAME_CHARACTERS]


# What our own INVITEs tell


@dataclass(frozen=True, slots=True)
class OutgoingIdentity:
    """The From and the headers of an INVITE to a carrier."""

    from_: NameAddr
    headers: tuple[tuple[str, str], ...]


def outgoing_identity(
    number: str,
    domain: str,
    *,
    style: CallerIdStyle = CallerIdStyle.FROM,
    privacy: bool = False,
    knows_privacy: bool = True,
) -> OutgoingIdentity:
    """Tell a carrier who calls: `domain` is the trunk's own, never an inner host.

    Towards a carrier that does not know Privacy, a withheld number is not told at all.
    """
    told = NameAddr(SipUri(user=number, host=domain), number)
    from_ = NameAddr(ANONYMOUS_URI, "Anonymous") if privacy else told
    if privacy and not knows_privacy:
        return OutgoingIdentity(from_, ())
    headers: list[tuple[str, str]] = []
    if style is CallerIdStyle.P_ASSERTED_IDENTITY:
        headers.append(("P-Asserted-Identity", str(told)))
    elif style is CallerIdStyle.P_PREFERRED_IDENTITY:
        headers.append(("P-Preferred-Identity", str(told)))
    elif style is CallerIdStyle.REMOTE_PARTY_ID:
        wish = "full" if privacy else "off"
        headers.append(("Remote-Party-ID", f"{told};party=calling;privacy={wish};screen=yes"))
    if privacy:
        headers.append(("Privacy", "id"))
    return OutgoingIdentity(from_, tuple(headers))


def parse_user_to_user(value: str) -> UserToUser | None:
    """Read a value as an INVITE carries it; None when there is none, or it cannot be read."""
    if not value:
        return None
    return next(_user_to_user(Headers([("User-To-User", value)])), None)


def user_to_user_header(data: UserToUser) -> tuple[str, str]:
    """Write User-to-User data on; ValueError when it holds line breaks."""
    value = data.data if data.encoding == "hex" else '"' + data.data.replace('"', "'") + '"'
    purpose = f";purpose={data.purpose}" if data.purpose else ""
    return "User-To-User", f"{value};encoding={data.encoding}{purpose}"
