"""What only a stream can do: reuse, framing, limits, and its end."""

import asyncio

import pytest

from cti.sip.endpoint import ServerTransaction
from cti.sip.messages.message import Request, Response
from cti.sip.transports.framing import StreamFramer
from cti.sip.transports.transport import ConnectionLimits, Hop
from domain.failures import Code
from tests.sip_core.messages import answer, request
from tests.sip_core.network import WAIT_S, Make, Outcome, accept_all, counted
from tests.sip_core.test_hooks import Doorman


class Stream:
    """A TCP client without a stack."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._framer = StreamFramer()
        self._frames: list[object] = []

    @classmethod
    async def open(cls, hop: Hop) -> "Stream":
        return cls(*await asyncio.open_connection(hop.host, hop.port))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def message(self) -> Request | Response:
        while not self._frames:
            data = await asyncio.wait_for(self.reader.read(65_536), WAIT_S)
            assert data, "closed"
            self._frames += self._framer.feed(data)
        frame = self._frames.pop(0)
        assert isinstance(frame, Request | Response)
        return frame

    async def ended(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(), WAIT_S) is not None
        except ConnectionError:
            return True


def options(call_id: str = "1", branch: str = "z9hG4bKt") -> bytes:
    return request(transport="TCP", call_id=call_id, branch=branch).to_bytes()


async def test_one_connection_carries_many_messages_in_any_pieces(make: Make) -> None:
    server, hop = await make("tcp")
    accept_all(server)
    stream = await Stream.open(hop)
    data = b"".join(options(str(n), f"z9hG4bK{n}") for n in range(5))
    for at in range(0, len(data), 37):
        stream.send(data[at : at + 37])
        await stream.writer.drain()
    assert [(await stream.message()).call_id for _ in range(5)] == list("01234")
    stream.writer.close()


async def test_a_ping_gets_a_pong(make: Make) -> None:
    _, hop = await make("tcp")
    stream = await Stream.open(hop)
    stream.send(b"\r\n\r\n")
    assert await asyncio.wait_for(stream.reader.readexactly(2), WAIT_S) == b"\r\n"
    stream.writer.close()


async def test_requests_to_one_peer_share_a_connection(make: Make) -> None:
    client, _ = await make("tcp")
    server, hop = await make("tcp")
    seen = accept_all(server)
    for _ in range(3):
        outcome = Outcome()
        outcome.start(client, request(via=False), hop)
        assert await outcome.status() == 200
    connections = {seen.get_nowait().hop.connection for _ in range(3)}
    assert len(connections) == 1


async def test_requests_go_back_on_the_connection_they_came_from(make: Make) -> None:
    server, hop = await make("tcp")
    seen = accept_all(server)
    stream = await Stream.open(hop)
    stream.send(options())
    await stream.message()
    back = (await asyncio.wait_for(seen.get(), WAIT_S)).hop
    outcome = Outcome()
    outcome.start(server, request(via=False), back)
    asked = await stream.message()
    assert isinstance(asked, Request)
    stream.send(answer(asked, 200).to_bytes())
    assert await outcome.status() == 200
    stream.writer.close()


async def test_a_lost_connection_fails_the_request_that_waits(make: Make) -> None:
    server, hop = await make("tcp")
    seen = accept_all(server)
    stream = await Stream.open(hop)
    stream.send(options())
    await stream.message()
    outcome = Outcome()
    outcome.start(server, request(via=False), (await seen.get()).hop)
    await stream.message()
    stream.writer.close()
    assert await outcome.next() is Code.SIP_TRANSPORT


async def test_a_response_after_the_connection_closed_does_no_harm(make: Make) -> None:
    server, hop = await make("tcp")
    waiting: asyncio.Queue[ServerTransaction] = asyncio.Queue()
    server.on_request = waiting.put_nowait
    stream = await Stream.open(hop)
    failed = asyncio.get_running_loop().create_future()
    # The Via names a port where nobody listens.
    stream.send(request(transport="TCP", sent_by="127.0.0.1:1").to_bytes())
    transaction = await asyncio.wait_for(waiting.get(), WAIT_S)
    transaction.on_failure = failed.set_result
    stream.writer.transport.abort()
    assert await stream.ended()
    ping = await Stream.open(hop)  # a round trip, after which the abort was seen
    ping.send(b"\r\n\r\n")
    await asyncio.wait_for(ping.reader.readexactly(2), WAIT_S)
    ping.writer.close()
    transaction.respond(answer(transaction.request, 180))
    assert await asyncio.wait_for(failed, WAIT_S) is Code.SIP_TRANSPORT
    transaction.respond(answer(transaction.request, 200))
    assert server.transaction_count == 0


async def test_missing_content_length_is_answered_and_ends_the_connection(make: Make) -> None:
    _, hop = await make("tcp")
    stream = await Stream.open(hop)
    stream.send(options().replace(b"Content-Length: 0\r\n", b""))
    response = await stream.message()
    assert isinstance(response, Response)
    assert response.status == 400
    assert await stream.ended()


async def test_a_malformed_message_leaves_the_connection_alone(make: Make) -> None:
    server, hop = await make("tcp")
    accept_all(server)
    stream = await Stream.open(hop)
    stream.send(options().replace(b"CSeq: 1 OPTIONS", b"CSeq: 1 BYE"))
    stream.send(options(branch="z9hG4bKgood"))
    statuses = []
    for _ in range(2):
        response = await stream.message()
        assert isinstance(response, Response)
        statuses.append(response.status)
    assert statuses == [400, 200]
    stream.writer.close()


@pytest.mark.parametrize(
    "start", [b"", b"OPTIONS sip:", b"\x16\x03\x01", options()[:-2], b"\r\n\r"]
)
async def test_whoever_drips_is_cut_off(make: Make, start: bytes) -> None:
    _, hop = await make("tcp", limits=ConnectionLimits(message_s=0.1))
    stream = await Stream.open(hop)
    stream.send(start)
    assert await stream.ended()


async def test_silence_between_messages_is_allowed_longer(make: Make) -> None:
    server, hop = await make("tcp", limits=ConnectionLimits(message_s=0.1, idle_s=0.4))
    accept_all(server)
    stream = await Stream.open(hop)
    stream.send(options())
    await stream.message()
    began_s = asyncio.get_running_loop().time()
    assert await stream.ended()
    assert asyncio.get_running_loop().time() - began_s > 0.35


@pytest.mark.parametrize(
    "limits", [ConnectionLimits(max_connections=2), ConnectionLimits(max_of_a_host=2)]
)
async def test_connections_are_limited(make: Make, limits: ConnectionLimits) -> None:
    server, hop = await make("tcp", limits=limits)
    accept_all(server)
    streams = [await Stream.open(hop) for _ in range(2)]
    for stream in streams:
        stream.send(options(branch=f"z9hG4bK{id(stream)}"))
        await stream.message()
    third = await Stream.open(hop)
    assert await third.ended()
    streams[0].writer.close()
    await streams[0].writer.wait_closed()
    streams[1].send(options(branch="z9hG4bKstill"))
    await streams[1].message()
    streams[1].writer.close()


async def test_a_peer_that_never_reads_is_cut_off(make: Make) -> None:
    server, hop = await make("tcp")
    accept_all(server)
    stream = await Stream.open(hop)
    stream.writer.transport.pause_reading()  # type: ignore[attr-defined]
    pings = b"".join(options(str(n), f"z9hG4bK{n}-{'x' * 3000}") for n in range(300))
    for _ in range(40):
        stream.send(pings)
        try:
            await asyncio.wait_for(stream.writer.drain(), 1.0)
        except (ConnectionError, TimeoutError):
            break
    assert stream.writer.transport.is_closing() or await stream.ended()


async def test_a_peer_that_is_banned_meanwhile_is_cut_off(make: Make) -> None:
    server, hop = await make("tcp")
    accept_all(server)
    stream = await Stream.open(hop)
    stream.send(options())
    await stream.message()
    guard = server.guard = Doorman()
    guard.bans = 2  # the next bytes, and the next connection
    stream.send(options(branch="z9hG4bKagain"))
    assert await stream.ended()
    again = await Stream.open(hop)
    assert await again.ended()
    assert counted("sip_connections", transport="tcp") == 0
