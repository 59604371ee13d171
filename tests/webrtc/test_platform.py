"""The whole platform and a real browser: it calls the hotline, and agents talk in it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from cti import audio
from cti.phone import phone_media
from cti95598.agents.v1 import agents_pb2 as pb
from demo.platform import RunningPlatform, configuration
from demo.ports import free_port, free_ports
from tests.peers.bench import Bench, dual_channel, hears
from tests.peers.conftest import FLOWS
from tests.peers.waiting import wait_until
from tests.webrtc.browser import Browser, Page, find_chromium
from tests.webrtc.pages import serve_pages

pytestmark = [
    pytest.mark.peer,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium here"),
]

CALLER_HZ, PAGE_HZ = 440, 700
REALM = "cti95598"


class WebBench(Bench):
    """The platform, listening for browsers too."""

    ws_port = 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WebBench]:
    root = tmp_path_factory.mktemp("platform")
    ports = free_ports()
    config = configuration(ports)
    config["flows"] = str(FLOWS)
    (tenant,) = config["tenants"]
    tenant["access_codes"] = [
        {"code": "96000", "flow": "straight"},
        {"code": "96001", "flow": "keys"},
    ]
    # Here the browser has the address of the carrier, whose rules are followed then.
    for trunk in tenant["trunks"]:
        trunk["srtp"] = "optional"
    for queue in tenant["queues"]:
        queue |= {"after_call_work_s": 0, "answer_within_s": 15}
    ws_port = free_port()
    config["sip"]["listen"].append({"transport": "ws", "host": "127.0.0.1", "port": ws_port})
    config["sip"]["digest_algorithms"] = ["SHA-256", "MD5"]
    platform = RunningPlatform(root / "data", ports, config)
    async with AsyncExitStack() as leaving:
        leaving.push_async_callback(platform.stop)
        await platform.start()
        media = await leaving.enter_async_context(phone_media(40_000, 40_999))
        records = await leaving.enter_async_context(platform.records())
        bench = WebBench(platform, media, records, root, 0, root)
        bench.ws_port = ws_port
        yield bench


@asynccontextmanager
async def web_phone(bench: WebBench, user: str) -> AsyncIterator[Page]:
    """A page with a registered phone and a voice."""
    program = find_chromium()
    assert program is not None
    browser = Browser(program, bench.directory("profile"))
    await browser.start()
    try:
        async with serve_pages() as url:
            page = await browser.page()
            await page.open(f"{url}/page.html")
            server = f"ws://127.0.0.1:{bench.ws_port}/"
            password = bench.phone_password(user)
            await page.run(f"phone = new Phone({server!r}, {REALM!r}, {user!r}, {password!r}), 0")
            await page.run(f"voice = new Voice({PAGE_HZ}, 'PCMA'), 0")
            await page.run("phone.connect()")
            assert await page.run("phone.register()") == 200
            yield page
    finally:
        await browser.aclose()


async def test_a_browser_calls_the_hotline_hears_it_and_presses_keys(bench: WebBench) -> None:
    async with web_phone(bench, "1001") as page:
        assert await page.call("((number) => phone.dial(number, voice))", "96001") == 200
        assert float((await page.run("voice.speech(10000)"))["db"]) > -60
        await page.call("voice.press", "1")
        await wait_until(lambda: is_over(page), 15, "the flow hangs up after the key")
        facts = await page.run("voice.facts()")
    assert facts["dtls"] == "connected"
    report = await bench.record_of("1001")
    assert [row["flow_node"] for row in report.steps] == ["welcome", "bye"]


async def is_over(page: Page) -> bool:
    return bool(await page.run("phone.hasEnded === true"))


async def test_an_agent_talks_in_a_browser(bench: WebBench, tmp_path: Path) -> None:
    tone = audio.write_tone(tmp_path / "caller.wav", CALLER_HZ, 30_000)
    number, begun = bench.caller_number(), time.time()
    async with (
        web_phone(bench, "1001") as page,
        bench.toolbar("1001") as toolbar,
        bench.phone(number) as caller,
    ):
        heard = tmp_path / "caller-heard.wav"
        call = caller.dial(bench.platform.access_url("96000"), bench.platform.sip, record=heard)
        await call.wait_answered(5)
        await call.wait_pause(10)
        await call.press("1")
        offer = await page.run("phone.answer(voice)")
        assert "UDP/TLS/RTP/SAVPF" in offer
        await toolbar.reached(pb.AGENT_STATE_TALKING, 20)
        call.play(tone, loop=True)
        in_page = await page.run(f"voice.heard({CALLER_HZ}, 10000)")
        assert abs(float(in_page["hz"]) - CALLER_HZ) < 30
        await wait_until(bench.recording_begun(begun), 15, "three seconds of recording")
        assert await page.run("phone.hangUp()") == 200
        call.hang_up()
        await call.wait_closed(5)
        hears(call.heard(), PAGE_HZ, not_hertz=CALLER_HZ)
    report = await bench.record_of(number)
    assert report.record["agent"] == "1001"
    left, right = dual_channel(report)
    hears(left, CALLER_HZ, not_hertz=PAGE_HZ)
    hears(right, PAGE_HZ, not_hertz=CALLER_HZ)
