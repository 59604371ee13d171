"""Calls of a phone on WebSocket, from browsers' messages to the voices (RFC 7118)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from cti.audio import write_tone
from cti.media_engine import RtpEngine
from cti.rtp_port import MediaRouter
from cti.sdp import Direction
from cti.sip.messages.message import Request
from cti.sip.transports.transport import TransportName
from domain.failures import Code
from tests.call_control.conftest import engine, far_ends
from tests.call_control.platform import until
from tests.call_control.tone_media import ToneMedia
from tests.fakes.descriptions import build_offer
from tests.routing.redis_process import until as until_now
from tests.sip_core.certificates import Authority
from tests.sip_edge.exchange import DeskPhone, Exchange
from tests.sip_edge.platform import PASSWORD, REALM, USER, PlatformNode, known_to_each_other
from tests.sip_edge.web_phone import WebPhone
from tests.sip_session.peer import ANSWER, OFFER

__all__ = ["engine", "far_ends"]

pytestmark = pytest.mark.stores

WEB: tuple[TransportName, ...] = ("ws", "wss")
WEB_HZ, DESK_HZ = 440, 1000
SDP = build_offer("127.0.0.1", 46000, session_id=1, version=1)
HOLD = build_offer("127.0.0.1", 46000, session_id=1, version=2, direction=Direction.SENDONLY)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def exchange(
    redis: Redis, engine: RtpEngine, tmp_path: Path, authority: Authority
) -> AsyncIterator[Exchange]:
    node = Exchange("main", redis, engine, tmp_path, authority.tls("127.0.0.1"))
    await node.start()
    yield node
    await until(lambda: node.agent.session_count == 0 and node.control.calls == 0)
    await node.aclose()


@pytest.fixture
async def desk(exchange: Exchange) -> AsyncIterator[DeskPhone]:
    phone = DeskPhone()
    await phone.listen()
    await phone.register(exchange)
    yield phone
    await phone.aclose()


@pytest.fixture(params=WEB)
async def web(
    request: pytest.FixtureRequest, exchange: Exchange, authority: Authority
) -> AsyncIterator[WebPhone]:
    phone = await web_phone(exchange, request.param, authority)
    yield phone
    await phone.aclose()


async def web_phone(node: PlatformNode, transport: TransportName, authority: Authority) -> WebPhone:
    phone = WebPhone(USER, REALM, PASSWORD)
    trust = ssl.create_default_context(cafile=str(authority.ca_file))
    await phone.connect(node.hop(transport), trust if transport == "wss" else None)
    bound = (await phone.register()).headers.get("Contact") or ""
    assert phone.contact in bound
    return phone


def shows_websocket(request: Request, transport: TransportName) -> None:
    """Check what a browser sees of us: Via tells ws from wss, URIs know ws only."""
    assert request.top_via.transport == transport.upper()
    assert ";transport=ws>" in (request.headers.get("Contact") or "")
    assert request.uri.endswith(";transport=ws")


class WebMedia(ToneMedia):
    """The voice of the web phone, whose descriptions it takes and gives by itself."""

    def start(self) -> None:
        self.port.connect()
        engine = self.router.engine
        self.recording = engine.start_recording(str(self.heard), [self.port.port_id], None)
        self.router.recordings[self.recording] = lambda _: self.recorded.set()


@pytest.mark.parametrize("web_hangs_up", [True, False])
async def test_a_desk_phone_calls_and_both_hear_each_other(
    exchange: Exchange,
    web: WebPhone,
    desk: DeskPhone,
    far_ends: MediaRouter,
    tmp_path: Path,
    web_hangs_up: bool,
) -> None:
    tones = {hz: write_tone(tmp_path / f"{hz}.wav", hz, 1000) for hz in (WEB_HZ, DESK_HZ)}
    desk_media = ToneMedia(far_ends, tmp_path / "desk-heard.wav")
    web_media = WebMedia(far_ends, tmp_path / "web-heard.wav")
    call = desk.dial(exchange, USER, desk_media.sdp)
    rung = await web.rung()
    shows_websocket(rung.invite, web.node.transport)
    await call.until_progress(180)
    await web.accept(rung, web_media.port.answer(rung.invite.body))
    web_media.start()
    await desk_media.connect(call)
    await until(lambda: "bridged" in exchange.sink.names)
    for media, hz in ((web_media, WEB_HZ), (desk_media, DESK_HZ)):
        far_ends.engine.play(media.port.port_id, [str(tones[hz])])
    for media in (web_media, desk_media):
        await asyncio.wait_for(media.played.wait(), 5)
    if web_hangs_up:
        await web.hang_up(rung)
        assert (await call.until_ended()).by_peer
    else:
        call.hang_up()
        await web.respond(await web.expect("BYE"), 200)
    for media in (web_media, desk_media):
        await media.close()
    assert desk_media.spans(WEB_HZ)
    assert web_media.spans(DESK_HZ)


async def test_the_web_phone_calls_holds_and_hangs_up(
    exchange: Exchange, web: WebPhone, desk: DeskPhone
) -> None:
    call = await web.dial(DeskPhone.user, SDP)
    rung = await desk.next_call()
    rung.sdp = SDP
    rung.answer()
    accepted = await web.answered(call)
    assert ";transport=ws>" in (accepted.headers.get("Contact") or "")
    assert accepted.body.startswith(b"v=0")
    assert b"a=recvonly" in (await web.reinvite(call, HOLD)).body
    assert b"a=recvonly" not in (await web.reinvite(call, SDP)).body
    await web.hang_up(call)
    assert (await rung.until_ended()).by_peer


async def test_the_desk_phone_hangs_up_a_call_of_the_web_phone(
    exchange: Exchange, web: WebPhone, desk: DeskPhone
) -> None:
    call = await web.dial(DeskPhone.user, SDP)
    rung = await desk.next_call()
    rung.sdp = SDP
    rung.answer()
    await web.answered(call)
    rung.hang_up()
    bye = await web.expect("BYE")
    assert bye.uri == web.contact.strip("<>")
    await web.respond(bye, 200)


async def test_the_web_phone_gives_up(exchange: Exchange, web: WebPhone, desk: DeskPhone) -> None:
    call = await web.dial(DeskPhone.user, SDP)
    rung = await desk.next_call()
    await web.expect_status(180)
    await web.cancel(call)
    assert (await rung.until_ended()).status == 487


async def test_the_caller_gives_up(exchange: Exchange, web: WebPhone, desk: DeskPhone) -> None:
    call = desk.dial(exchange, USER, SDP)
    rung = await web.rung()
    call.hang_up()
    cancel = await web.expect("CANCEL")
    await web.respond(cancel, 200)
    await web.respond(rung.invite, 487)
    await web.expect("ACK")
    assert (await call.until_ended()).status == 487


async def test_the_page_is_closed_in_the_middle_of_a_call(
    exchange: Exchange, web: WebPhone, desk: DeskPhone
) -> None:
    """A browser that is gone is never connected to; its call ends with the next request to it."""
    call = desk.dial(exchange, USER, SDP)
    await web.accept(await web.rung(), SDP)
    await call.until_answered()
    await web.aclose()
    pool = exchange.endpoint._transports._pool
    await until_now(lambda: not pool._connections)
    call.hang_up()
    await until(lambda: exchange.control.calls == 0)
    assert not pool._connections
    assert await exchange.phones() == []


@pytest.mark.parametrize("transport", WEB)
async def test_through_the_edge_from_another_node(
    redis: Redis, authority: Authority, transport: TransportName
) -> None:
    main = PlatformNode("main", redis, authority.tls("127.0.0.1"))
    standby = PlatformNode("standby", redis)
    for node in (main, standby):
        await node.start()
    await known_to_each_other(main, standby)
    web = await web_phone(main, transport, authority)
    (binding,) = await standby.phones()
    for web_hangs_up in (True, False):
        session, told = standby.ring(binding.ways[0])
        call = await web.rung()
        assert call.invite.top_via.transport == transport.upper()
        first, second = call.routes
        assert ";transport=ws;" in first
        assert "transport" not in second
        assert (await told.next())[:2] == ("progress", 180)
        await web.accept(call, ANSWER)
        await told.expect("answered", ANSWER)
        assert (await web.reinvite(call, OFFER)).status == 200
        await told.expect("reoffer", OFFER)
        await told.expect("acknowledged", b"")
        session.reinvite(OFFER)
        again = await web.expect("INVITE")
        await web.respond(again, 200, ANSWER)
        await web.expect("ACK")
        await told.expect("answered", ANSWER)
        if web_hangs_up:
            await web.hang_up(call)
            assert (await told.end()).by_peer
        else:
            session.end(Code.FLOW_ENDED)
            await web.respond(await web.expect("BYE"), 200)
        await standby.forgotten()
    session, told = standby.ring(binding.ways[0])
    call = await web.rung()
    session.end(Code.CALLER_HUNG_UP)
    await web.respond(await web.expect("CANCEL"), 200)
    await web.respond(call.invite, 487)
    await web.expect("ACK")
    await web.aclose()
    for node in (standby, main):
        await node.aclose()
