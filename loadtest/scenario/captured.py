"""The RTP in a packet capture, as what can be played: sound, and keys at their times."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cti import audio

_MAX_FILE_BYTES = 64 * 1024 * 1024
_MICROSECONDS, _NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D
_ETHERNET, _RAW_IP, _LINUX_COOKED, _NULL = 1, 101, 113, 0
_LINK_HEADER_BYTES = {_ETHERNET: 14, _RAW_IP: 0, _LINUX_COOKED: 16, _NULL: 4}
_LONGEST_S = 3600
_JUMP_S = 1.0
_VLAN = b"\x81\x00"
_UDP = 17
_PCMU, _PCMA, _FIRST_DYNAMIC = 0, 8, 96
_KEYS = "0123456789*#ABCD"
_EVENT_BYTES = 4


class CaptureError(ValueError):
    """A file that is no capture, or holds what cannot be played."""


@dataclass(frozen=True, slots=True)
class Capture:
    """One stream of a capture. Times are from its first packet."""

    file: Path
    sound: audio.Sound
    """Empty where only keys are pressed."""
    keys: tuple[tuple[float, str], ...]
    """When in seconds, and which key."""
    duration_s: float


def read_capture(path: Path) -> Capture:
    """Read a capture (libpcap's format) of G.711 and telephone events; OSError, CaptureError."""
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise CaptureError("the capture is over 64 MB")
    packets = [one for at_s, frame in _frames(path.read_bytes()) if (one := _rtp(at_s, *frame))]
    if not packets:
        raise CaptureError("there is no RTP over UDP in it")
    first = packets[0]
    samples: array[int] = array("h")
    keys: list[tuple[float, str]] = []
    pressed: set[int] = set()
    duration_s = 0.0
    for packet in packets:
        at_s = packet.after_s(first)
        if not 0 <= at_s <= _LONGEST_S:
            raise CaptureError(f"it is longer than {_LONGEST_S} s, or its times go back")
        if packet.payload_type in {_PCMU, _PCMA}:
            if packet.ssrc == first.ssrc:
                _put(samples, round(at_s * audio.SAMPLE_RATE_HZ), _decoded(packet))
            duration_s = max(duration_s, at_s + len(packet.payload) / audio.SAMPLE_RATE_HZ)
        elif packet.payload_type >= _FIRST_DYNAMIC and len(packet.payload) == _EVENT_BYTES:
            if packet.timestamp not in pressed and packet.payload[0] < len(_KEYS):
                pressed.add(packet.timestamp)
                keys.append((at_s, _KEYS[packet.payload[0]]))
            duration_s = max(duration_s, at_s)
        else:
            raise CaptureError(
                f"payload type {packet.payload_type} is neither PCMA, PCMU nor telephone-event"
            )
    return Capture(path, audio.Sound(samples), tuple(keys), duration_s)


@dataclass(frozen=True, slots=True)
class _Packet:
    at_s: float
    payload_type: int
    timestamp: int
    ssrc: int
    payload: bytes

    def after_s(self, first: _Packet) -> float:
        """Return the time since the first packet: by the sender's clock, unless that jumps."""
        arrived_s = self.at_s - first.at_s
        if self.ssrc != first.ssrc:
            return arrived_s
        clock_s = ((self.timestamp - first.timestamp) % 2**32) / audio.SAMPLE_RATE_HZ
        return clock_s if abs(clock_s - arrived_s) < _JUMP_S else arrived_s


def _frames(data: bytes) -> Iterator[tuple[float, tuple[int, bytes]]]:
    """Yield the time, link type and bytes of each packet."""
    if len(data) < 24:
        raise CaptureError("it is no packet capture")
    order, scale = _form(data[:4])
    link = struct.unpack_from(f"{order}I", data, 20)[0] & 0xFFFF
    if link not in _LINK_HEADER_BYTES:
        raise CaptureError(f"link type {link} is not known")
    offset = 24
    while offset + 16 <= len(data):
        seconds, fraction, size, _ = struct.unpack_from(f"{order}IIII", data, offset)
        frame = data[offset + 16 : offset + 16 + size]
        if len(frame) < size:
            raise CaptureError("it is cut off")
        yield seconds + fraction / scale, (link, frame)
        offset += 16 + size


def _form(magic: bytes) -> tuple[str, float]:
    for order in "<>":
        number = struct.unpack(f"{order}I", magic)[0]
        if number in {_MICROSECONDS, _NANOSECONDS}:
            return order, 1e6 if number == _MICROSECONDS else 1e9
    raise CaptureError("it is no packet capture of libpcap's format (pcapng is not read)")


def _rtp(at_s: float, link: int, frame: bytes) -> _Packet | None:
    start = _LINK_HEADER_BYTES[link]
    while link == _ETHERNET and frame[start - 2 : start] == _VLAN:
        start += 4
    udp = _udp(frame[start:])
    if udp is None or len(udp) < 12 or udp[0] >> 6 != 2:
        return None
    header = 12 + 4 * (udp[0] & 0x0F)
    if udp[0] & 0x10 and len(udp) >= header + 4:  # a header extension
        header += 4 + 4 * struct.unpack_from(">H", udp, header + 2)[0]
    payload = udp[header:]
    if udp[0] & 0x20 and payload:
        payload = payload[: -payload[-1]] if 0 < payload[-1] <= len(payload) else b""
    kind = udp[1] & 0x7F
    if 72 <= kind <= 76:  # RTCP beside it
        return None
    _, timestamp, ssrc = struct.unpack_from(">HII", udp, 2)
    return _Packet(at_s, kind, timestamp, ssrc, payload)


def _udp(packet: bytes) -> bytes | None:
    """Return what the UDP datagram in an IP packet carries."""
    if len(packet) >= 20 and packet[0] >> 4 == 4 and packet[9] == _UDP:
        rest = packet[4 * (packet[0] & 0x0F) :]
    elif len(packet) >= 40 and packet[0] >> 4 == 6 and packet[6] == _UDP:
        rest = packet[40:]
    else:
        return None
    if len(rest) < 8:
        return None
    return rest[8 : struct.unpack_from(">H", rest, 4)[0]]


def _put(samples: array[int], first: int, part: list[int]) -> None:
    """Lay samples at their place; what no packet covers is silence."""
    if len(samples) < first:
        samples.extend([0] * (first - len(samples)))
    samples[first : first + len(part)] = array("h", part)


def _decoded(packet: _Packet) -> list[int]:
    table = _A_LAW if packet.payload_type == _PCMA else _MU_LAW
    return [table[octet] for octet in packet.payload]


def _a_law(octet: int) -> int:
    octet ^= 0x55
    exponent, mantissa = octet >> 4 & 7, octet & 0x0F
    value = (mantissa << 4) + 8 if not exponent else ((mantissa << 4) + 0x108) << exponent - 1
    return value if octet & 0x80 else -value


def _mu_law(octet: int) -> int:
    octet ^= 0xFF
    value = (((octet & 0x0F) << 3) + 0x84 << (octet >> 4 & 7)) - 0x84
    return -value if octet & 0x80 else value


_A_LAW = tuple(map(_a_law, range(256)))
_MU_LAW = tuple(map(_mu_law, range(256)))
