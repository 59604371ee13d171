"""SIP as text, no more than the generator needs: one pass to read, one template to write.

This is no part of the platform's own stack on purpose: it costs a tenth, and it does not share
what that one might get wrong.
"""

from __future__ import annotations

from typing import NamedTuple

Address = tuple[str, int]

COMPACT_HEADERS = {
    "v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "c": "content-type",
    "l": "content-length", "k": "supported",
}  # fmt: skip
_REPEATED = frozenset({"via", "record-route"})


class Cseq(NamedTuple):
    """Number and method of a CSeq."""

    number: int
    method: str


class Message:
    """A request or a response; only Via and Record-Route are kept as often as they come."""

    __slots__ = ("body", "headers", "method", "record_routes", "status", "uri", "vias")

    def __init__(self, start_line: str) -> None:
        first, _, rest = start_line.partition(" ")
        self.status = 0
        self.method = self.uri = ""
        if first == "SIP/2.0":
            self.status = int(rest[:3])
        else:
            self.method, self.uri = first, rest.partition(" ")[0]
        self.headers: dict[str, str] = {}
        self.vias: list[str] = []
        self.record_routes: list[str] = []
        self.body = b""

    @property
    def cseq(self) -> Cseq:
        """Number and method of the CSeq."""
        number, _, method = self.headers["cseq"].partition(" ")
        return Cseq(int(number), method.strip())

    @property
    def call_id(self) -> str:
        """The Call-ID."""
        return self.headers["call-id"]


def parse(data: bytes) -> Message | None:
    """Read a message; None for what is none, such as a keep-alive."""
    head, _, body = data.partition(b"\r\n\r\n")
    text = head.decode("latin-1")
    if "\r\n " in text or "\r\n\t" in text:
        text = text.replace("\r\n ", " ").replace("\r\n\t", " ")
    lines = text.split("\r\n")
    try:
        message = Message(lines[0])
        headers = message.headers
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name = name.rstrip().lower()
            name = COMPACT_HEADERS.get(name, name)
            value = value.strip()
            if name not in _REPEATED:
                headers[name] = value
            elif name == "via":
                message.vias.append(value)
            else:
                message.record_routes.append(value)
        headers["call-id"], headers["cseq"]
    except (KeyError, ValueError):
        return None
    message.body = body
    return message


def response(
    request: Message, status: str, *, tag: str = "", contact: str = "", body: bytes = b""
) -> bytes:
    """Write a response with what it takes from its request (RFC 3261 8.2.6.2)."""
    headers = request.headers
    lines = [f"SIP/2.0 {status}"]
    lines += [f"Via: {via}" for via in request.vias]
    to = headers["to"]
    if tag and ";tag=" not in to:
        to = f"{to};tag={tag}"
    lines += [f"Record-Route: {each}" for each in request.record_routes]
    lines.append(
        f"From: {headers['from']}\r\nTo: {to}\r\nCall-ID: {headers['call-id']}\r\n"
        f"CSeq: {headers['cseq']}"
    )
    if contact:
        lines.append(f"Contact: {contact}")
    if body:
        lines.append("Content-Type: application/sdp")
    lines.append(f"Content-Length: {len(body)}\r\n\r\n")
    return "\r\n".join(lines).encode() + body


def tag_of(value: str) -> str:
    """Return the tag of a From or To."""
    return value.partition(";tag=")[2].partition(";")[0]


def uri_of(value: str) -> str:
    """Return the URI of an address header, without its brackets."""
    _, opened, rest = value.partition("<")
    return rest.partition(">")[0] if opened else value.partition(";")[0].strip()


def user_of(value: str) -> str:
    """Return the user part of an address header's URI, which is the number."""
    scheme, _, rest = uri_of(value).partition(":")
    user, at, _ = rest.partition("@")
    return user.partition(";")[0] if at or scheme == "tel" else ""


def address_of(uri: str, otherwise: Address) -> Address:
    """Return where a URI is reached; a host that is no IPv4 address gives `otherwise`."""
    rest = uri.partition(":")[2]
    host_port = rest.rpartition("@")[2].partition(";")[0].partition("?")[0]
    host, _, port = host_port.partition(":")
    if not host or host.strip("0123456789."):
        return otherwise
    return host, int(port) if port.isdigit() else 5060
