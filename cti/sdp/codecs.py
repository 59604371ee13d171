"""Audio codecs as descriptions name them: RFC 3551, 7587 (Opus), 4733 (keys), 3389 (noise)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from cti.media import Codec
from cti.sdp.description import Stream

COMFORT_NOISE = 13
DEFAULT_PACKET_TIME_MS = 20
MAX_PACKET_TIME_MS = 60

_PACKET_TIMES_MS = (10, 20, 30, 40, 50, 60)
_EVENTS = "telephone-event"
_DYNAMIC = range(96, 128)
_FLASH = 16
_MOST_FORMATS = 64


DEFAULT_CODECS = (Codec.PCMA, Codec.PCMU)
"""What is taken and offered unless somebody asks for other ones."""


@dataclass(frozen=True, slots=True)
class _OnTheWire:
    """How a codec is written. `ours` is the payload type that we offer."""

    clock_hz: int
    channels: int
    ours: int
    parameters: str = ""

    @property
    def is_static(self) -> bool:
        return self.ours < 96


# RFC 3551 4.5.2: the clock of G.722 is 8000 for reasons of history. RFC 7587 7: Opus is always
# written with two channels, and is mono without "stereo=1". G.729: we neither send nor want the
# silence descriptors of annex B.
_WIRE = {
    Codec.PCMU: _OnTheWire(8000, 1, 0),
    Codec.PCMA: _OnTheWire(8000, 1, 8),
    Codec.G722: _OnTheWire(8000, 1, 9),
    Codec.G729: _OnTheWire(8000, 1, 18, "annexb=no"),
    Codec.OPUS: _OnTheWire(48_000, 2, 111, "useinbandfec=1"),
}
_STATIC = {wire.ours: codec for codec, wire in _WIRE.items() if wire.is_static}
_BY_NAME = {str(codec).lower(): codec for codec in Codec}
# RFC 4733 2.1: events count in the clock of the audio that they stand in for.
_OUR_EVENTS = {8000: 101, 48_000: 110}


class Format(NamedTuple):
    """A codec under the payload type that a description gives it."""

    codec: Codec
    payload_type: int


class Events(NamedTuple):
    """Telephone events under a payload type; `knows_flash` tells of event 16."""

    payload_type: int
    clock_hz: int
    knows_flash: bool = True


def clock_of(codec: Codec) -> int:
    """Return the clock of the timestamps of a codec."""
    return _WIRE[codec].clock_hz


def formats_of(stream: Stream) -> Sequence[Format]:
    """Return the codecs of a stream that we know, in its order."""
    return _spoken(stream).formats


def events_of(stream: Stream) -> Sequence[Events]:
    """Return the telephone events of a stream."""
    return _spoken(stream).events


def events_for(codec: Codec, events: Sequence[Events]) -> Events | None:
    """Return the events that go with a codec: those of its clock, else what there is."""
    clock_hz = clock_of(codec)
    for each in events:
        if each.clock_hz == clock_hz:
            return each
    return events[0] if events else None


def has_comfort_noise(stream: Stream, codec: Codec) -> bool:
    """Whether silence may be told as noise (RFC 3389): under its static type, at 8000 Hz."""
    return clock_of(codec) == 8000 and _spoken(stream).has_noise


def packet_time_ms(stream: Stream) -> int:
    """Return how long our packets shall be: what the peer asks for where we can do it."""
    wanted = stream.packet_time_ms or DEFAULT_PACKET_TIME_MS
    if stream.max_packet_time_ms:
        wanted = min(wanted, stream.max_packet_time_ms)
    return wanted if wanted in _PACKET_TIMES_MS else DEFAULT_PACKET_TIME_MS


def offered_formats(
    codecs: Iterable[Codec], former: Stream | None = None
) -> tuple[tuple[Format, ...], tuple[Events, ...]]:
    """Return what an offer of ours names, codecs in their order.

    Within a session a payload type keeps its meaning (RFC 3264 8.3.2): numbers of the stream that
    was described before stay what they were.
    """
    if former is None:
        return _first_formats(tuple(codecs))
    return _later_formats(codecs, former)


@lru_cache(maxsize=256)
def _first_formats(codecs: tuple[Codec, ...]) -> tuple[tuple[Format, ...], tuple[Events, ...]]:
    return _later_formats(codecs, Stream("audio", 0, "", ()))


def _later_formats(
    codecs: Iterable[Codec], former: Stream
) -> tuple[tuple[Format, ...], tuple[Events, ...]]:
    known = {each.codec: each.payload_type for each in formats_of(former)}
    known_events = {
        each.clock_hz: each.payload_type
        for each in events_of(former)
        if each.payload_type in _DYNAMIC
    }
    taken = set(former.mappings)
    formats = []
    for codec in codecs:
        wire = _WIRE[codec]
        ours = wire.ours if wire.is_static else known.get(codec) or _free(wire.ours, taken)
        formats.append(Format(codec, ours))
    events = []
    for clock_hz in sorted({clock_of(each.codec) for each in formats}):
        ours = known_events.get(clock_hz) or _free(_OUR_EVENTS[clock_hz], taken)
        events.append(Events(ours, clock_hz))
    return tuple(formats), tuple(events)


@lru_cache(maxsize=256)
def format_lines(
    formats: tuple[Format, ...], events: tuple[Events, ...], *, has_noise: bool = False
) -> tuple[str, ...]:
    """Return the attributes that tell what the payload types mean."""
    lines = []
    for each in formats:
        wire = _WIRE[each.codec]
        channels = f"/{wire.channels}" if wire.channels > 1 else ""
        lines.append(f"a=rtpmap:{each.payload_type} {each.codec}/{wire.clock_hz}{channels}")
        if wire.parameters:
            lines.append(f"a=fmtp:{each.payload_type} {wire.parameters}")
    if has_noise:
        lines.append(f"a=rtpmap:{COMFORT_NOISE} CN/8000")
    for event in events:
        lines.append(f"a=rtpmap:{event.payload_type} {_EVENTS}/{event.clock_hz}")
        lines.append(f"a=fmtp:{event.payload_type} {'0-16' if event.knows_flash else '0-15'}")
    return tuple(lines)


def _free(wanted: int, taken: set[int]) -> int:
    """Return a payload type that means nothing yet, and take it."""
    if wanted in taken:
        wanted = next((each for each in _DYNAMIC if each not in taken), wanted)
    taken.add(wanted)
    return wanted


class _Spoken(NamedTuple):
    """What the payload types of a stream mean."""

    formats: tuple[Format, ...]
    events: tuple[Events, ...]
    has_noise: bool


def _spoken(stream: Stream) -> _Spoken:
    # What nobody means in earnest is not worth to be remembered.
    read = _read_types if len(stream.formats) <= _MOST_FORMATS else _read_types.__wrapped__
    return read(stream.formats, (*stream.mappings.items(),), (*stream.parameters.items(),))


@lru_cache(maxsize=256)
def _read_types(
    texts: tuple[str, ...],
    mappings: tuple[tuple[int, str], ...],
    parameters: tuple[tuple[int, str], ...],
) -> _Spoken:
    """Read them once for all calls of a phone or trunk: it writes the same in each."""
    names, said = dict(mappings), dict(parameters)
    digits = (each for each in texts if each.isascii() and each.isdigit() and len(each) <= 3)
    payload_types = [number for number in map(int, digits) if number < 128]
    formats, events = [], []
    for payload_type in payload_types:
        codec = _codec_of(names, payload_type)
        if codec is not None:
            formats.append(Format(codec, payload_type))
        name, clock_hz, _ = _mapping(names.get(payload_type, ""))
        if name == _EVENTS and clock_hz in _OUR_EVENTS:
            knows_flash = _has_event(said.get(payload_type, "0-15"), _FLASH)
            events.append(Events(payload_type, clock_hz, knows_flash))
    return _Spoken(tuple(formats), tuple(events), COMFORT_NOISE in payload_types)


def _codec_of(mappings: Mapping[int, str], payload_type: int) -> Codec | None:
    mapping = mappings.get(payload_type)
    if mapping is None:
        # RFC 3551 section 6: static types need no rtpmap.
        return _STATIC.get(payload_type)
    name, clock_hz, channels = _mapping(mapping)
    codec = _BY_NAME.get(name)
    if codec is None:
        return None
    wire = _WIRE[codec]
    if payload_type == wire.ours and wire.is_static:
        return codec  # whatever clock it is written with: phones have called G.722 one of 16000
    return codec if (clock_hz, channels) == (wire.clock_hz, wire.channels) else None


def _mapping(text: str) -> tuple[str, int, int]:
    """Return name, clock and channels of an rtpmap; 0 for what cannot be read."""
    name, clock, channels, *_ = (*text.split("/"), "", "", "")
    return name, _small(clock), _small(channels) if channels else 1


def _small(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 0


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
