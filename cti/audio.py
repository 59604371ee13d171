"""Sounds as samples: tones to play, WAV files to read, and what was heard in them.

Only the standard library; meant for phones, checks and tests, never for the media path.
"""

from __future__ import annotations

import math
import struct
import sys
import wave
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SAMPLE_RATE_HZ = 8000
FULL_SCALE = 32768
SILENCE_DBFS = -99.0
_WINDOW_MS = 20
_PIECE_WINDOWS = 100
_SHIFT_WINDOWS = 5
_PCM = 1
_EXTENSIBLE = 0xFFFE
_RIFF_HEADER_BYTES = 12
_CHUNK_HEADER_BYTES = 8


class AudioError(ValueError):
    """A file that is not the PCM16 WAV it should be."""


@dataclass(frozen=True, slots=True)
class Sound:
    """One channel of PCM16."""

    samples: array[int]
    rate_hz: int = SAMPLE_RATE_HZ

    @property
    def duration_ms(self) -> int:
        """Length in whole milliseconds."""
        return len(self.samples) * 1000 // self.rate_hz

    def between(self, start_ms: float, end_ms: float | None = None) -> Sound:
        """Return a part; both ends are clamped."""
        first = max(0, round(start_ms * self.rate_hz / 1000))
        last = len(self.samples) if end_ms is None else round(end_ms * self.rate_hz / 1000)
        return Sound(self.samples[first : max(first, last)], self.rate_hz)

    def windows(self, window_ms: int = _WINDOW_MS) -> Iterator[Sound]:
        """Cut into whole windows; a shorter rest is left out."""
        size = self.rate_hz * window_ms // 1000
        for first in range(0, len(self.samples) - size + 1, size):
            yield Sound(self.samples[first : first + size], self.rate_hz)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in a sound."""

    start_ms: int
    end_ms: int

    @property
    def duration_ms(self) -> int:
        """Length."""
        return self.end_ms - self.start_ms


@dataclass(frozen=True, slots=True)
class Match:
    """Where a sound was found in another, and how alike their envelopes are (1.0: the same)."""

    offset_ms: int
    likeness: float


def tone(frequency_hz: float, duration_ms: int, *, level_dbfs: float = -9.0) -> Sound:
    """Make a sine whose peak is `level_dbfs`."""
    peak = (FULL_SCALE - 1) * 10 ** (level_dbfs / 20)
    step = 2 * math.pi * frequency_hz / SAMPLE_RATE_HZ
    count = SAMPLE_RATE_HZ * duration_ms // 1000
    return Sound(array("h", (round(peak * math.sin(step * i)) for i in range(count))))


def silence(duration_ms: int) -> Sound:
    """Make a pause."""
    return Sound(array("h", bytes(2 * (SAMPLE_RATE_HZ * duration_ms // 1000))))


def write_wav(path: Path, *parts: Sound) -> Path:
    """Write the parts one after the other as a mono file, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(parts[0].rate_hz if parts else SAMPLE_RATE_HZ)
        for part in parts:
            file.writeframes(_little_endian(part.samples).tobytes())
    return path


def write_tone(path: Path, frequency_hz: float, duration_ms: int) -> Path:
    """Write a tone as a mono file, and return its path."""
    return write_wav(path, tone(frequency_hz, duration_ms))


def read_wav(path: Path) -> list[Sound]:
    """Read the channels of a PCM16 file, also of one that is still being written.

    A recorder patches the header's lengths only now and then, so the file's own size counts.
    """
    data = path.read_bytes()
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise AudioError(f"{path}: not a WAV file")
    channels = rate_hz = 0
    offset = _RIFF_HEADER_BYTES
    while offset + _CHUNK_HEADER_BYTES <= len(data):
        name, size = struct.unpack_from("<4sI", data, offset)
        offset += _CHUNK_HEADER_BYTES
        if name == b"fmt ":
            if len(data) < offset + 16:
                raise AudioError(f"{path}: format chunk is cut off")
            kind, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", data, offset)
            if kind not in (_PCM, _EXTENSIBLE) or bits != 16 or not channels or not rate_hz:
                raise AudioError(f"{path}: format {kind} with {bits} bits, expected PCM16")
        elif name == b"data":
            return _channels(data[offset:], channels, rate_hz, path)
        offset += size + (size & 1)
    raise AudioError(f"{path}: no data chunk")


def level_dbfs(sound: Sound) -> float:
    """Root mean square against full scale; a full-scale sine has -3."""
    return _power_dbfs(_power(sound))


def tone_dbfs(sound: Sound, frequency_hz: float) -> float:
    """Level of one frequency (Goertzel), on the scale of `level_dbfs`."""
    return _power_dbfs(_tone_power(sound, frequency_hz))


def tone_share(sound: Sound, frequency_hz: float) -> float:
    """How much of the energy lies at the frequency: 1.0 for that tone alone."""
    power = _power(sound)
    return _tone_power(sound, frequency_hz) / power if power else 0.0


def tone_spans(
    sound: Sound, frequency_hz: float, *, threshold_dbfs: float = -30.0, min_ms: int = 100
) -> list[Span]:
    """List where the tone sounds, beside at most as much of anything else."""
    flags = [
        tone_dbfs(window, frequency_hz) >= threshold_dbfs and tone_share(window, frequency_hz) > 0.5
        for window in sound.windows()
    ]
    return _spans(flags, max_gap_ms=2 * _WINDOW_MS, min_ms=min_ms)


def sound_spans(
    sound: Sound, *, threshold_dbfs: float = -45.0, max_gap_ms: int = 400, min_ms: int = 60
) -> list[Span]:
    """List where anything is heard; pauses up to `max_gap_ms`, as between words, do not part it."""
    flags = [level_dbfs(window) >= threshold_dbfs for window in sound.windows()]
    return _spans(flags, max_gap_ms=max_gap_ms, min_ms=min_ms)


def tone_onset_ms(sound: Sound, frequency_hz: float) -> float | None:
    """Return when the tone sets in, to the millisecond, or None."""
    spans = tone_spans(sound, frequency_hz)
    if not spans:
        return None
    first = max(0, spans[0].start_ms - _WINDOW_MS)
    part = sound.between(first, spans[0].start_ms + 2 * _WINDOW_MS)
    threshold = max(map(abs, part.samples)) // 4
    index = next(i for i, sample in enumerate(part.samples) if abs(sample) >= threshold)
    return first + index * 1000 / sound.rate_hz


def quiet_at_end_ms(sound: Sound, *, threshold_dbfs: float = -45.0) -> int:
    """Return for how long nothing has been heard at the end."""
    quiet_ms = 0
    size = sound.rate_hz * _WINDOW_MS // 1000
    for last in range(len(sound.samples), size - 1, -size):
        if level_dbfs(Sound(sound.samples[last - size : last], sound.rate_hz)) >= threshold_dbfs:
            break
        quiet_ms += _WINDOW_MS
    return quiet_ms


def find(heard: Sound, wanted: Sound) -> Match:
    """Find `wanted` in `heard` by their loudness over time; codecs and resampling do not matter."""
    long, short = _envelope(heard), _envelope(wanted)
    if not short or len(long) < len(short):
        return Match(0, 0.0)
    best_lag, best = _best_lag(long, short, range(len(long) - len(short) + 1))
    # A jitter buffer that had to wait moves the rest by a frame or two; each piece is at its best.
    pieces = [short[at : at + _PIECE_WINDOWS] for at in range(0, len(short), _PIECE_WINDOWS)]
    liked = weight = 0.0
    for index, piece in enumerate(pieces):
        place = best_lag + index * _PIECE_WINDOWS
        first, last = place - _SHIFT_WINDOWS, place + _SHIFT_WINDOWS
        lags = range(max(0, first), min(len(long) - len(piece), last) + 1)
        _, likeness = _best_lag(long, piece, lags)
        energy = _variation(piece)
        liked, weight = liked + likeness * energy, weight + energy
    return Match(best_lag * _WINDOW_MS, max(best, liked / weight if weight else 0.0))


def _best_lag(long: list[float], short: list[float], lags: range) -> tuple[int, float]:
    """Where an envelope lies in another one best, and how alike the two are there."""
    mean = sum(short) / len(short)
    centred = [value - mean for value in short]
    norm = math.sqrt(sum(value * value for value in centred))
    best_lag, best = 0, 0.0
    for lag in lags:
        part = long[lag : lag + len(short)]
        part_norm = math.sqrt(_variation(part))
        if norm and part_norm:
            product = sum(a * b for a, b in zip(centred, part, strict=True))
            likeness = product / (norm * part_norm)
            if likeness > best:
                best_lag, best = lag, likeness
    return best_lag, best


def _variation(envelope: list[float]) -> float:
    mean = sum(envelope) / len(envelope)
    return sum((value - mean) ** 2 for value in envelope)


def _channels(data: bytes, channels: int, rate_hz: int, path: Path) -> list[Sound]:
    if not channels:
        raise AudioError(f"{path}: data before format")
    samples = array("h", data[: len(data) - len(data) % (2 * channels)])
    samples = _little_endian(samples)
    return [Sound(samples[channel::channels], rate_hz) for channel in range(channels)]


def _little_endian(samples: array[int]) -> array[int]:
    if sys.byteorder == "big":
        samples = array("h", samples)
        samples.byteswap()
    return samples


def _power(sound: Sound) -> float:
    """Mean square, full scale being 1."""
    if not sound.samples:
        return 0.0
    return sum(sample * sample for sample in sound.samples) / (len(sound.samples) * FULL_SCALE**2)


def _tone_power(sound: Sound, frequency_hz: float) -> float:
    count = len(sound.samples)
    if not count:
        return 0.0
    coefficient = 2 * math.cos(2 * math.pi * frequency_hz / sound.rate_hz)
    previous = before = 0.0
    for sample in sound.samples:
        previous, before = sample + coefficient * previous - before, previous
    magnitude = previous * previous + before * before - coefficient * previous * before
    return 2 * magnitude / (count * count * FULL_SCALE**2)


def _power_dbfs(power: float) -> float:
    return max(SILENCE_DBFS, 10 * math.log10(power)) if power > 0 else SILENCE_DBFS


def _envelope(sound: Sound) -> list[float]:
    return [math.sqrt(_power(window)) for window in sound.windows()]


def _spans(flags: list[bool], *, max_gap_ms: int, min_ms: int) -> list[Span]:
    spans: list[Span] = []
    for index, flag in enumerate(flags):
        if not flag:
            continue
        start_ms, end_ms = index * _WINDOW_MS, (index + 1) * _WINDOW_MS
        if spans and start_ms - spans[-1].end_ms <= max_gap_ms:
            spans[-1] = Span(spans[-1].start_ms, end_ms)
        else:
            spans.append(Span(start_ms, end_ms))
    return [span for span in spans if span.duration_ms >= min_ms]
