"""A running engine on loopback: one inside this process, or that of a media process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cti.media_engine import RtpEngine
from cti.media_remote.client import RemoteEngine
from cti.media_remote.link import MediaAddress
from cti.media_remote.server import MediaServer, MediaServerSettings
from tests.media.peer import Events

Engines = Callable[..., Any]
"""Makes an engine of the kind under test: a context that ends it."""


STOCK = 32


@pytest.fixture
def events() -> Events:
    return Events()


@asynccontextmanager
async def inside(events: Events, directory: Path, **settings: Any) -> AsyncIterator[RtpEngine]:
    engine = RtpEngine(quarantine_ms=0, on_event=events.on_event, **settings)
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


@asynccontextmanager
async def remote(events: Events, directory: Path, **settings: Any) -> AsyncIterator[RemoteEngine]:
    server = MediaServer(
        MediaServerSettings(port=0, quarantine_ms=0, **settings), directory / "media"
    )
    await server.start()
    engine = RemoteEngine(
        MediaAddress("{}:{}".format(*server.address)),
        node="node1",
        local_ips=["127.0.0.1", "::1", "192.0.2.77"],
        stock=STOCK,
        recordings=directory,
        on_event=events.on_event,
    )
    assert await engine.start()
    yield engine
    await engine.aclose()
    await server.stop()


@pytest.fixture(params=[inside, remote], ids=["inside", "remote"])
def engines(request: pytest.FixtureRequest) -> Engines:
    makes: Engines = request.param
    return makes


@pytest.fixture
async def engine(engines: Engines, events: Events, tmp_path: Path) -> AsyncIterator[Any]:
    async with engines(events, tmp_path, port_min=40_000, port_max=44_999) as engine:
        yield engine


@pytest.fixture
async def inside_engine(events: Events, tmp_path: Path) -> AsyncIterator[RtpEngine]:
    async with inside(events, tmp_path, port_min=40_000, port_max=44_999) as engine:
        yield engine
