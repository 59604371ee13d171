"""SIP over WebSocket (RFC 7118) with an independent client, and the reader fed in any pieces."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.events import Request as Upgrade

from cti.sip.endpoint import ServerTransaction
from cti.sip.messages.message import (
    MAX_MESSAGE_BYTES,
    Request,
    Response,
    SipSyntaxError,
    parse_message,
)
from cti.sip.messages.syntax import format_host_port
from cti.sip.transports.framing import Frame, KeepAlive
from cti.sip.transports.transport import ConnectionLimits, Hop
from cti.sip.transports.websocket import WebSocketFraming
from domain.failures import Code
from tests.sip_core.certificates import Authority
from tests.sip_core.messages import answer, request
from tests.sip_core.network import WAIT_S, Make, Outcome, accept_all
from tests.sip_core.test_hooks import Doorman


@pytest_asyncio.fixture
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def url(hop: Hop) -> str:
    return f"{hop.transport}://{format_host_port(hop.host, hop.port)}/"


def browser_request(method: str = "OPTIONS", branch: str = "z9hG4bKweb", **kwargs: str) -> Request:
    built = request(method, via=False, **kwargs)  # type: ignore[arg-type]
    built.headers.prepend("Via", f"SIP/2.0/WS df7jal23ls0d.invalid;branch={branch};rport")
    built.headers.set("Contact", "<sip:1001@df7jal23ls0d.invalid;transport=ws>")
    return built


async def heard(socket: aiohttp.ClientWebSocketResponse) -> Request | Response:
    text = await asyncio.wait_for(socket.receive_str(), WAIT_S)
    return parse_message(text.encode())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("transport", ["ws", "wss"])
async def test_a_browser_asks_and_is_asked(
    make: Make, web: aiohttp.ClientSession, authority: Authority, transport: str, host: str
) -> None:
    server, hop = await make(transport, host)
    seen = accept_all(server)
    trust = ssl.create_default_context(cafile=str(authority.ca_file))
    async with web.ws_connect(url(hop), protocols=["sip"], ssl=trust) as socket:
        assert socket.protocol == "sip"
        await socket.send_str(browser_request().to_bytes().decode())
        response = await heard(socket)
        assert isinstance(response, Response)
        assert response.status == 200
        assert response.top_via.host == "df7jal23ls0d.invalid"
        assert response.top_via.params["received"] == host
        source = (await seen.get()).hop
        assert source.transport == transport
        outcome = Outcome()
        outcome.start(server, request("INVITE", via=False), source)
        asked = await heard(socket)
        assert isinstance(asked, Request)
        assert asked.top_via.transport == transport.upper()
        await socket.send_bytes(answer(asked, 603).to_bytes())
        assert await outcome.status() == 603
        assert (await heard(socket)).cseq[1] == "ACK"
    gone = Outcome()
    gone.start(server, request(via=False), source)
    assert await gone.next() is Code.SIP_TRANSPORT  # we never connect to a browser
    assert server._transports._pool._connections == {}


async def test_a_message_that_is_no_utf_8_goes_as_binary(
    make: Make, web: aiohttp.ClientSession
) -> None:
    server, hop = await make("ws")
    accept_all(server)
    async with web.ws_connect(url(hop), protocols=["sip"]) as socket:
        asked = browser_request().to_bytes().replace(b"tag=caller", b"tag=caller;x=\xcd\xf5")
        await socket.send_bytes(asked)
        assert b"\xcd\xf5" in await asyncio.wait_for(socket.receive_bytes(), WAIT_S)


@pytest.mark.parametrize(
    ("protocols", "origin", "status"),
    [((), None, 400), (("chat",), None, 400), (("sip",), "https://evil.example", 403)],
)
async def test_who_comes_for_something_else_is_turned_away(
    make: Make,
    web: aiohttp.ClientSession,
    protocols: tuple[str, ...],
    origin: str | None,
    status: int,
) -> None:
    server, hop = await make("ws", web_origins=["https://desk.example"])
    guard = server.guard = Doorman()
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await web.ws_connect(url(hop), protocols=protocols, origin=origin)
    assert caught.value.status == status
    assert not guard.broken
    async with web.ws_connect(url(hop), protocols=["sip"], origin="https://desk.example"):
        pass
    async with web.get(f"http://{hop.host}:{hop.port}/") as page:
        assert page.status == 400


async def test_pings_and_the_closing_handshake(make: Make, web: aiohttp.ClientSession) -> None:
    server, hop = await make("ws")
    socket = await web.ws_connect(url(hop), protocols=["sip"], autoping=False)
    await socket.ping(b"there?")
    pong = await asyncio.wait_for(socket.receive(), WAIT_S)
    assert (pong.type, pong.data) == (aiohttp.WSMsgType.PONG, b"there?")
    await socket.send_str("\r\n\r\n")
    assert await asyncio.wait_for(socket.receive_str(), WAIT_S) == "\r\n"
    await asyncio.wait_for(socket.close(code=1000), WAIT_S)
    assert socket.close_code == 1000
    leaving = await web.ws_connect(url(hop), protocols=["sip"])
    await server.aclose()
    closed = await asyncio.wait_for(leaving.receive(), WAIT_S)
    assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1001)


async def test_a_message_too_large_ends_the_connection(
    make: Make, web: aiohttp.ClientSession
) -> None:
    server, hop = await make("ws")
    guard = server.guard = Doorman()
    async with web.ws_connect(url(hop), protocols=["sip"]) as socket:
        with contextlib.suppress(ConnectionError):
            await socket.send_str("x" * (MAX_MESSAGE_BYTES + 1))
        closed = await asyncio.wait_for(socket.receive(), WAIT_S)
        assert closed.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
    assert [each.transport for each in guard.broken] == ["ws"]


async def test_a_malformed_message_is_answered_and_leaves_the_connection_alone(
    make: Make, web: aiohttp.ClientSession
) -> None:
    server, hop = await make("ws")
    accept_all(server)
    async with web.ws_connect(url(hop), protocols=["sip"]) as socket:
        text = browser_request().to_bytes().decode()
        await socket.send_str(text.replace("CSeq: 1 OPTIONS", "CSeq: 1 BYE"))
        await socket.send_str(text)
        statuses = []
        for _ in range(2):
            response = await heard(socket)
            assert isinstance(response, Response)
            statuses.append(response.status)
        assert statuses == [400, 200]


async def test_a_connection_lost_in_the_middle_of_an_invite(
    make: Make, web: aiohttp.ClientSession
) -> None:
    server, hop = await make("ws")
    waiting: asyncio.Queue[ServerTransaction] = asyncio.Queue()
    server.on_request = waiting.put_nowait
    async with web.ws_connect(url(hop), protocols=["sip"]) as socket:
        await socket.send_str(browser_request("INVITE").to_bytes().decode())
        transaction = await asyncio.wait_for(waiting.get(), WAIT_S)
    failed: asyncio.Future[Code] = asyncio.get_running_loop().create_future()
    transaction.on_failure = failed.set_result
    transaction.respond(answer(transaction.request, 180))
    assert await asyncio.wait_for(failed, WAIT_S) is Code.SIP_TRANSPORT


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"OPTIONS sip:"])
async def test_a_handshake_that_drips_is_cut_off_and_told(make: Make, start: bytes) -> None:
    server, hop = await make("ws", limits=ConnectionLimits(message_s=0.1))
    guard = server.guard = Doorman()
    reader, writer = await asyncio.open_connection(hop.host, hop.port)
    writer.write(start)
    assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
    assert [each.transport for each in guard.broken] == ["ws"]
    writer.close()


async def test_a_frame_that_drips_is_cut_off(make: Make) -> None:
    server, hop = await make("ws", limits=ConnectionLimits(message_s=0.5))
    accept_all(server)
    guard = server.guard = Doorman()
    reader, writer = await asyncio.open_connection(hop.host, hop.port)
    browser = Browser()
    writer.write(browser.upgrade())
    browser.take(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_S))
    message = browser_request().to_bytes()
    writer.write(browser.socket.send(BytesMessage(message)))
    writer.write(browser.socket.send(BytesMessage(message))[:-5])
    assert await asyncio.wait_for(reader.read(), WAIT_S)
    assert len(guard.broken) == 1
    writer.close()


# The reader by itself


class Browser:
    """wsproto's client side, of which the server uses only the other half."""

    def __init__(self) -> None:
        self.socket = WSConnection(ConnectionType.CLIENT)

    def upgrade(self) -> bytes:
        return self.socket.send(Upgrade(host="pbx.example", target="/", subprotocols=["sip"]))

    def take(self, data: bytes) -> list[object]:
        self.socket.receive_data(data)
        return list(self.socket.events())


class Spoken:
    """A server's reader, and a client that has shaken hands with it."""

    def __init__(self) -> None:
        self.browser = Browser()
        self.framing = WebSocketFraming()
        self.framing.feed(self.browser.upgrade())
        self.browser.take(self.framing.output())

    def text(self, body: bytes, *, finished: bool = True) -> bytes:
        return self.browser.socket.send(TextMessage(body.decode(), message_finished=finished))


@given(st.data())
def test_the_reader_takes_messages_in_any_pieces(data: st.DataObject) -> None:
    browser = Browser()
    framing = WebSocketFraming()
    stream = browser.upgrade()
    accepted = WebSocketFraming()
    accepted.feed(stream)
    browser.take(accepted.output())  # its answer: the client's key is in the request
    expected: list[str] = []
    for number in range(data.draw(st.integers(0, 6))):
        kind = data.draw(st.sampled_from(["text", "bytes", "parts", "ping", "crlf", "broken"]))
        message = browser_request(call_id=str(number)).to_bytes()
        if kind == "ping":
            stream += browser.socket.send(Ping(b"x"))
            continue
        if kind == "crlf":
            stream += browser.socket.send(TextMessage("\r\n\r\n"))
            expected.append("ping")
        elif kind == "broken":
            stream += browser.socket.send(TextMessage("this is not SIP"))
            expected.append("error")
        elif kind == "text":
            stream += browser.socket.send(TextMessage(message.decode()))
            expected.append(str(number))
        elif kind == "bytes":
            stream += browser.socket.send(BytesMessage(message))
            expected.append(str(number))
        else:
            at = data.draw(st.integers(0, len(message)))
            stream += browser.socket.send(BytesMessage(message[:at], message_finished=False))
            stream += browser.socket.send(Ping(b"between"))
            stream += browser.socket.send(BytesMessage(message[at:]))
            expected.append(str(number))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    found: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += framing.feed(stream[start:end])
    assert [_name(each) for each in found] == expected
    assert not framing.broken
    assert framing.idle
    assert framing.output().startswith(b"HTTP/1.1 101")


def _name(frame: Frame) -> str:
    if isinstance(frame, Request | Response):
        return frame.call_id
    return "ping" if frame is KeepAlive.PING else "error"


@given(st.lists(st.binary(max_size=300), max_size=8), st.booleans())
def test_the_reader_survives_anything(pieces: list[bytes], shaken: bool) -> None:
    framing = Spoken().framing if shaken else WebSocketFraming()
    for piece in pieces:
        for frame in framing.feed(piece):
            assert isinstance(frame, Request | Response | SipSyntaxError | KeepAlive)
        framing.output()
        framing.wrap(b"OPTIONS")
    framing.end()


def test_between_messages_it_is_idle_and_within_one_it_is_not() -> None:
    spoken = Spoken()
    assert spoken.framing.idle
    spoken.framing.feed(spoken.text(b"OPTIONS", finished=False))
    assert not spoken.framing.idle
    spoken.framing.feed(spoken.browser.socket.send(Ping(b"")))
    assert not spoken.framing.idle
    spoken.framing.feed(spoken.text(b" sip:x SIP/2.0"))
    assert spoken.framing.idle


def test_endless_fragments_are_refused() -> None:
    spoken = Spoken()
    fed = 0
    while not spoken.framing.broken:
        assert spoken.framing.feed(spoken.text(b"x" * 4096, finished=False)) == []
        fed += 4096
        assert fed < 2 * MAX_MESSAGE_BYTES
    (closed,) = spoken.browser.take(spoken.framing.output())
    assert isinstance(closed, CloseConnection)
    assert closed.code == 1009


def test_an_endless_handshake_is_refused() -> None:
    framing = WebSocketFraming()
    framing.feed(b"GET / HTTP/1.1\r\n" + b"X-Endless: headers\r\n" * 1000)
    assert framing.broken


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\nUpgrade: websocket",
        b"GET / HTTP/9.9",
        b"GET /\xff HTTP/1.1\r\nHost: x",
        b"POST / HTTP/1.1\r\nHost: x",
    ],
)
def test_a_broken_handshake_ends_it(head: bytes) -> None:
    framing = WebSocketFraming()
    framing.feed(head + b"\r\n\r\n")
    assert framing.broken or framing.ended
