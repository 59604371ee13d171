"""The proof that a recording is what was recorded: its SHA-256 in the index."""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum
from pathlib import Path


class Integrity(StrEnum):
    """What a check of a file against the index found."""

    INTACT = "intact"
    CHANGED = "changed"
    MISSING = "missing"
    UNFINISHED = "unfinished"  # the index has no hash yet


def verify(path: Path, sha256: str | None) -> Integrity:
    """Hash the file and compare. Reads it all: call it in a thread."""
    if not sha256:
        return Integrity.UNFINISHED
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return Integrity.MISSING
    return Integrity.INTACT if hmac.compare_digest(actual, sha256) else Integrity.CHANGED
