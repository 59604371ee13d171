"""Recordings in the media process until their node has them: one WAV and one note each.

The note is written before the first frame, so that a recording is known whatever ends the process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from cti.media import RecordingEnded, RecordingId
from cti.media_remote.cut_off_wav import finish_wav

_CUT_OFF = "the media process ended before the recording did"


@dataclass(frozen=True, slots=True)
class Spooled:
    """A finished recording that waits for its node."""

    name: str
    node: str
    session: str
    ended: RecordingEnded
    """With the node's number and path of it."""


class RecordingSpool:
    """The directory of all nodes' recordings."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._finished: dict[str, dict[str, Spooled]] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def recover(self) -> None:
        """Take over what an earlier process left; mends unfinished files, call it in a thread."""
        for note in sorted(self._directory.glob("*/*.json")):
            node, name = unquote(note.parent.name), note.stem
            try:
                facts = json.loads(note.read_text(encoding="utf-8"))
                session, ended = facts["session"], facts["ended"]
            except (OSError, ValueError, KeyError):
                note.replace(note.with_suffix(".unreadable"))
                continue
            if not ended.get("sha256") and not ended.get("error"):
                ended |= _as_found(self._wav(node, name))
                _write_note(note, session, ended)
            pauses_ms = tuple((start, end) for start, end in ended.get("pauses_ms", ()))
            ended |= {"pauses_ms": pauses_ms}
            self._keep(Spooled(name, node, session, RecordingEnded(**ended)))

    def begin(self, node: str, session: str, recording: int, path: str) -> tuple[str, Path]:
        """Note a recording; return its name and where to write it. OSError."""
        name = os.urandom(16).hex()
        wav = self._wav(node, name)
        wav.parent.mkdir(mode=0o700, exist_ok=True)
        ended = RecordingEnded(RecordingId(recording), path, "", 0, 0, 0, 0, (), "")
        _write_note(wav.with_suffix(".json"), session, dataclasses.asdict(ended))
        return name, wav

    def finish(
        self, name: str, node: str, session: str, recording: int, path: str, ended: RecordingEnded
    ) -> Spooled:
        """Note how a recording ended."""
        ended = dataclasses.replace(ended, recording=RecordingId(recording), path=path)
        _write_note(self._wav(node, name).with_suffix(".json"), session, dataclasses.asdict(ended))
        return self._keep(Spooled(name, node, session, ended))

    def waiting(self, node: str) -> list[Spooled]:
        """Return what waits for a node."""
        return list(self._finished.get(node, {}).values())

    def path(self, node: str, name: str) -> Path | None:
        """Return the file of a finished recording."""
        return self._wav(node, name) if name in self._finished.get(node, {}) else None

    def forget(self, node: str, name: str) -> None:
        """Remove what the node has."""
        if self._finished.get(node, {}).pop(name, None) is not None:
            wav = self._wav(node, name)
            wav.unlink(missing_ok=True)
            wav.with_suffix(".json").unlink(missing_ok=True)

    def _keep(self, spooled: Spooled) -> Spooled:
        self._finished.setdefault(spooled.node, {})[spooled.name] = spooled
        return spooled

    def _wav(self, node: str, name: str) -> Path:
        return self._directory / quote(node, safe="").replace(".", "%2E") / f"{name}.wav"


def _write_note(note: Path, session: str, ended: dict[str, Any]) -> None:
    part = note.with_suffix(".part")
    part.write_text(json.dumps({"session": session, "ended": ended}), encoding="utf-8")
    part.replace(note)


def _as_found(wav: Path) -> dict[str, Any]:
    """Describe a file that nobody finished, after its header has been mended."""
    try:
        facts = finish_wav(wav)
        with wav.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return {"error": _CUT_OFF}
    return {"sha256": sha256, "error": _CUT_OFF, **dataclasses.asdict(facts)}
