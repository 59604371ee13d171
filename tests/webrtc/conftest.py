"""A real Chromium, and our side of its calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cti.media_engine import RtpEngine
from tests.media.peer import Events
from tests.webrtc.browser import Browser, Page, find_chromium
from tests.webrtc.pages import serve_pages


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium here")
    browser = Browser(program, tmp_path / "profile")
    await browser.start()
    yield browser
    await browser.aclose()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    async with serve_pages() as url:
        page = await browser.page()
        await page.open(f"{url}/page.html")
        yield page


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
async def engine(events: Events) -> AsyncIterator[RtpEngine]:
    engine = RtpEngine(port_min=45_000, port_max=47_999, quarantine_ms=0, on_event=events.on_event)
    yield engine
    await engine.aclose()
