"""The generator against sipp, in small: nothing fails or is lost, and what it cost is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.capacity import calls_scenario, capacity_run, streams_scenario

pytestmark = pytest.mark.peer


async def test_calls_are_answered_heard_and_hung_up(tmp_path: Path) -> None:
    scenario = calls_scenario(20, 1, warm_up_s=0)
    result = await capacity_run(tmp_path, scenario, far_ends=2)
    figures = result.report.figures
    assert figures["completed"] == figures["offered"] == 20
    assert figures["prompts_recognised"] == 20
    assert figures["rtp_sent"] > 20 * 40
    assert figures["rtp_received"] > 20 * 40
    assert figures["generator_cpu_ms_per_call"] > 0
    assert result.far_end.cores > 0
    assert result.far_end.dropped == 0


async def test_streams_are_all_up_at_once(tmp_path: Path) -> None:
    result = await capacity_run(tmp_path, streams_scenario(40, 2), far_ends=1)
    figures = result.report.figures
    assert figures["completed"] == figures["live_max"] == 40
    assert figures["rtp_lost"] == 0
    assert result.full_cores is not None
