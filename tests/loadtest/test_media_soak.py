"""The soak of the media engine in small: every key, packet and recording is accounted for."""

from __future__ import annotations

from pathlib import Path

from loadtest.media_soak import soak_run


async def test_calls_that_come_and_go_leave_nothing_behind(tmp_path: Path) -> None:
    result = await soak_run(tmp_path, calls=12, seconds=6, seed=1)
    assert result.faults() == []
    assert result.counts["recordings"] > 0
    assert result.counts["packets received, ours"] > 0
    assert result.samples
    assert result.steady[-1].ports >= 24
    assert _recordings(tmp_path) == []


def _recordings(directory: Path) -> list[Path]:
    return list(directory.glob("[0-9]*.wav"))
