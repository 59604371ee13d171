"""Streams carried between two parties as they are: video, and fax over UDPTL (ITU-T T.38, D).

What one party writes of such a stream is told to the other one, but for addresses and whatever
names a machine. Payload types keep their numbers, so that no datagram has to be changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from cti.sdp.description import Direction, Sdp, Stream, refused_line
from cti.sdp.security import PLAIN_PROTOCOLS

_KEPT = frozenset(
    {"rtpmap", "fmtp", "rtcp-fb", "framerate", "framesize", "imageattr", "content", "maxptime"}
)


@dataclass(frozen=True, slots=True)
class Passing:
    """What a party is told of the other one's streams besides audio."""

    streams: tuple[Stream, ...] = ()
    """As the other party describes them; at most one of a kind."""
    has_audio: bool = True
    """Whether audio goes on beside them."""
    in_place: bool = False
    """Whether a fax stands in the line of the audio, and not in one of its own."""

    def of(self, kind: str) -> Stream | None:
        """Return the stream of a kind."""
        return next((each for each in self.streams if each.kind == kind), None)


NOTHING_PASSED = Passing()


def passed_by(sdp: Sdp) -> Passing:
    """Return what a description has that can be carried on."""
    if all(each.kind == "audio" and each.port for each in sdp.streams):
        return NOTHING_PASSED
    found: dict[str, Stream] = {}
    for each in sdp.streams:
        if each.port and each.is_reachable and _is_passable(each):
            # Its direction may be the session's; alone it has to tell it itself.
            own = replace(each, direction=each.direction or sdp.direction)
            found.setdefault(each.kind, own)
    audio = [each for each in sdp.streams if each.kind == "audio"]
    return Passing(
        tuple(found.values()),
        has_audio=any(each.port for each in audio) or "image" not in found,
        in_place=not audio and "image" in found,
    )


def is_same(one: Passing, other: Passing) -> bool:
    """Whether two descriptions carry the same: a refresh or a hold of audio changes nothing."""
    described = [[_essence(each) for each in side.streams] for side in (one, other)]
    return described[0] == described[1] and one.has_audio == other.has_audio


def passed_lines(stream: Stream, port: int, rtcp_ip_port: str) -> Iterator[str]:
    """Return the lines of a stream of the other party's, at our port; 0 refuses it."""
    if not port:
        yield refused_line(stream)
        return
    yield f"m={stream.kind} {port} {stream.protocol} {' '.join(stream.formats)}"
    for name, value in stream.attributes:
        if name in _KEPT or name.startswith("t38"):
            yield f"a={_spelt(name)}:{value}" if value else f"a={_spelt(name)}"
    if stream.kind != "image":
        yield f"a=rtcp:{rtcp_ip_port}"
        yield f"a={stream.direction or Direction.SENDRECV}"


def rtcp_port_of(stream: Stream) -> int:
    """Return where the writer of a stream takes RTCP (RFC 3605), 0 for nowhere that can be."""
    text = (stream.value("rtcp") or "").partition(" ")[0]
    told = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else stream.port + 1
    return told if told <= 65_535 else 0


def _is_passable(stream: Stream) -> bool:
    if stream.kind == "video":
        return stream.protocol.upper() in PLAIN_PROTOCOLS
    return stream.kind == "image" and stream.protocol.lower() == "udptl"


def _essence(stream: Stream) -> tuple[object, ...]:
    kept = [each for each in stream.attributes if each[0] in _KEPT or each[0].startswith("t38")]
    where = stream.kind, stream.address, stream.port, stream.protocol, stream.formats
    return *where, stream.direction, kept


_T38_NAMES = (
    "T38FaxVersion", "T38MaxBitRate", "T38FaxFillBitRemoval", "T38FaxTranscodingMMR",
    "T38FaxTranscodingJBIG", "T38FaxRateManagement", "T38FaxMaxBuffer", "T38FaxMaxDatagram",
    "T38FaxMaxIFP", "T38FaxUdpEC", "T38FaxUdpECDepth", "T38FaxUdpFECMaxSpan", "T38VendorInfo",
    "T38ModemType",
)  # fmt: skip
_SPELLINGS = {name.lower(): name for name in _T38_NAMES}


def _spelt(name: str) -> str:
    """Return an attribute as T.38 spells it: gateways compare letter by letter."""
    return _SPELLINGS.get(name, name)
