"""SIP requests and responses: classes, writer and parser (RFC 3261 7, 8.2.6, 18.3).

Written out by hand, not by grammars or a mail parser: this runs ten times a call.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Iterable

from cti.sip.messages.headers import NAMES, SINGLE, Headers, canonical_name
from cti.sip.messages.reasons import REASON_PHRASES
from cti.sip.messages.syntax import Malformed, SipSyntaxError, is_token, is_unsafe, split_outside
from cti.sip.messages.uri import NameAddr, SipUri, Via, parse_uri

MAX_MESSAGE_BYTES = 65_535
MAX_HEADER_LINES = 256
MAX_LINE_CHARACTERS = 8_192
_find_empty_line = re.compile(rb"\n\r?\n").search

_MANDATORY = frozenset({"Via", "From", "To", "Call-ID", "CSeq"})
_MAX_FORWARDS = frozenset(map(str, range(256)))

__all__ = [
    "REASON_PHRASES",
    "Headers",
    "Malformed",
    "Request",
    "Response",
    "SipSyntaxError",
    "new_tag",
    "parse_message",
    "response_to",
    "tagged",
]


class Message:
    """What requests and responses share.

    The structured headers are parsed when first asked for and kept until their text changes. On a
    message from `parse_message` none of these properties raises.
    """

    __slots__ = ("_cseq", "_from", "_to", "_via", "body", "encoding", "headers")

    headers: Headers
    body: bytes
    encoding: str
    """How header text is written: "utf-8", or "latin-1" to echo a peer's other bytes unchanged."""

    _cseq: tuple[str, tuple[int, str]] | None
    _from: tuple[str, NameAddr] | None
    _to: tuple[str, NameAddr] | None
    _via: tuple[str, Via] | None

    def _init(self, headers: Headers, body: bytes, encoding: str) -> None:
        self.headers = headers
        self.body = body
        self.encoding = encoding
        self._cseq = self._from = self._to = self._via = None

    def _required(self, name: str) -> str:
        value = self.headers.first_row(name)
        if value is None:
            raise SipSyntaxError(Malformed.HEADER_MISSING, f"Missing {name}")
        return value

    @property
    def call_id(self) -> str:
        """The Call-ID."""
        return self._required("Call-ID")

    @property
    def cseq(self) -> tuple[int, str]:
        """Number and method of the CSeq."""
        known, text = self._cseq, self.headers.first_row("CSeq")
        if known is None or known[0] is not text:
            text = self._required("CSeq")
            self._cseq = known = (text, _parse_cseq(text))
        return known[1]

    @property
    def from_(self) -> NameAddr:
        """The From address."""
        known, text = self._from, self.headers.first_row("From")
        if known is None or known[0] is not text:
            text = self._required("From")
            self._from = known = (text, NameAddr.parse(text))
        return known[1]

    @property
    def to(self) -> NameAddr:
        """The To address."""
        known, text = self._to, self.headers.first_row("To")
        if known is None or known[0] is not text:
            text = self._required("To")
            self._to = known = (text, NameAddr.parse(text))
        return known[1]

    @property
    def top_via(self) -> Via:
        """The first Via."""
        known, text = self._via, self.headers.first_row("Via")
        if known is None or known[0] is not text:
            text = self._required("Via")
            self._via = known = (text, _parse_first_via(text))
        return known[1]

    @property
    def has_one_via(self) -> bool:
        """Whether the first Via is the only one."""
        rows = self.headers.rows("Via")
        return len(rows) == 1 and ("," not in rows[0] or len(split_outside(rows[0], ",")) == 1)

    def push_via(self, via: Via) -> None:
        """Put a Via before the others."""
        text = str(via)
        self.headers.prepend("Via", text)
        self._via = (text, via)

    def replace_top_via(self, via: Via) -> None:
        """Put another Via in the place of the first."""
        text = str(via)
        self.headers.replace_first("Via", text)
        self._via = (text, via)

    def parse_mandatory(self, rows: dict[str, list[str]]) -> None:
        """Parse the headers that every message has, so that asking for them cannot fail later."""
        via, from_, to, cseq = rows["Via"][0], rows["From"][0], rows["To"][0], rows["CSeq"][0]
        self._via = (via, _parse_first_via(via))
        self._from = (from_, _parse_party(from_))
        self._to = (to, _parse_party(to))
        self._cseq = (cseq, _parse_cseq(cseq))

    def _start_line(self) -> str:
        raise NotImplementedError

    def to_bytes(self) -> bytes:
        """Write the message; Content-Length is computed."""
        start_line = self._start_line()
        if is_unsafe(start_line):
            raise ValueError("line break in the start line")
        lines = self.headers.lines()
        lines.insert(0, start_line)
        lines.append(f"Content-Length: {len(self.body)}\r\n\r\n")
        return "\r\n".join(lines).encode(self.encoding, "replace") + self.body


class Request(Message):
    """A request; `uri` is the Request-URI as text."""

    __slots__ = ("_target", "method", "uri")

    _target: tuple[str, SipUri | str] | None

    def __init__(
        self,
        method: str,
        uri: str,
        headers: Headers | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        encoding: str = "utf-8",
    ) -> None:
        if not is_token(method):
            raise ValueError("method is not a token")
        if not uri or " " in uri or is_unsafe(uri):
            raise ValueError("white space in the Request-URI")
        self.method = method
        self.uri = uri
        self._target = None
        self._init(headers if isinstance(headers, Headers) else Headers(headers), body, encoding)

    @classmethod
    def of_parser(cls, method: str, uri: str, headers: Headers, encoding: str) -> Request:
        """Make a request of parsed text, which may be broken."""
        request = cls.__new__(cls)
        request.method = method
        request.uri = uri
        request._target = None  # noqa: SLF001 - its own class
        request._init(headers, b"", encoding)  # noqa: SLF001 - its own class
        return request

    @property
    def target(self) -> SipUri | str:
        """The Request-URI parsed, raw when its scheme is not sip or sips."""
        if self._target is None or self._target[0] is not self.uri:
            self._target = (self.uri, parse_uri(self.uri))
        return self._target[1]

    def _start_line(self) -> str:
        return f"{self.method} {self.uri} SIP/2.0"

    def copy(self) -> Request:
        """Return a request whose headers can change on their own."""
        return Request(self.method, self.uri, self.headers.copy(), self.body, self.encoding)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Request) and (
            (self.method, self.uri, self.headers, self.body)
            == (other.method, other.uri, other.headers, other.body)
        )

    __hash__ = Message.__hash__

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.headers.get('CSeq')}>"


class Response(Message):
    """A response."""

    __slots__ = ("reason", "status")

    def __init__(
        self,
        status: int,
        reason: str = "",
        headers: Headers | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        encoding: str = "utf-8",
    ) -> None:
        if not 100 <= status <= 699:
            raise ValueError("status is not between 100 and 699")
        if is_unsafe(reason):
            raise ValueError("line break in the reason phrase")
        self.status = status
        self.reason = reason
        self._init(headers if isinstance(headers, Headers) else Headers(headers), body, encoding)

    def _start_line(self) -> str:
        return f"SIP/2.0 {self.status} {self.reason}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Response) and (
            (self.status, self.reason, self.headers, self.body)
            == (other.status, other.reason, other.headers, other.body)
        )

    __hash__ = Message.__hash__

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.headers.get('CSeq')}>"


def _parse_party(text: str) -> NameAddr:
    party = NameAddr.parse(text)
    if "tag" in party.params and not party.params["tag"]:  # RFC 3261 25.1: it has a value
        raise SipSyntaxError(Malformed.HEADER_VALUE, "Tag without a value")
    return party


def _parse_cseq(text: str) -> tuple[int, str]:
    parts = text.split()
    if len(parts) == 2 and parts[0].isascii() and parts[0].isdigit() and is_token(parts[1]):
        number = int(parts[0]) if len(parts[0]) <= 10 else 2**31
        if number < 2**31:  # RFC 3261 8.1.1.5
            return number, parts[1]
    raise SipSyntaxError(Malformed.HEADER_VALUE, "Malformed CSeq")


def _parse_first_via(row: str) -> Via:
    return Via.parse(split_outside(row, ",")[0] if "," in row else row)


def new_tag() -> str:
    """Return a fresh From or To tag (RFC 3261 19.3 asks for 32 random bits at least)."""
    return os.urandom(8).hex()


_TAG_KEY = os.urandom(16)


def _stateless_tag(request: Request) -> str:
    """Return the same tag for the same request, without memory (RFC 3261 8.2.7)."""
    names = ("Call-ID", "From", "CSeq")
    seed = "\n".join(request.headers.get(name) or "" for name in names)
    return hmac.digest(_TAG_KEY, seed.encode(), "sha256")[:8].hex()


def tagged(party: str, tag: str) -> str:
    """Return a To that has no tag as written, with this one."""
    party = party.rstrip("; ")  # a semicolon at the end is no parameter
    return f"{party};tag={tag}"


def _lacks_tag(request: Request) -> bool:
    try:
        return request.to.tag is None
    except SipSyntaxError:
        return False  # where a tag would go in a broken To, nobody knows


def response_to(
    request: Request,
    status: int,
    reason: str | None = None,
    *,
    to_tag: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str | None = None,
) -> Response:
    """Build a response with the headers RFC 3261 8.2.6.2 takes from the request.

    Without `to_tag`, a To that needs a tag gets one that is the same for each answer to the same
    request.
    """
    own = Headers()
    own.copy_from(request.headers, "Via")
    # Of what a broken request has twice the first is echoed; what it lacks cannot be.
    own.copy_first(request.headers, "From", "To", "Call-ID", "CSeq")
    if status > 100 and _lacks_tag(request):
        own.set("To", tagged(own.first_row("To") or "", to_tag or _stateless_tag(request)))
    if status == 100:
        own.copy_from(request.headers, "Timestamp")  # RFC 3261 8.2.6.1
    for name, value in headers:
        own.add(name, value)
    if content_type is not None:
        own.set("Content-Type", content_type)
    if reason is None:
        reason = REASON_PHRASES.get(status, "")
    return Response(status, reason, own, body, request.encoding)


def parse_message(data: bytes) -> Request | Response:
    """Parse one datagram; raise SipSyntaxError and nothing else."""
    if data[:1] in {b"\r", b"\n"}:
        data = data.lstrip(b"\r\n")  # RFC 3261 7.5
    if len(data) > MAX_MESSAGE_BYTES:
        raise SipSyntaxError(Malformed.TOO_LARGE, "Message Too Large", 513)
    end, body_start = find_head_end(data)
    head = data if end < 0 else data[:end]
    message, length = parse_head(head)
    request = message if isinstance(message, Request) else None
    if request is not None and not is_answerable(request):
        request = None
    if end < 0:
        raise SipSyntaxError(
            Malformed.HEADER_LINE, "Missing empty line after the headers", partial=request
        )
    available = len(data) - body_start
    if length is None or length == available:
        message.body = data[body_start:]
    elif length > available:
        raise SipSyntaxError(
            Malformed.CONTENT_LENGTH, "Content-Length exceeds the datagram", partial=request
        )
    else:
        message.body = data[body_start : body_start + length]  # RFC 3261 18.3: discard the rest
    return message


def find_head_end(data: bytes | bytearray, start: int = 0) -> tuple[int, int]:
    """Return where the head ends and where the body starts; (-1, -1) when there is no empty line.

    Lines that end in LF alone are accepted, as most stacks do. The first empty line of either kind
    counts, so that a stream gives the same messages in whatever pieces it comes.
    """
    found = _find_empty_line(data, start)
    if found is None:
        return -1, -1
    end, body_start = found.span()
    return (end - 1 if data[end - 1 : end] == b"\r" else end), body_start


_NUL_STAND_INS = {"utf-8": "\ufffd", "latin-1": "\xbf"}
"""What we can write, too: a `?` would make an address without angle brackets unreadable."""


def parse_head(head: bytes) -> tuple[Request | Response, int | None]:
    """Parse start line and headers; return the message without body, and its Content-Length."""
    try:
        text = head.decode()
        encoding = "utf-8"
    except UnicodeDecodeError:
        text = head.decode("latin-1")
        encoding = "latin-1"
    lines = _split_lines(text, _NUL_STAND_INS[encoding])
    start_line = lines[0]
    rows, fault = _parse_rows(lines)
    headers = Headers.of_rows(rows)
    request: Request | None = None
    try:
        if start_line[:4].upper() == "SIP/":
            message: Request | Response = _response(start_line, headers, encoding)
        else:
            message = request = _request(start_line, headers, encoding)
            _check_start_line(start_line, request)
        if fault is not None:
            raise fault
        length = _check(message, rows)
        if request is not None:
            _check_request(request)
    except SipSyntaxError as error:
        error.partial = request if request is not None and is_answerable(request) else None
        error.content_length = _content_length(rows)
        raise
    return message, length


def is_answerable(request: Request) -> bool:
    """Tell whether enough of a broken request is there to answer it (RFC 4475 3.3.1).

    Its client finds the transaction by the Via; the other headers are only echoed.
    """
    return request.method != "ACK" and "Via" in request.headers  # no ACK is answered (17)


def _split_lines(text: str, stand_in: str) -> list[str]:
    if "\0" in text:
        # A NUL is allowed as a quoted pair only (RFC 3261 25.1); stores downstream cannot hold it.
        text = text.replace("\\\0", f"\\{stand_in}")
        if "\0" in text:
            raise SipSyntaxError(Malformed.NOT_SIP, "NUL character")
    lines = text.split("\r\n")
    breaks = len(lines) - 1
    if text.count("\n") != breaks or text.count("\r") != breaks:
        text = text.replace("\r\n", "\n").replace("\r", " ").replace("\n", "\r\n")
        lines = text.split("\r\n")
    if len(lines) > MAX_HEADER_LINES:
        del lines[MAX_HEADER_LINES:]
        lines.append("")  # refused as a line without a colon, after the headers that matter
    return lines


def _parse_rows(lines: list[str]) -> tuple[dict[str, list[str]], SipSyntaxError | None]:
    """Read header lines; a broken one does not keep the others from being read."""
    rows: dict[str, list[str]] = {}
    fault: SipSyntaxError | None = None
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        key = NAMES.get(name)
        if key is None or not colon or len(line) > MAX_LINE_CHARACTERS:
            if line[:1] in {" ", "\t"}:
                return _parse_folded(lines)
            try:
                key = _name_of(line)
            except SipSyntaxError as error:
                fault = error
                continue
        if key not in rows:
            rows[key] = [value.strip(" \t")]
            continue
        rows[key].append(value.strip(" \t"))
        if key in SINGLE:
            fault = SipSyntaxError(Malformed.HEADER_REPEATED, f"Repeated {key}")
    return rows, fault


def _parse_folded(lines: list[str]) -> tuple[dict[str, list[str]], SipSyntaxError | None]:
    """Read lines of which some continue the one before them (RFC 3261 7.3.1)."""
    text = "\r\n".join(lines)
    unfolded = text.replace("\r\n ", " ").replace("\r\n\t", " ").split("\r\n")
    rows, fault = _parse_rows(unfolded)
    if len(unfolded[0]) > len(lines[0]):
        fault = SipSyntaxError(Malformed.START_LINE, "Folded start line")
    return rows, fault


def _name_of(line: str) -> str:
    """Return the name of a header line that is not one of the usual."""
    name, colon, _ = line.partition(":")
    if not colon:
        raise SipSyntaxError(Malformed.HEADER_LINE, "Header line without a colon")
    if len(line) > MAX_LINE_CHARACTERS:
        raise SipSyntaxError(Malformed.TOO_LARGE, "Header line too long", 513)
    return canonical_name(name)


def _request(start_line: str, headers: Headers, encoding: str) -> Request:
    method, _, rest = start_line.partition(" ")
    # White space at the end is a fault that still leaves the request readable.
    uri, _, version = rest.rstrip().rpartition(" ")
    if version[:4].upper() != "SIP/" or not is_token(method):
        raise SipSyntaxError(Malformed.NOT_SIP, "Not SIP")
    return Request.of_parser(method, uri, headers, encoding)


def _check_start_line(start_line: str, request: Request) -> None:
    version = start_line.rstrip().rpartition(" ")[2].upper()
    if version != "SIP/2.0":
        raise SipSyntaxError(Malformed.VERSION, "Version Not Supported", 505)
    if not request.uri or " " in request.uri or start_line[-1] == " ":
        raise SipSyntaxError(Malformed.START_LINE, "Malformed request line")


def _response(start_line: str, headers: Headers, encoding: str) -> Response:
    version, _, rest = start_line.partition(" ")
    status, _, reason = rest.partition(" ")
    if version.upper() != "SIP/2.0":
        raise SipSyntaxError(Malformed.VERSION, "Version Not Supported", 505)
    if not (len(status) == 3 and status.isascii() and status.isdigit() and "1" <= status < "7"):
        raise SipSyntaxError(Malformed.START_LINE, "Malformed status")
    return Response(int(status), reason, headers, b"", encoding)


def _check(message: Request | Response, rows: dict[str, list[str]]) -> int | None:
    """Check what every message must have; return the Content-Length."""
    if not rows.keys() >= _MANDATORY:
        missing = min(_MANDATORY - rows.keys())
        raise SipSyntaxError(Malformed.HEADER_MISSING, f"Missing {missing}")
    if not rows["Call-ID"][0]:
        raise SipSyntaxError(Malformed.HEADER_VALUE, "Empty Call-ID")
    message.parse_mandatory(rows)
    length = _content_length(rows)
    if length is None and "Content-Length" in rows:
        raise SipSyntaxError(Malformed.CONTENT_LENGTH, "Malformed Content-Length")
    return length


def _content_length(rows: dict[str, list[str]]) -> int | None:
    values = rows.get("Content-Length")
    if values is None or len(values) != 1:
        return None
    text = values[0]
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None


def _check_request(request: Request) -> None:
    if request.cseq[1] != request.method:
        raise SipSyntaxError(Malformed.HEADER_VALUE, "CSeq method differs from the request")
    forwards = request.headers.first_row("Max-Forwards")
    if forwards is not None and (forwards.lstrip("0") or forwards[:1]) not in _MAX_FORWARDS:
        raise SipSyntaxError(Malformed.HEADER_VALUE, "Malformed Max-Forwards")
    target = request.target
    if isinstance(target, SipUri):
        if target.headers:  # RFC 3261 19.1.1: not allowed there, and nobody may act on them
            raise SipSyntaxError(Malformed.URI, "Headers in the Request-URI")
    else:
        # Other schemes are for the user agent to refuse (416).
        scheme, colon, _ = request.uri.partition(":")
        if not colon or not is_token(scheme) or scheme.lower() in {"sip", "sips"}:
            raise SipSyntaxError(Malformed.URI, "Malformed Request-URI")
