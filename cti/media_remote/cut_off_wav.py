"""WAV files whose writer was killed: the header says again how much there is.

The engine writes the lengths into the header about once a second (media/src/disk.rs), so a file
that was cut off has up to a second more than its header says, and players would not play that.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_RIFF = struct.Struct("<4sI4s")
_CHUNK = struct.Struct("<4sI")
_FORMAT = struct.Struct("<HHIIH")  # tag, channels, samples a second, octets a second, block
_LENGTH = struct.Struct("<I")
_MOST_CHUNKS_BEFORE_DATA = 16


@dataclass(frozen=True, slots=True)
class WavFacts:
    """What a file has."""

    size_bytes: int
    duration_ms: int
    channels: int


def finish_wav(path: Path) -> WavFacts:
    """Cut a file to whole samples and write the lengths; OSError, ValueError when it is no WAV."""
    with path.open("r+b") as file:
        chunks = _chunks(file)
        try:
            data_at, format_at = chunks[b"data"], chunks[b"fmt "]
        except KeyError as error:
            raise ValueError("neither its format nor its audio was begun") from error
        _, channels, rate_hz, _, block_bytes = _FORMAT.unpack(_read(file, format_at, _FORMAT.size))
        if not channels or not rate_hz or not block_bytes:
            raise ValueError("its format says nothing")
        samples = (file.seek(0, os.SEEK_END) - data_at) // block_bytes
        size_bytes = file.truncate(data_at + samples * block_bytes)
        _write_length(file, data_at - _LENGTH.size, samples * block_bytes)
        _write_length(file, _CHUNK.size - _LENGTH.size, size_bytes - _CHUNK.size)
        if b"fact" in chunks:
            _write_length(file, chunks[b"fact"], samples)
        file.flush()
        os.fsync(file.fileno())
    return WavFacts(size_bytes, samples * 1000 // rate_hz, channels)


def _chunks(file: IO[bytes]) -> dict[bytes, int]:
    """Return where the content of each chunk begins, up to that of the audio."""
    riff, _, wave = _RIFF.unpack(_read(file, 0, _RIFF.size))
    if (riff, wave) != (b"RIFF", b"WAVE"):
        raise ValueError("no WAV file")
    found: dict[bytes, int] = {}
    at = _RIFF.size
    while b"data" not in found and len(found) < _MOST_CHUNKS_BEFORE_DATA:
        name, size_bytes = _CHUNK.unpack(_read(file, at, _CHUNK.size))
        at += _CHUNK.size
        found[name] = at
        at += size_bytes + size_bytes % 2
    return found


def _read(file: IO[bytes], at: int, size_bytes: int) -> bytes:
    file.seek(at)
    data = file.read(size_bytes)
    if len(data) < size_bytes:
        raise ValueError("its header is cut off")
    return data


def _write_length(file: IO[bytes], at: int, length: int) -> None:
    """Write a length; beyond 4 GiB what the format can say, as the engine does."""
    file.seek(at)
    file.write(_LENGTH.pack(min(length, 0xFFFF_FFFF)))
