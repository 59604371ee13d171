"""The load on the ACD alone: every call is offered and served, whoever came first."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.acd_load import acd_run

pytestmark = pytest.mark.stores


async def test_calls_and_agents_meet(tmp_path: Path) -> None:
    figures = await acd_run(tmp_path, agents=60, rate=30, seconds=2)
    assert figures.calls == figures.served > 30
    assert figures.agent_waited.count + figures.call_waited.count == figures.calls
    assert not figures.failed
    assert figures.round_trips > 0
