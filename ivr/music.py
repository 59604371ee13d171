"""Waiting music of our own: a slow pentatonic tune on a soft bell, computed, so free of rights."""

from __future__ import annotations

import array
import math
import wave
from pathlib import Path

VERSION = 1
"""Raised when the tune changes."""

_RATE_HZ = 8000
_BEAT_S = 0.6
_DECAY_S = 1.3
_NOTE_S = 3.0
# degrees of the pentatonic scale on G, one a beat; None is a rest
_MELODY = (
    4, None, 5, 7, 6, None, 4, None, 5, 4, 2, None, 1, None, None, None,
    2, None, 4, 5, 4, None, 2, None, 1, 2, 0, None, 1, None, None, None,
)  # fmt: skip
_BASS = (0, None, 2, None, -3, None, 0, None)
_SCALE_SEMITONES = (0, 2, 4, 7, 9)
_TONIC_HZ = 196.0
_PARTIALS = ((1.0, 1.0), (2.0, 0.28), (3.0, 0.09))
_PEAK = 6500  # about -14 dBFS: below speech


def write_waiting_music(target: Path) -> None:
    """Write the tune as a WAV that loops without a seam."""
    beat_samples = int(_BEAT_S * _RATE_HZ)
    mix = [0.0] * (beat_samples * len(_MELODY))
    for beat, degree in enumerate(_MELODY):
        if degree is not None:
            _add_note(mix, beat * beat_samples, _frequency_hz(degree + 5), 1.0)
        if (low := _BASS[beat % len(_BASS)]) is not None:
            _add_note(mix, beat * beat_samples, _frequency_hz(low), 0.7)
    loudest = max(map(abs, mix))
    samples = array.array("h", (int(value / loudest * _PEAK) for value in mix))
    with wave.open(str(target), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE_HZ)
        file.writeframes(samples.tobytes())


def _frequency_hz(degree: int) -> float:
    octave, step = divmod(degree, len(_SCALE_SEMITONES))
    return _TONIC_HZ * 2 ** (octave + _SCALE_SEMITONES[step] / 12)


def _add_note(mix: list[float], start: int, frequency_hz: float, loudness: float) -> None:
    """Add a struck note; what rings past the end rings on at the beginning of the loop."""
    length = int(_NOTE_S * _RATE_HZ)
    for factor, share in _PARTIALS:
        step = 2 * math.pi * frequency_hz * factor / _RATE_HZ
        decay = math.exp(-factor / (_DECAY_S * _RATE_HZ))
        # a decaying sine by its two-term recurrence
        a, b = 2 * decay * math.cos(step), -decay * decay
        before, now = 0.0, loudness * share * math.sin(step) * decay
        for index in range(start, start + length):
            attack = min(1.0, (index - start) / 40)
            mix[index % len(mix)] += now * attack
            before, now = now, a * now + b * before
