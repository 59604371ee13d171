"""Packet captures for sipp to replay: a tone in A-law with RFC 4733 keys in it, one RTP stream.

sipp's own `play_dtmf` sends keys under a second SSRC, which no phone does.
"""

from __future__ import annotations

import struct
from pathlib import Path

from cti import audio

_PACKET_MS = 20
_SAMPLES = audio.SAMPLE_RATE_HZ * _PACKET_MS // 1000
_SSRC = 0x95598
_EVENTS = {digit: code for code, digit in enumerate("0123456789*#ABCD")}
_PCMA, _TELEPHONE_EVENT = 8, 101


def alaw(sample: int) -> int:
    """Encode one PCM16 sample (ITU-T G.711)."""
    sign = 0x80 if sample >= 0 else 0
    magnitude = min(sample if sample >= 0 else -sample - 1, 32767)
    exponent = max(0, magnitude.bit_length() - 8)
    mantissa = (magnitude >> (4 if exponent == 0 else exponent + 3)) & 0x0F
    return (sign | exponent << 4 | mantissa) ^ 0x55


def write_capture(
    path: Path, *, frequency_hz: float, duration_ms: int, keys: dict[int, str], tone_ms: int = 120
) -> Path:
    """Write `duration_ms` of tone with `keys` (when in ms: which key) pressed in its place."""
    sound = audio.tone(frequency_hz, duration_ms)
    packets = []
    starts = {at_ms - at_ms % _PACKET_MS: key for at_ms, key in keys.items()}
    pressed, begun_ms = "", 0
    sequence = 0
    for at_ms in range(0, duration_ms, _PACKET_MS):
        if at_ms in starts:
            pressed, begun_ms = starts[at_ms], at_ms
        if pressed:
            held_ms = at_ms - begun_ms + _PACKET_MS
            last = held_ms >= tone_ms
            event = struct.pack(
                ">BBH", _EVENTS[pressed], 0x80 * last | 10, held_ms * audio.SAMPLE_RATE_HZ // 1000
            )
            # The end is sent three times (RFC 4733 2.5.1.4).
            for copy in range(3 if last else 1):
                marker = 0x80 * (at_ms == begun_ms and not copy)
                packets.append((at_ms, _rtp(marker | _TELEPHONE_EVENT, sequence, begun_ms, event)))
                sequence += 1
            pressed = "" if last else pressed
        else:
            part = sound.between(at_ms, at_ms + _PACKET_MS).samples
            packets.append((at_ms, _rtp(_PCMA, sequence, at_ms, bytes(map(alaw, part)))))
            sequence += 1
    path.write_bytes(_pcap_header() + b"".join(_pcap_record(at, data) for at, data in packets))
    return path


def _rtp(type_and_marker: int, sequence: int, at_ms: int, payload: bytes) -> bytes:
    timestamp = at_ms * audio.SAMPLE_RATE_HZ // 1000
    return struct.pack(">BBHII", 0x80, type_and_marker, sequence, timestamp, _SSRC) + payload


def _pcap_header() -> bytes:
    return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)


def _pcap_record(at_ms: int, rtp: bytes) -> bytes:
    """One captured Ethernet frame; sipp puts its own addresses in."""
    udp = struct.pack(">HHHH", 6000, 6000, 8 + len(rtp), 0) + rtp
    loopback = bytes((127, 0, 0, 1))
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + loopback + loopback
    frame = bytes(12) + b"\x08\x00" + ip + udp
    return struct.pack("<IIII", at_ms // 1000, at_ms % 1000 * 1000, len(frame), len(frame)) + frame
