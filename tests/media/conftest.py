"""A running engine on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cti.media_engine import RtpEngine
from tests.media.peer import Events


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
async def engine(events: Events) -> AsyncIterator[RtpEngine]:
    engine = RtpEngine(port_min=40_000, port_max=44_999, quarantine_ms=0, on_event=events.on_event)
    yield engine
    await engine.aclose()
