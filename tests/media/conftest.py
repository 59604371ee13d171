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


@pytest.fixture
def far_events() -> Events:
    """Those of the far ends."""
    return Events()


@pytest.fixture
async def far_ends(far_events: Events) -> AsyncIterator[RtpEngine]:
    """Phones, in an engine of their own."""
    # No number serves twice: a packet still on its way must not be taken for another phone's.
    ends = RtpEngine(
        port_min=46_000, port_max=47_999, quarantine_ms=600_000, on_event=far_events.on_event
    )
    yield ends
    await ends.aclose()
