"""Prompts of nodes on the engine's own disk, each content once, by its SHA-256."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_FILES_KNOWN = 65_536
MAX_PROMPT_BYTES = 64 << 20  # as in media/src/loader.rs
# The engine reads a file some time after it was told to; until then it has to be there.
_KEPT_FOR_CERTAIN_S = 120.0


@dataclass(frozen=True, slots=True)
class FileVersion:
    """A file of a node: one that was changed has another time or size."""

    node: str
    path: str
    modified_ns: int
    size_bytes: int


@dataclass(slots=True)
class _Content:
    size_bytes: int
    used_s: float


class PromptCache:
    """Knows which content a file has, and keeps contents up to a limit, the least used go first."""

    def __init__(self, directory: Path, *, limit_bytes: int = 1 << 30) -> None:
        """Take over what an earlier process left."""
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._contents: OrderedDict[str, _Content] = OrderedDict()
        self._files: OrderedDict[FileVersion, str] = OrderedDict()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in found:
            if _SHA256.fullmatch(path.stem) and path.suffix == ".wav":
                self._contents[path.stem] = _Content(path.stat().st_size, -math.inf)
            else:
                path.unlink()  # what was not shipped to its end
        self._shrink(0.0)

    @property
    def size_bytes(self) -> int:
        """What is kept."""
        return sum(content.size_bytes for content in self._contents.values())

    def find(self, file: FileVersion, now_s: float) -> Path | None:
        """Return the copy of a file, if there is one."""
        sha256 = self._files.get(file)
        content = None if sha256 is None else self._contents.get(sha256)
        if sha256 is None or content is None:
            return None
        content.used_s = now_s
        self._contents.move_to_end(sha256)
        self._files.move_to_end(file)
        return self._path(sha256)

    def bind(self, file: FileVersion, sha256: str) -> bool:
        """Say which content a file has; whether it is here."""
        self._files[file] = sha256
        while len(self._files) > _MOST_FILES_KNOWN:
            self._files.popitem(last=False)
        return sha256 in self._contents

    def incoming(self, sha256: str) -> IncomingPrompt:
        """Begin to take a content; ValueError for what is no SHA-256."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError("not a SHA-256")
        return IncomingPrompt(self._directory, sha256)

    def keep(self, prompt: IncomingPrompt, now_s: float) -> None:
        """Keep a content that came whole; ValueError when it is another one."""
        size_bytes = prompt.finish(self._path(prompt.sha256))
        self._contents[prompt.sha256] = _Content(size_bytes, now_s)
        self._contents.move_to_end(prompt.sha256)
        self._shrink(now_s)

    def _shrink(self, now_s: float) -> None:
        size_bytes = self.size_bytes
        for sha256, content in list(self._contents.items()):
            if size_bytes <= self._limit_bytes or now_s - content.used_s < _KEPT_FOR_CERTAIN_S:
                return
            self._path(sha256).unlink(missing_ok=True)
            del self._contents[sha256]
            size_bytes -= content.size_bytes

    def _path(self, sha256: str) -> Path:
        return self._directory / f"{sha256}.wav"


class IncomingPrompt:
    """A content on its way, in a file that counts only when all of it has come."""

    def __init__(self, directory: Path, sha256: str) -> None:
        self.sha256 = sha256
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        self._part = directory / f"{sha256}.{os.urandom(8).hex()}.part"
        self._file: IO[bytes] = self._part.open("xb")

    def write(self, data: bytes) -> None:
        """Take a piece; ValueError when it is too long."""
        self._size_bytes += len(data)
        if self._size_bytes > MAX_PROMPT_BYTES:
            raise ValueError("too long for a prompt")
        self._hash.update(data)
        self._file.write(data)

    def finish(self, path: Path) -> int:
        """Put the file in its place and return its length; ValueError for another content."""
        self._file.close()
        if self._hash.hexdigest() != self.sha256:
            raise ValueError("its content is another one")
        self._part.replace(path)
        return self._size_bytes

    def drop(self) -> None:
        """Leave nothing behind; does nothing after `finish`."""
        self._file.close()
        self._part.unlink(missing_ok=True)
