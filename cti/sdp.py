"""Session descriptions (RFC 8866) and their offer/answer (RFC 3264) for G.711 audio with keys.

One audio stream over RTP/AVP is taken; every other stream is answered with port 0. Bytes from the
network lead to a description or to `PlatformError` SDP_MALFORMED, to nothing else.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from domain.failures import Code, PlatformError

PCMU = 0
PCMA = 8
AUDIO_PAYLOAD_TYPES = (PCMA, PCMU)
DEFAULT_PACKET_TIME_MS = 20

_MAX_BYTES = 32_768
_MAX_LINES = 512
_MAX_STREAMS = 16
_CLOCK_HZ = 8000
_CODEC_NAMES = {PCMU: "PCMU", PCMA: "PCMA"}
_DIGIT_CODEC = "telephone-event"
_PACKET_TIMES_MS = (10, 20, 30, 40, 50, 60)
_HOLD_ADDRESSES = ("0.0.0.0", "::")
_REMOVED = "a stream that was agreed on before is gone"


class Direction(StrEnum):
    """Which way audio flows, seen by whoever wrote the description."""

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
    codecs: dict[int, str] = field(default_factory=dict)
    """Payload type to "name/clock" as rtpmap gives it, in lower case."""
    parameters: dict[int, str] = field(default_factory=dict)
    packet_time_ms: int = 0
    max_packet_time_ms: int = 0


@dataclass(slots=True)
class Sdp:
    """A parsed description."""

    session_id: str
    version: str
    address: str = ""
    direction: Direction = Direction.SENDRECV
    times: list[str] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What both sides agreed on; `send` and `receive` are ours."""

    remote_ip: str
    remote_port: int
    payload_type: int
    digit_payload_type: int | None
    packet_time_ms: int
    send: bool
    receive: bool

    @property
    def is_held(self) -> bool:
        """Whether the far end holds us: it does not want to hear us now (RFC 3264 8.4)."""
        return not self.send


def parse_sdp(body: bytes) -> Sdp:
    """Parse a description; PlatformError SDP_MALFORMED names the first fault."""
    lines = _lines(body)
    sdp = _origin(lines)
    stream: Stream | None = None
    for kind, value in lines[2:]:
        if kind == "m":
            if len(sdp.streams) == _MAX_STREAMS:
                raise _malformed("too many m= lines")
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
            raise _malformed("no c= line covers a stream")
    return sdp


def build_offer(
    ip: str,
    port: int,
    *,
    session_id: int,
    version: int,
    codecs: Sequence[int] = AUDIO_PAYLOAD_TYPES,
    digits_pt: int | None = 101,
    direction: Direction = Direction.SENDRECV,
    former: Sequence[Stream] = (),
) -> bytes:
    """Return an offer of one audio stream, codecs in order of preference.

    `version` grows by one with every changed description of the session (RFC 3264 section 8).
    `former` are the streams of the last description of either side: a session that had more of
    them keeps their lines.
    """
    lines = _session_lines(ip, session_id, version, ["0 0"])
    audio = _audio_lines(port, codecs, digits_pt, "0-16", direction)
    index = next((at for at, each in enumerate(former) if _is_audio(each)), None)
    if index is None:
        return _to_bytes(lines + audio)
    for position, stream in enumerate(former):
        lines += audio if position == index else [_refused(stream)]
    return _to_bytes(lines)


def answer(
    offer: Sdp,
    ip: str,
    port: int,
    *,
    session_id: int,
    version: int,
    codecs: Sequence[int] = AUDIO_PAYLOAD_TYPES,
    own_order: bool = False,
    direction: Direction = Direction.SENDRECV,
    before: Negotiated | None = None,
) -> tuple[bytes, Negotiated]:
    """Answer an offer with one codec; PlatformError NO_COMMON_CODEC when no stream will do.

    The offer's order of codecs counts, or that of `codecs` with `own_order`. `direction` is what we
    are willing to do; the answer narrows it to what the offer allows. What was agreed `before` may
    be held by port 0, which takes the stream away until a later offer (RFC 3264 section 8.2).
    """
    if before is not None and _takes_audio_away(offer):
        lines = _session_lines(ip, session_id, version, offer.times or ["0 0"])
        lines += map(_refused, offer.streams)
        return _to_bytes(lines), replace(before, send=False, receive=False)
    index, payload_type = _choose(offer, ip, codecs, own_order=own_order)
    chosen = offer.streams[index]
    digits_pt, events = _offered_digits(chosen)
    agreed = _negotiated(offer, chosen, payload_type, digits_pt, direction)
    lines = _session_lines(ip, session_id, version, offer.times or ["0 0"])
    for position, stream in enumerate(offer.streams):
        if position == index:
            way = Direction.of(send=agreed.send, receive=agreed.receive)
            lines += _audio_lines(port, (payload_type,), digits_pt, events, way)
        else:
            lines.append(_refused(stream))
    return _to_bytes(lines), agreed


def negotiated(offer_sent: Sdp, answer_received: Sdp) -> Negotiated:
    """Read the answer to our own offer of one audio stream; PlatformError NO_COMMON_CODEC.

    The offer may also be an answer of ours that a refresh of the session repeats (RFC 4028 7.4).
    """
    if len(answer_received.streams) != len(offer_sent.streams):
        raise _malformed("the answer has another number of m= lines than the offer")
    pairs = zip(offer_sent.streams, answer_received.streams, strict=True)
    ours, theirs = next((pair for pair in pairs if pair[0].port), (None, None))
    if ours is None or theirs is None:
        raise PlatformError(Code.NO_COMMON_CODEC, _REMOVED)
    payload_type = next(
        (
            each
            for each in _audio_payload_types(theirs)
            if str(each) in ours.formats and _is_acceptable(theirs, ours.address)
        ),
        None,
    )
    if payload_type is None:
        raise PlatformError(Code.NO_COMMON_CODEC, "the answer takes none of the offered codecs")
    digits_pt = _offered_digits(theirs)[0] if _offered_digits(ours)[0] is not None else None
    way = ours.direction or offer_sent.direction
    return _negotiated(answer_received, theirs, payload_type, digits_pt, way)


def _is_audio(stream: Stream) -> bool:
    return stream.kind == "audio" and stream.protocol.upper() == "RTP/AVP"


def _takes_audio_away(offer: Sdp) -> bool:
    audio = [each for each in offer.streams if _is_audio(each)]
    return bool(audio) and not any(each.port for each in audio)


def _refused(stream: Stream) -> str:
    """Return the line of a stream we do not take: it keeps its place (RFC 3264 section 6)."""
    return f"m={stream.kind} 0 {stream.protocol} {' '.join(stream.formats)}"


def _malformed(detail: str) -> PlatformError:
    return PlatformError(Code.SDP_MALFORMED, detail)


def _lines(body: bytes) -> list[tuple[str, str]]:
    if len(body) > _MAX_BYTES:
        raise _malformed("longer than 32 KiB")
    lines: list[tuple[str, str]] = []
    for raw in body.decode("utf-8", "replace").split("\n"):
        line = raw.rstrip("\r")
        if not line:
            continue
        if len(line) < 2 or line[1] != "=":
            raise _malformed("a line is not of the form type=value")
        lines.append((line[0], line[2:]))
    if len(lines) > _MAX_LINES:
        raise _malformed("too many lines")
    return lines


def _origin(lines: list[tuple[str, str]]) -> Sdp:
    if len(lines) < 2 or lines[0] != ("v", "0") or lines[1][0] != "o":
        raise _malformed("does not start with v=0 and o=")
    fields = lines[1][1].split()
    if len(fields) != 6:
        raise _malformed("o= line has not six fields")
    return Sdp(session_id=fields[1], version=fields[2])


def _number(text: str, limit: int) -> int:
    # isdigit() alone would let other scripts' digits through, which int() reads or refuses.
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise _malformed("a number was expected")
    value = int(text)
    if value > limit:
        raise _malformed("a number is out of range")
    return value


def _time(value: str) -> str:
    fields = value.split()
    if len(fields) != 2 or not all(each.isascii() and each.isdigit() for each in fields):
        raise _malformed("t= line has not two numbers")
    return " ".join(fields)


def _stream(value: str) -> Stream:
    fields = value.split()
    if len(fields) < 4 or not (value.isascii() and value.isprintable()):
        raise _malformed("m= line is incomplete")
    kind, port_text, protocol = fields[:3]
    # RFC 8866 section 5.14: "port/number of ports"; only the first is of interest.
    port = _number(port_text.partition("/")[0], 65_535)
    return Stream(kind.lower(), port, protocol, tuple(fields[3:]))


def _connection(value: str) -> str:
    fields = value.split()
    if len(fields) != 3 or fields[0].upper() != "IN":
        raise _malformed("c= line is not IN with an address")
    family = {"IP4": socket.AF_INET, "IP6": socket.AF_INET6}.get(fields[1].upper())
    if family is None:
        raise _malformed("c= line names an unknown address type")
    try:
        packed = socket.inet_pton(family, fields[2])
    except (OSError, ValueError) as error:
        raise _malformed("c= line has no unicast IP address") from error
    if packed[0] == 0xFF or (family == socket.AF_INET and packed[0] >= 0xE0):
        raise _malformed("c= line has no unicast IP address")
    # Holding peers write nothing but zeros, in whatever spelling.
    return fields[2] if any(packed) else _HOLD_ADDRESSES[family == socket.AF_INET6]


def _attribute(sdp: Sdp, stream: Stream | None, value: str) -> None:
    name, _, rest = value.partition(":")
    name = name.strip().lower()
    if name in _DIRECTIONS:
        if stream is None:
            sdp.direction = _DIRECTIONS[name]
        else:
            stream.direction = _DIRECTIONS[name]
    elif stream is None or stream.kind != "audio":
        return
    elif name == "rtpmap":
        payload_type, codec = _by_payload_type(rest)
        stream.codecs[payload_type] = codec.lower()
    elif name == "fmtp":
        payload_type, parameters = _by_payload_type(rest)
        stream.parameters[payload_type] = parameters
    elif name == "ptime":
        stream.packet_time_ms = _milliseconds(rest)
    elif name == "maxptime":
        stream.max_packet_time_ms = _milliseconds(rest)


def _by_payload_type(text: str) -> tuple[int, str]:
    payload_type, _, rest = text.strip().partition(" ")
    return _number(payload_type, 127), rest.strip()


def _milliseconds(text: str) -> int:
    # Some phones write fractions (RFC 8866 section 6.4 knows none); the whole part is enough.
    return _number(text.strip().partition(".")[0], 10_000)


def _is_acceptable(stream: Stream, own_ip: str) -> bool:
    return _is_audio(stream) and stream.port != 0 and (":" in stream.address) == (":" in own_ip)


def _audio_payload_types(stream: Stream) -> list[int]:
    """Return the static payload types of G.711 in the order of the m= line."""
    found = []
    for text in stream.formats:
        for payload_type, name in _CODEC_NAMES.items():
            if text == str(payload_type):
                codec = stream.codecs.get(payload_type)
                # RFC 3551 section 6: static types need no rtpmap.
                if codec is None or codec.split("/")[0] == name.lower():
                    found.append(payload_type)
    return found


def _choose(offer: Sdp, ip: str, codecs: Sequence[int], *, own_order: bool) -> tuple[int, int]:
    for index, stream in enumerate(offer.streams):
        if not _is_acceptable(stream, ip):
            continue
        common = [each for each in _audio_payload_types(stream) if each in codecs]
        if common:
            return index, min(common, key=codecs.index) if own_order else common[0]
    raise PlatformError(Code.NO_COMMON_CODEC, "no RTP/AVP audio stream with PCMA or PCMU")


def _offered_digits(stream: Stream) -> tuple[int | None, str]:
    """Return the payload type of keys, and those events of 0-16 that the peer knows too."""
    wanted = f"{_DIGIT_CODEC}/{_CLOCK_HZ}"
    for payload_type, codec in stream.codecs.items():
        if codec in {wanted, f"{wanted}/1"} and str(payload_type) in stream.formats:
            knows_flash = _has_event(stream.parameters.get(payload_type, "0-15"), 16)
            return payload_type, "0-16" if knows_flash else "0-15"
    return None, ""


def _has_event(events: str, wanted: int) -> bool:
    """Whether a list such as "0-15,66" (RFC 4733 section 2.4.1) has an event."""
    for part in events.split(","):
        first, _, last = part.strip().partition("-")
        last = last or first
        if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
            continue
        if len(first) <= 3 and len(last) <= 3 and int(first) <= wanted <= int(last):
            return True
    return False


def _negotiated(
    remote: Sdp,
    stream: Stream,
    payload_type: int,
    digit_payload_type: int | None,
    ours: Direction,
) -> Negotiated:
    theirs = stream.direction or remote.direction
    # RFC 3264 section 8.4: the old form of hold gives no address to send to.
    reachable = stream.address not in _HOLD_ADDRESSES
    return Negotiated(
        remote_ip=stream.address,
        remote_port=stream.port,
        payload_type=payload_type,
        digit_payload_type=digit_payload_type,
        packet_time_ms=_packet_time_ms(stream),
        send=ours.sends and theirs.receives and reachable,
        receive=ours.receives and theirs.sends,
    )


def _packet_time_ms(stream: Stream) -> int:
    """Return how long our packets shall be: what the peer asks for where we can do it."""
    wanted = stream.packet_time_ms or DEFAULT_PACKET_TIME_MS
    if stream.max_packet_time_ms:
        wanted = min(wanted, stream.max_packet_time_ms)
    return wanted if wanted in _PACKET_TIMES_MS else DEFAULT_PACKET_TIME_MS


def _session_lines(ip: str, session_id: int, version: int, times: list[str]) -> list[str]:
    network = "IN IP6" if ":" in ip else "IN IP4"
    return [
        "v=0",
        f"o=- {session_id} {version} {network} {ip}",
        "s=-",
        f"c={network} {ip}",
        *(f"t={each}" for each in times),
    ]


def _audio_lines(
    port: int, codecs: Sequence[int], digits_pt: int | None, events: str, direction: Direction
) -> list[str]:
    formats = [*codecs] if digits_pt is None else [*codecs, digits_pt]
    lines = [f"m=audio {port} RTP/AVP {' '.join(map(str, formats))}"]
    lines += [f"a=rtpmap:{each} {_CODEC_NAMES[each]}/{_CLOCK_HZ}" for each in codecs]
    if digits_pt is not None:
        lines.append(f"a=rtpmap:{digits_pt} {_DIGIT_CODEC}/{_CLOCK_HZ}")
        lines.append(f"a=fmtp:{digits_pt} {events}")
    lines.append(f"a=ptime:{DEFAULT_PACKET_TIME_MS}")
    lines.append(f"a={direction}")
    return lines


def _to_bytes(lines: list[str]) -> bytes:
    lines.append("")
    return "\r\n".join(lines).encode()
