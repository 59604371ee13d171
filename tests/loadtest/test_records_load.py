"""The load on events and records alone: every call comes out whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.records_load import records_run

pytestmark = pytest.mark.stores


async def test_events_of_calls_become_records(tmp_path: Path) -> None:
    figures = await records_run(tmp_path, rate=20, seconds=1)
    assert figures.calls == figures.complete == 20
    assert figures.stored == figures.events > 20 * figures.calls
    assert figures.written["rows_inserted"] > figures.events
    assert figures.written["wal_records"] > 0
    assert min(figures.making_cpu_s, figures.python_cpu_s) > 0
