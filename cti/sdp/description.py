"""Session descriptions as they stand on the wire (RFC 8866): read into streams with attributes.

Bytes from the network lead to a description or to `PlatformError` SDP_MALFORMED, to nothing else.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from domain.failures import Code, PlatformError

_MAX_BYTES = 32_768
_MAX_LINES = 512
_MAX_STREAMS = 16
_MAX_PORT = 65_535
_HOLD_ADDRESSES = ("0.0.0.0", "::")

# The descriptions of one phone or trunk differ in session, version and port: what stands before and
# after the port of the audio is the same. Keys, candidates and the like never come twice, and keys
# are not to be kept.
_OF_ONE_KIND = re.compile(
    rb"v=0\r\no=[!-~]+ (?P<session>\d{1,20}) (?P<version>\d{1,20}) IN IP[46] [!-~]+"
    rb"(?P<before>\r\n(?:[^\r\n]*\r\n)*?m=audio )(?P<port>[1-9]\d{0,4})(?P<after> .*)",
    re.DOTALL,
)
_NEVER_TWICE = re.compile(rb"\na=(?:crypto|ice-|fingerprint|candidate|ssrc|rtcp:)")
_KEPT_BYTES = 1024
_KEPT_KINDS = 1024


class Direction(StrEnum):
    """Which way media flows, seen by whoever wrote the description."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @classmethod
    def of(cls, *, send: bool, receive: bool) -> Direction:
        """Return the direction of a party that sends or receives."""
        if send:
            return cls.SENDRECV if receive else cls.SENDONLY
        return cls.RECVONLY if receive else cls.INACTIVE

    @property
    def sends(self) -> bool:
        """Whether the writer sends."""
        return self is Direction.SENDRECV or self is Direction.SENDONLY

    @property
    def receives(self) -> bool:
        """Whether the writer receives."""
        return self is Direction.SENDRECV or self is Direction.RECVONLY


_DIRECTIONS = {str(direction): direction for direction in Direction}


@dataclass(slots=True)
class Stream:
    """One m= line with its attributes."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    address: str = ""
    direction: Direction | None = None
    mappings: dict[int, str] = field(default_factory=dict)
    """Payload type to "name/clock" or "name/clock/channels" of rtpmap, in lower case."""
    parameters: dict[int, str] = field(default_factory=dict)
    """Payload type to what fmtp says of it."""
    packet_time_ms: int = 0
    max_packet_time_ms: int = 0
    attributes: list[tuple[str, str]] = field(default_factory=list)
    """All a= lines in their order: the name in lower case, and what follows the colon."""

    def values(self, name: str) -> list[str]:
        """Return what each a= line of a name says."""
        return [value for each, value in self.attributes if each == name]

    def value(self, name: str) -> str | None:
        """Return what the first a= line of a name says; None without one."""
        for each, value in self.attributes:
            if each == name:
                return value
        return None

    def at(self, port: int) -> Stream:
        """Return the same stream at another port."""
        return Stream(
            self.kind,
            port,
            self.protocol,
            self.formats,
            self.address,
            self.direction,
            self.mappings,
            self.parameters,
            self.packet_time_ms,
            self.max_packet_time_ms,
            self.attributes,
        )

    @property
    def is_reachable(self) -> bool:
        """Whether there is an address to send to; the oldest form of hold has none (RFC 3264)."""
        return self.address not in _HOLD_ADDRESSES


@dataclass(slots=True)
class Sdp:
    """A parsed description."""

    session_id: str
    version: str
    address: str = ""
    direction: Direction = Direction.SENDRECV
    times: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str]] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)

    def values(self, stream: Stream, name: str) -> list[str]:
        """Return an attribute of a stream; what the session says holds where it is silent."""
        return stream.values(name) or [value for each, value in self.attributes if each == name]

    def value(self, stream: Stream, name: str) -> str | None:
        """Return the first of them; None without one."""
        return next(iter(self.values(stream, name)), None)


def malformed(detail: str) -> PlatformError:
    """Return the error of a description that cannot be read."""
    return PlatformError(Code.SDP_MALFORMED, detail)


def parse_sdp(body: bytes) -> Sdp:
    """Parse a description; PlatformError SDP_MALFORMED names the first fault.

    Lists and mappings may be those of other descriptions of its kind too: do not change them.
    """
    if len(body) > _KEPT_BYTES or _NEVER_TWICE.search(body) is not None:
        return parse_anew(body)
    found = _OF_ONE_KIND.fullmatch(body)
    if found is None or (port := int(found["port"])) > _MAX_PORT:
        return parse_anew(body)
    kind, audio = _known_kind(found["before"], found["after"])
    streams = kind.streams.copy()
    streams[audio] = streams[audio].at(port)
    session_id, version = found["session"].decode(), found["version"].decode()
    return Sdp(
        session_id, version, kind.address, kind.direction, kind.times, kind.attributes, streams
    )


@lru_cache(maxsize=_KEPT_KINDS)
def _known_kind(before: bytes, after: bytes) -> tuple[Sdp, int]:
    """Return what descriptions of one kind have in common, and which stream is the audio."""
    kind = parse_anew(b"v=0\r\no=- 0 0 IN IP4 0.0.0.0" + before + b"9" + after)
    return kind, before.count(b"\nm=") - 1


def parse_anew(body: bytes) -> Sdp:
    """Do the same without memory of other descriptions."""
    lines = _lines(body)
    sdp = _origin(lines)
    stream: Stream | None = None
    for kind, value in lines[2:]:
        if kind == "m":
            if len(sdp.streams) == _MAX_STREAMS:
                raise malformed("too many m= lines")
            stream = _stream(value)
            sdp.streams.append(stream)
        elif kind == "c":
            address = _connection(value)
            if stream is None:
                sdp.address = address
            else:
                stream.address = address
        elif kind == "t" and stream is None:
            sdp.times.append(_time(value))
        elif kind == "a":
            _attribute(sdp, stream, value)
    for each in sdp.streams:
        each.address = each.address or sdp.address
        if each.port and not each.address:
            raise malformed("no c= line covers a stream")
    return sdp


def session_lines(
    ip: str, session_id: int, version: int, times: Iterable[str], attributes: Iterable[str] = ()
) -> list[str]:
    """Return the lines of a description before its streams."""
    return [
        "v=0",
        f"o=- {session_id} {version} {network_of(ip)}",
        "s=-",
        f"c={network_of(ip)}",
        *(f"t={each}" for each in times),
        *(f"a={each}" for each in attributes),
    ]


def network_of(ip: str) -> str:
    """Return an address as o=, c= and a=rtcp write it."""
    return f"IN IP6 {ip}" if ":" in ip else f"IN IP4 {ip}"


def refused_line(stream: Stream) -> str:
    """Return the line of a stream that is not taken: it keeps its place (RFC 3264 section 6)."""
    return f"m={stream.kind} 0 {stream.protocol} {' '.join(stream.formats)}"


def to_bytes(lines: Iterable[str]) -> bytes:
    """Return a description as it goes out."""
    return "\r\n".join([*lines, ""]).encode()


def number(text: str, limit: int) -> int:
    """Read a decimal number of ASCII digits; PlatformError SDP_MALFORMED."""
    # isdigit() alone would let other scripts' digits through, which int() reads or refuses.
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise malformed("a number was expected")
    value = int(text)
    if value > limit:
        raise malformed("a number is out of range")
    return value


def _lines(body: bytes) -> list[tuple[str, str]]:
    if len(body) > _MAX_BYTES:
        raise malformed("longer than 32 KiB")
    lines: list[tuple[str, str]] = []
    for raw in body.decode("utf-8", "replace").split("\n"):
        line = raw.rstrip("\r")
        if not line:
            continue
        if len(line) < 2 or line[1] != "=":
            raise malformed("a line is not of the form type=value")
        lines.append((line[0], line[2:]))
    if len(lines) > _MAX_LINES:
        raise malformed("too many lines")
    return lines


def _origin(lines: list[tuple[str, str]]) -> Sdp:
    if len(lines) < 2 or lines[0] != ("v", "0") or lines[1][0] != "o":
        raise malformed("does not start with v=0 and o=")
    fields = lines[1][1].split()
    if len(fields) != 6:
        raise malformed("o= line has not six fields")
    return Sdp(session_id=fields[1], version=fields[2])


def _time(value: str) -> str:
    fields = value.split()
    if len(fields) != 2 or not all(each.isascii() and each.isdigit() for each in fields):
        raise malformed("t= line has not two numbers")
    return " ".join(fields)


def _stream(value: str) -> Stream:
    fields = value.split()
    if len(fields) < 4 or not (value.isascii() and value.isprintable()):
        raise malformed("m= line is incomplete")
    kind, port_text, protocol = fields[:3]
    # RFC 8866 section 5.14: "port/number of ports"; only the first is of interest.
    port = number(port_text.partition("/")[0], _MAX_PORT)
    return Stream(kind.lower(), port, protocol, tuple(fields[3:]))


def _connection(value: str) -> str:
    fields = value.split()
    if len(fields) != 3 or fields[0].upper() != "IN":
        raise malformed("c= line is not IN with an address")
    family = {"IP4": socket.AF_INET, "IP6": socket.AF_INET6}.get(fields[1].upper())
    if family is None:
        raise malformed("c= line names an unknown address type")
    try:
        packed = socket.inet_pton(family, fields[2])
    except (OSError, ValueError) as error:
        raise malformed("c= line has no unicast IP address") from error
    if packed[0] == 0xFF or (family == socket.AF_INET and packed[0] >= 0xE0):
        raise malformed("c= line has no unicast IP address")
    # Holding peers write nothing but zeros, in whatever spelling.
    return fields[2] if any(packed) else _HOLD_ADDRESSES[family == socket.AF_INET6]


def _attribute(sdp: Sdp, stream: Stream | None, text: str) -> None:
    name, _, value = text.partition(":")
    name, value = name.strip().lower(), value.strip()
    # A bare CR or another control character must not reach a description of ours.
    if not value.isprintable():
        return
    if stream is None:
        sdp.attributes.append((name, value))
        sdp.direction = _DIRECTIONS.get(name, sdp.direction)
        return
    stream.attributes.append((name, value))
    stream.direction = _DIRECTIONS.get(name, stream.direction)
    if name == "rtpmap":
        payload_type, mapping = _by_payload_type(stream, value)
        stream.mappings[payload_type] = mapping.lower()
    elif stream.kind != "audio":
        return
    elif name == "fmtp":
        payload_type, parameters = _by_payload_type(stream, value)
        stream.parameters[payload_type] = parameters
    elif name == "ptime":
        stream.packet_time_ms = _milliseconds(value)
    elif name == "maxptime":
        stream.max_packet_time_ms = _milliseconds(value)


def _by_payload_type(stream: Stream, text: str) -> tuple[int, str]:
    payload_type, _, rest = text.partition(" ")
    if stream.kind != "audio" and not (payload_type.isascii() and payload_type.isdigit()):
        return -1, ""  # what is passed through is not ours to judge
    return number(payload_type, 127), rest.strip()


def _milliseconds(text: str) -> int:
    # Some phones write fractions (RFC 8866 section 6.4 knows none); the whole part is enough.
    return number(text.partition(".")[0], 10_000)
