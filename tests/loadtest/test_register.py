"""The registration run in small: that all phones register, and refresh without a challenge."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.register_run import register_run

pytestmark = pytest.mark.peer


async def test_all_phones_register_and_refresh(tmp_path: Path) -> None:
    first, refresh = await register_run(tmp_path, rate=100, seconds=1, users=40)
    phones = first.figures.successful  # those of the demo configuration too
    assert phones >= 40
    assert (first.figures.failed, first.figures.challenges) == (0, phones)
    assert (refresh.figures.successful, refresh.figures.failed) == (100, 0)
    assert refresh.figures.challenges == 0
    assert refresh.cpu_ms("python") > 0
