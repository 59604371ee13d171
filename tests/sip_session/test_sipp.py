"""Calls with sipp, as caller and as phone, over UDP and TCP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cti.sdp import Direction, negotiated, parse_sdp
from cti.sip.endpoint import SipEndpoint
from cti.sip.sessions.session import InviteSession
from cti.sip.transports.transport import Hop
from cti.sip.user_agent import UserAgent
from demo.ports import free_port
from domain.failures import Code
from tests.fakes.descriptions import answer, build_offer
from tests.peers.process import PeerProcess
from tests.peers.waiting import wait_until
from tests.sip_session.conftest import Node
from tests.sip_session.observer import Recorder

pytestmark = pytest.mark.peer

SCENARIOS = Path(__file__).parent / "sipp"
CALLS = 20


class Answerer(Recorder):
    """Answers changes by the rules of offer/answer."""

    def __init__(self) -> None:
        super().__init__()
        self.on_changed: Callable[[], None] = lambda: None

    def defer_answer(self, sdp: bytes) -> None:
        """Answer at once."""

    def on_reoffer(self, sdp: bytes) -> bytes | Code:
        super().on_reoffer(sdp)
        # The 200 of the UPDATE goes first.
        asyncio.get_running_loop().call_soon(self.on_changed)
        if not sdp:
            return build_offer("127.0.0.1", 20000, session_id=1, version=2)
        return answer(parse_sdp(sdp), "127.0.0.1", 20000, session_id=1, version=2)[0]


class Platform(Node):
    """A node with the timers of the real world, whose calls are rung and answered at once."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoint = SipEndpoint(user_agent="test")
        self.agent = type(self.agent)(self.endpoint, on_invite=self._take)
        self.answering = True
        self.early_media = False
        self.told: list[Answerer] = []

    def _take(self, session: InviteSession) -> None:
        session.observer = recorder = Answerer()
        self.told.append(recorder)
        local = build_offer("127.0.0.1", 20000, session_id=1, version=1)
        if session.offer:
            local = answer(parse_sdp(session.offer), "127.0.0.1", 20000, session_id=1, version=1)[0]
        if self.early_media:
            session.ring(local)
            recorder.on_changed = lambda: session.accept(local)
        else:
            session.ring()
            if self.answering:
                session.accept(local)


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    platform = Platform()
    yield platform
    await platform.endpoint.aclose()


class Sipp(PeerProcess):
    async def play(self, scenario: str, server: str, transport: str, *options: str) -> int:
        port = free_port()
        await self.start([
            "/usr/bin/sipp", "-sf", str(SCENARIOS / f"{scenario}.xml"), "-s", "95598",
            "-i", "127.0.0.1", "-p", str(port), "-t", {"udp": "u1", "tcp": "t1"}[transport],
            "-nostdin", "-timeout", "30s", "-timeout_error", "-trace_err",
            "-error_file", str(self.directory / "errors"), *options, *([server] if server else []),
        ])  # fmt: skip
        return port

    async def succeeded(self) -> None:
        status = await self.exited(40)
        errors = self.directory / "errors"
        assert status == 0, errors.read_text() if errors.exists() else self.lines[-30:]


@pytest.fixture
async def sipp(tmp_path: Path) -> AsyncIterator[Sipp]:
    sipp = Sipp(tmp_path)
    yield sipp
    await sipp.stop()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_sipp_calls(platform: Platform, sipp: Sipp, transport: str) -> None:
    await platform.listen(transport)
    server = "{}:{}".format(*platform.address)
    await sipp.play("caller", server, transport, "-m", str(CALLS), "-r", "40", "-d", "50")
    await sipp.succeeded()
    await platform.forgotten()
    assert len(platform.told) == CALLS
    for told in platform.told:
        assert told.ends[0].by_peer
        events = [told.events.get_nowait()[0] for _ in range(told.events.qsize())]
        assert events == [
            "acknowledged", "reoffer", "acknowledged", "reoffer", "acknowledged", "info", "ended",
        ]  # fmt: skip


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_sipp_hears_early_media(platform: Platform, sipp: Sipp, transport: str) -> None:
    await platform.listen(transport)
    platform.early_media = True
    server = "{}:{}".format(*platform.address)
    await sipp.play("caller_reliable", server, transport, "-m", str(CALLS), "-r", "40")
    await sipp.succeeded()
    await platform.forgotten()
    for told in platform.told:
        events = [told.events.get_nowait()[0] for _ in range(told.events.qsize())]
        assert events == ["reoffer", "acknowledged", "reoffer", "ended"]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_sipp_has_no_offer(platform: Platform, sipp: Sipp, transport: str) -> None:
    await platform.listen(transport)
    server = "{}:{}".format(*platform.address)
    await sipp.play("caller_offerless", server, transport, "-m", str(CALLS), "-r", "40")
    await sipp.succeeded()
    await platform.forgotten()
    for told in platform.told:
        events = [told.events.get_nowait()[0] for _ in range(told.events.qsize())]
        assert events == ["acknowledged", "reoffer", "acknowledged", "ended"]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_sipp_gives_up(platform: Platform, sipp: Sipp, transport: str) -> None:
    await platform.listen(transport)
    platform.answering = False
    server = "{}:{}".format(*platform.address)
    await sipp.play("caller_cancel", server, transport, "-m", "5")
    await sipp.succeeded()
    await platform.forgotten()
    assert {told.ends[0].code for told in platform.told} == {Code.CALLER_ABANDONED}


async def ring_sipp(
    agent: UserAgent, told: Recorder, transport: str, port: int
) -> tuple[InviteSession, bytes]:
    offer = build_offer("127.0.0.1", 20000, session_id=1, version=1)
    session = agent.invite(
        f"sip:1001@127.0.0.1:{port};transport={transport}",
        from_="sip:95598@127.0.0.1",
        hop=Hop("tcp" if transport == "tcp" else "udp", "127.0.0.1", port),
        sdp=offer,
        observer=told,
    )
    return session, offer


async def listening(sipp: Sipp, port: int, transport: str) -> None:
    """Wait until sipp has bound its port."""
    table = Path(f"/proc/net/{transport}")
    await wait_until(lambda: f":{port:04X} " in table.read_text(), 10, "sipp listens")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_sipp_is_called(platform: Platform, sipp: Sipp, transport: str) -> None:
    await platform.listen(transport)
    port = await sipp.play("callee", "", transport, "-m", "1")
    await listening(sipp, port, transport)
    told = Recorder()
    session, offer = await ring_sipp(platform.agent, told, transport, port)
    await told.expect("progress", 180, b"")
    _, answered = await told.next()
    agreed = negotiated(parse_sdp(offer), parse_sdp(answered))
    assert (agreed.payload_type, agreed.digit_payload_type) == (8, 101)
    hold = build_offer("127.0.0.1", 20000, session_id=1, version=2, direction=Direction.SENDONLY)
    session.reinvite(hold)
    _, answered = await told.next()
    assert not negotiated(parse_sdp(hold), parse_sdp(answered)).receive
    session.end(Code.FLOW_ENDED)
    await sipp.succeeded()
    await platform.forgotten()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_sipp_answers_early(platform: Platform, sipp: Sipp, transport: str) -> None:
    await platform.listen(transport)
    messages = sipp.directory / "messages"
    traced = ("-trace_msg", "-message_file", str(messages))
    port = await sipp.play("callee_reliable", "", transport, "-m", "1", *traced)
    await listening(sipp, port, transport)
    told = Recorder()
    session, offer = await ring_sipp(platform.agent, told, transport, port)
    _, status, answered = await told.next()
    assert status == 183
    assert negotiated(parse_sdp(offer), parse_sdp(answered)).receive
    # A PRACK and an UPDATE that it reads at once are too many for sipp.
    await wait_until(
        lambda: messages.read_text().count("CSeq: 2 PRACK") == 2, 10, "sipp answers the PRACK"
    )
    hold = build_offer("127.0.0.1", 20000, session_id=1, version=2, direction=Direction.SENDONLY)
    session.reinvite(hold)
    kind, held = await told.next()
    assert kind == "early_answer", held
    assert not negotiated(parse_sdp(hold), parse_sdp(held)).receive
    await told.expect("answered", b"")
    session.end(Code.FLOW_ENDED)
    await sipp.succeeded()
    await platform.forgotten()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_sipp_is_busy(platform: Platform, sipp: Sipp, transport: str) -> None:
    await platform.listen(transport)
    port = await sipp.play("callee_busy", "", transport, "-m", "1")
    await listening(sipp, port, transport)
    told = Recorder()
    await ring_sipp(platform.agent, told, transport, port)
    assert (await told.end()).code is Code.BUSY
    await sipp.succeeded()
    await platform.forgotten()
