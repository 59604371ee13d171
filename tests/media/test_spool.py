"""Recordings of a media process that was killed: whole as far as they go, and playable anywhere."""

from __future__ import annotations

import hashlib
import io
import struct
import wave
from pathlib import Path

import pytest

from cti.media import RecordingEnded, RecordingId
from cti.media_remote.spool import RecordingSpool

PATH = "/records/demo/call.wav"
PCM16 = struct.pack(
    "<4sI8sIHHIIHH4sI", b"RIFF", 36, b"WAVEfmt ", 16, 1, 2, 8000, 32_000, 4, 16, b"data", 0
)
A_LAW = struct.pack(
    "<4sI8sIHHIIHHH4sII4sI",
    *(b"RIFF", 50, b"WAVEfmt ", 18, 6, 2, 8000, 16_000, 2, 8, 0, b"fact", 4, 0, b"data", 0),
)


def killed(directory: Path, content: bytes | None) -> RecordingEnded:
    """What is told of a recording whose process ended in the middle of it."""
    former = RecordingSpool(directory)
    name, wav = former.begin("node1", "session1", 7, PATH)
    if content is not None:
        wav.write_bytes(content)
    spool = RecordingSpool(directory)
    spool.recover()
    (spooled,) = spool.waiting("node1")
    assert (spooled.name, spooled.session) == (name, "session1")
    ended = spooled.ended
    assert (ended.recording, ended.path) == (RecordingId(7), PATH)
    assert "before the recording did" in ended.error
    return ended


def test_a_cut_off_recording_is_playable(tmp_path: Path) -> None:
    """The header says how much there is, and half a sample at its end is not there."""
    audio = bytes(range(200)) * 160
    ended = killed(tmp_path, PCM16 + audio + b"\1\2\3")
    (wav,) = tmp_path.glob("*/*.wav")
    data = wav.read_bytes()
    with wave.open(io.BytesIO(data)) as file:
        assert file.readframes(1_000_000) == audio
    assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    assert ended.sha256 == hashlib.sha256(data).hexdigest()
    assert (ended.size_bytes, ended.duration_ms, ended.channels) == (len(data), 1000, 2)


def test_a_cut_off_recording_of_a_law(tmp_path: Path) -> None:
    ended = killed(tmp_path, A_LAW + b"\xd5" * 16_001)
    (wav,) = tmp_path.glob("*/*.wav")
    data = wav.read_bytes()
    lengths = [struct.unpack_from("<I", data, at)[0] for at in (4, 46, 54)]
    assert lengths == [len(data) - 8, 8000, 16_000]
    assert (ended.size_bytes, ended.duration_ms) == (58 + 16_000, 1000)


@pytest.mark.parametrize(
    "content",
    [None, b"", PCM16[:30], b"no WAV at all, but long enough for a header of one" * 2],
    ids=["none", "empty", "half a header", "something else"],
)
def test_nothing_to_play(tmp_path: Path, content: bytes | None) -> None:
    ended = killed(tmp_path, content)
    assert (ended.sha256, ended.size_bytes, ended.duration_ms) == ("", 0, 0)


def test_a_finished_one_stays_as_it_is_until_its_node_has_it(tmp_path: Path) -> None:
    former = RecordingSpool(tmp_path)
    name, wav = former.begin("a/../b", "session1", 7, PATH)
    wav.write_bytes(PCM16)
    told = RecordingEnded(RecordingId(1), str(wav), "ab" * 32, 44, 0, 2, 3, ((1, 2),), "")
    former.finish(name, "a/../b", "session1", 7, PATH, told)
    assert wav.parent.parent == tmp_path
    spool = RecordingSpool(tmp_path)
    spool.recover()
    (spooled,) = spool.waiting("a/../b")
    expected = RecordingEnded(RecordingId(7), PATH, "ab" * 32, 44, 0, 2, 3, ((1, 2),), "")
    assert spooled.ended == expected
    assert spool.path("b", name) is None, "another node's"
    assert spool.path("a/../b", name) == wav
    spool.forget("a/../b", name)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_note_that_cannot_be_read_is_put_aside(tmp_path: Path) -> None:
    name, wav = RecordingSpool(tmp_path).begin("node1", "session1", 7, PATH)
    wav.write_bytes(PCM16)
    wav.with_suffix(".json").write_text("{")
    spool = RecordingSpool(tmp_path)
    spool.recover()
    assert spool.waiting("node1") == []
    assert sorted(path.name for path in wav.parent.iterdir()) == [
        f"{name}.unreadable",
        f"{name}.wav",
    ]
