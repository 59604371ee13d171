"""The generator's own capacity, in small: nothing fails or is lost, and what it cost is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.capacity import (
    calls_scenario,
    capacity_run,
    echoing_sipp,
    own_far_end,
    streams_scenario,
)

pytestmark = pytest.mark.peer


async def test_calls_are_answered_heard_and_hung_up(tmp_path: Path) -> None:
    scenario = calls_scenario(20, 1, warm_up_s=0)
    result = await capacity_run(scenario, echoing_sipp(tmp_path, 2))
    figures = result.report.figures
    assert figures["completed"] == figures["offered"] == 20
    assert figures["prompts_recognised"] == 20
    assert figures["rtp_sent"] > 20 * 40
    assert figures["rtp_received"] > 20 * 40
    assert figures["generator_cpu_ms_per_call"] > 0
    assert figures["cpu_cores"] > 0
    assert result.dropped == 0


async def test_streams_are_all_up_at_once() -> None:
    result = await capacity_run(streams_scenario(40, 2), own_far_end())
    figures = result.report.figures
    assert figures["completed"] == figures["live_max"] == 40
    assert figures["rtp_lost"] == 0
    assert figures["rtp_received"] > 40 * 100
    assert result.while_full("generator_cpu_cores") is not None
    assert result.dropped == 0
