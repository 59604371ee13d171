"""A node and its media process as people start them, each killed in the middle of a call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest
import pytest_asyncio

from agents.toolbar_client import ToolbarClient
from cti import audio
from cti.phone import PhoneCall, phone_media
from demo.platform import Child, RunningPlatform, configuration
from demo.ports import free_port, free_ports
from domain.failures import PlatformError
from tests.node.test_serve import options
from tests.peers.bench import TENANT, Bench, dual_channel
from tests.peers.waiting import wait_until

pytestmark = [pytest.mark.stores, pytest.mark.asyncio(loop_scope="module")]

CALLER_HZ, AGENT_HZ = 440, 1000
ACCESS_CODE = "96000"
# A slow machine may take so long for what takes a moment elsewhere.
PATIENCE_S = 60.0
_FLOW = """\
flow: agents
start: wait
nodes:
  wait:
    kind: queue
    queue: general
    max_wait_ms: 60000
    exits: {served: bye, timeout: bye, full: bye, no_agents: bye, error: bye}
  bye: {kind: hangup}
"""


class MediaProcess:
    """`cti95598 media`, which can be killed and started again."""

    def __init__(self, directory: Path, port: int, rtp_ports: tuple[int, int]) -> None:
        self.target = f"127.0.0.1:{port}"
        self._directory = directory
        self._rtp_ports = rtp_ports
        self._child: Child | None = None

    async def start(self) -> None:
        self._directory.mkdir(exist_ok=True)
        self._child = Child("media process", self._directory / "media.log")
        first, last = map(str, self._rtp_ports)
        command = ["-m", "node.cli", "media", "--listen", self.target]
        command += ["--data", str(self._directory), "--port-min", first, "--port-max", last]
        await self._child.start([*command, "--orphans-silent-s", "3"], {})

    async def kill(self) -> None:
        assert self._child is not None
        await self._child.kill()

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop()


@dataclass
class Conversation:
    """A caller and an agent, both of whom are heard."""

    number: str
    caller: PhoneCall
    agent: PhoneCall

    async def go_on(self, more_ms: int) -> None:
        """Wait until both have heard each other for so long from now on."""
        for call, hertz in ((self.caller, AGENT_HZ), (self.agent, CALLER_HZ)):
            wanted_ms = _heard_ms(call.heard(), hertz) + more_ms

            def is_heard(sound: audio.Sound, hertz: int = hertz, ms: int = wanted_ms) -> bool:
                return _heard_ms(sound, hertz) >= ms

            await call.wait_heard(is_heard, PATIENCE_S)

    async def hang_up(self) -> None:
        """Both hang up, whoever is left to hear it; nothing of the other one was missed."""
        for call in (self.caller, self.agent):
            call.hang_up()
        for call in (self.caller, self.agent):
            figures = await call.wait_closed(PATIENCE_S)
            assert figures.packets_received > 0
            assert (figures.packets_lost, figures.packets_invalid) == (0, 0)


def _heard_ms(sound: audio.Sound, hertz: int) -> int:
    return sum(span.duration_ms for span in audio.tone_spans(sound, hertz))


@dataclass
class Site:
    """One node, its media process, and phones."""

    bench: Bench
    media: MediaProcess
    tones: dict[int, Path]

    async def state(self) -> dict[str, Any]:
        """What GET /media says."""
        url = f"http://127.0.0.1:{self.bench.platform.ports.http}/media"
        async with aiohttp.ClientSession() as client, client.get(url) as response:
            state: dict[str, Any] = await response.json()
            return state

    async def status_of_call(self) -> int:
        """Call the access code; return the status that refuses it, 200 when it is answered."""
        bench = self.bench
        async with bench.phone(bench.caller_number()) as phone:
            call = phone.dial(bench.platform.access_url(ACCESS_CODE), bench.platform.sip)
            try:
                await call.wait_answered(PATIENCE_S)
            except PlatformError:
                return call.ended.result().status
            return 200

    @asynccontextmanager
    async def conversation(self, agent: str) -> AsyncIterator[Conversation]:
        """A caller who talks with an agent."""
        bench, number = self.bench, self.bench.caller_number()
        async with (
            bench.phone(agent, register=True, auto_answer=True) as phone,
            bench.phone(number) as caller,
        ):
            phone.record_to = bench.directory("agent") / "heard.wav"
            heard = bench.directory("caller") / "heard.wav"
            async with self._ready(agent):
                url = bench.platform.access_url(ACCESS_CODE)
                call = caller.dial(url, bench.platform.sip, record=heard)
                answered = await phone.next_call(PATIENCE_S)
                await asyncio.gather(
                    call.wait_answered(PATIENCE_S), answered.wait_answered(PATIENCE_S)
                )
                call.play(self.tones[CALLER_HZ], loop=True)
                answered.play(self.tones[AGENT_HZ], loop=True)
                talk = Conversation(number, call, answered)
                await talk.go_on(1500)
                yield talk

    @asynccontextmanager
    async def _ready(self, agent: str) -> AsyncIterator[None]:
        """An agent who takes calls. Her session may end with the node."""
        platform = self.bench.platform
        toolbar = ToolbarClient(platform.grpc)
        try:
            password = platform.passwords().agents[TENANT][agent]
            signed_in = await toolbar.sign_in(TENANT, agent, password)
            assert signed_in.result.accepted, signed_in.result
            result = await toolbar.ready()
            assert result.accepted, result
            yield
            with suppress(grpc.aio.AioRpcError):
                await toolbar.sign_out()
        finally:
            await toolbar.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    root = tmp_path_factory.mktemp("site")
    ports = free_ports()
    media = MediaProcess(root / "media", free_port(), (ports.rtp_min, ports.rtp_max))
    config = configuration(ports)
    flows = root / "flows"
    flows.mkdir()
    (flows / "agents.yaml").write_text(_FLOW)
    config["flows"] = str(flows)
    config["media"] |= {"engine": media.target, "engine_lost_after_s": 1.0}
    (tenant,) = config["tenants"]
    tenant["access_codes"] = [{"code": ACCESS_CODE, "flow": "agents"}]
    for queue in tenant["queues"]:
        queue |= {"after_call_work_s": 0, "answer_within_s": 30}
    tones = {
        hertz: audio.write_tone(root / f"{hertz}.wav", hertz, 1000)
        for hertz in (CALLER_HZ, AGENT_HZ)
    }
    platform = RunningPlatform(root / "data", ports, config)
    async with AsyncExitStack() as leaving:
        leaving.push_async_callback(media.stop)
        await media.start()
        leaving.push_async_callback(platform.stop)
        await platform.start()
        phones = await leaving.enter_async_context(phone_media(40_000, 40_999))
        records = await leaving.enter_async_context(platform.records())
        yield Site(Bench(platform, phones, records, root, 0, root), media, tones)


async def test_a_killed_node(site: Site) -> None:
    """Its callers talk on, the next process of the node takes calls, and gets the recording."""
    bench = site.bench
    async with site.conversation("1001") as talk:
        await bench.platform.crash_and_start_again(lambda: talk.go_on(2000))
        state = await site.state()
        assert state["is_up"]
        assert len(state["orphans"]) == 2
        async with site.conversation("1002") as other:
            await other.hang_up()
        await talk.go_on(500)
        await talk.hang_up()
        for call, hertz in ((talk.caller, AGENT_HZ), (talk.agent, CALLER_HZ)):
            spans = audio.tone_spans(call.heard(), hertz)
            pauses_ms = [next_.start_ms - span.end_ms for span, next_ in pairwise(spans)]
            assert max(pauses_ms, default=0) < 1000, "a node takes longer to start"

    async def is_tidy() -> bool:
        return not (await site.state())["orphans"]

    await wait_until(is_tidy, PATIENCE_S, "the orphans have ended")
    report = await bench.record_of(talk.number, timeout_s=PATIENCE_S)
    assert report.record["cause"] == "node_lost"
    left, right = dual_channel(report)
    assert _heard_ms(left, CALLER_HZ) >= 4000
    assert _heard_ms(right, AGENT_HZ) >= 4000
    report = await bench.record_of(other.number, timeout_s=PATIENCE_S)
    assert report.record["packets_lost"] == 0


async def test_a_killed_media_process(site: Site) -> None:
    """Its calls end with a cause, new ones are refused, and all is well once it is back."""
    bench = site.bench
    async with site.conversation("1003") as talk:
        killed_s = time.monotonic()
        await site.media.kill()
        ends = [await call.wait_ended(PATIENCE_S) for call in (talk.caller, talk.agent)]
        assert [end.by_peer for end in ends] == [True, True]
        assert time.monotonic() - killed_s >= 0.9, "a media process may be back within the time"
        assert await site.status_of_call() == 503
        assert (await options(bench.platform.ports.sip, "udp")).startswith(b"SIP/2.0 503 ")
        assert not await bench.is_healthy()
        await site.media.start()
        await wait_until(bench.is_healthy, PATIENCE_S, "calls are taken again")
        assert (await options(bench.platform.ports.sip, "udp")).startswith(b"SIP/2.0 200 ")
    async with site.conversation("1005") as other:
        await other.hang_up()
    report = await bench.record_of(talk.number, timeout_s=PATIENCE_S)
    assert report.record["cause"] == "media_unavailable"
    assert [row["cause"] for row in report.recordings] == ["recording_failed"]
    left, right = dual_channel(report)
    assert _heard_ms(left, CALLER_HZ) >= 500
    assert _heard_ms(right, AGENT_HZ) >= 500
    report = await bench.record_of(other.number, timeout_s=PATIENCE_S)
    assert report.record["packets_lost"] == 0
