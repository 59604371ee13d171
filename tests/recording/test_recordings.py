"""Where recordings lie, and whether they are what was recorded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from recording.integrity import Integrity, verify
from recording.layout import recording_path


@pytest.mark.parametrize(
    ("arrived_unix_s", "day"),
    [
        (1_795_190_399, "2026/11/20"),  # 15:59:59 UTC, a second before midnight in Shanghai
        (1_795_190_400, "2026/11/21"),
    ],
)
def test_a_recording_lies_under_the_callers_day(arrived_unix_s: int, day: str) -> None:
    path = recording_path(
        Path("/r"), tenant="demo", call_id="c1", recording_id="r1",
        arrived_unix_us=arrived_unix_s * 1_000_000,
    )  # fmt: skip
    assert path == Path(f"/r/demo/{day}/c1-r1.wav")


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "..", "", "a\0b", ".hidden"])
def test_no_name_leads_elsewhere(name: str) -> None:
    path = recording_path(
        Path("/r"), tenant=name, call_id=name, recording_id=name, arrived_unix_us=0
    )
    assert len(path.parts) == len(Path("/r/t/1970/01/01/x.wav").parts)
    assert not any(part.startswith(".") or "\0" in part for part in path.parts)


def test_a_changed_recording_is_found_out(tmp_path: Path) -> None:
    file = tmp_path / "r.wav"
    file.write_bytes(b"RIFF and sound")
    sha256 = hashlib.sha256(b"RIFF and sound").hexdigest()
    assert verify(file, sha256) is Integrity.INTACT
    file.write_bytes(b"RIFF and noise")
    assert verify(file, sha256) is Integrity.CHANGED
    assert verify(tmp_path / "gone.wav", sha256) is Integrity.MISSING
    assert verify(file, None) is Integrity.UNFINISHED
