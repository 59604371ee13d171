"""Events on disk while Redis cannot take them: files of batches, oldest first.

A file is a row of records: length and CRC-32 of the body, both 4 bytes big-endian, and the body, a
serialised EventBatch. A record that a crash cut short ends its file.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import structlog
from google.protobuf.message import DecodeError

from cti95598.events.v1.events_pb2 import Event, EventBatch

log = structlog.get_logger(__name__)

_HEADER = struct.Struct(">II")
_SUFFIX = ".events"
_FILE_BYTES = 8 * 1024 * 1024
# Files are numbered from the middle, so that one can also be put before the oldest.
_FIRST_NUMBER = 500_000_000


class EventSpool:
    """Ordered by `append`; `prepend` is for what was in flight when Redis went away."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = sorted(
            int(path.stem) for path in directory.glob(f"*{_SUFFIX}") if path.stem.isdigit()
        )
        self._file: BinaryIO | None = None  # the newest, when it is ours to append to

    def __bool__(self) -> bool:
        return bool(self._numbers)

    def append(self, events: list[Event]) -> None:
        """Write events behind all others; raises OSError."""
        if self._file is None:
            number = self._numbers[-1] + 1 if self._numbers else _FIRST_NUMBER
            self._file = self._path(number).open("ab")
            self._numbers.append(number)
        self._file.write(_record(events))
        self._file.flush()
        if self._file.tell() >= _FILE_BYTES:
            self._finish_file()

    def prepend(self, events: list[Event]) -> None:
        """Write events before all others; raises OSError."""
        number = self._numbers[0] - 1 if self._numbers else _FIRST_NUMBER
        with self._path(number).open("wb") as file:
            file.write(_record(events))
            os.fsync(file.fileno())
        self._numbers.insert(0, number)

    def sync(self) -> None:
        """Make sure that all is on disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def oldest(self) -> Iterator[list[Event]]:
        """Read the batches of the oldest file, which is not appended to any more."""
        if len(self._numbers) == 1:
            self._finish_file()
        yield from _read(self._path(self._numbers[0]))

    def drop_oldest(self) -> None:
        """Remove the file that `oldest` read, now that its events are in the stream."""
        self._path(self._numbers.pop(0)).unlink(missing_ok=True)

    def _finish_file(self) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:09d}{_SUFFIX}"


def _record(events: list[Event]) -> bytes:
    body = EventBatch(events=events).SerializeToString()
    return _HEADER.pack(len(body), zlib.crc32(body)) + body


def _read(path: Path) -> Iterator[list[Event]]:
    data = path.read_bytes()
    at = 0
    while at + _HEADER.size <= len(data):
        length, checksum = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        body = data[at : at + length]
        at += length
        if len(body) < length or zlib.crc32(body) != checksum:
            log.warning("spool file ends in a cut record", file=path.name)
            return
        try:
            yield list(EventBatch.FromString(body).events)
        except DecodeError:
            log.warning("spool file holds a record that is no batch", file=path.name)
