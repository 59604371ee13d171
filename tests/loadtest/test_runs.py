"""The load runs in small: that they start, count and measure; their figures are for benches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loadtest.concurrent_rtp import concurrent_run
from loadtest.runs import ivr_run, queue_run

pytestmark = pytest.mark.peer


@pytest.mark.skipif(os.geteuid() != 0, reason="sipp wants root to replay captured packets")
async def test_every_caller_of_the_ivr_part_is_thanked(tmp_path: Path) -> None:
    result = await ivr_run(tmp_path, rate=5, seconds=3)
    assert (result.calls.successful, result.calls.failed) == (15, 0)
    assert result.cpu_ms_per_call("python") > 0
    assert result.cpu_ms_per_call("media") > 0


async def test_every_caller_of_the_queue_part_talks_to_an_agent(tmp_path: Path) -> None:
    result = await queue_run(tmp_path, rate=3, seconds=3, agents=6, talk_ms=300)
    assert (result.calls.successful, result.calls.failed) == (9, 0)
    assert len(list((tmp_path / "recordings").rglob("*.wav"))) >= 9


async def test_concurrent_calls_hear_every_packet(tmp_path: Path) -> None:
    result = await concurrent_run(tmp_path, calls=20, seconds=2)
    assert result.calls == 20
    assert result.lost_at_callers == 0
    assert result.sent_share == pytest.approx(1.0, abs=0.1)
