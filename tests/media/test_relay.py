"""Datagrams between two far ends, as they are: video and fax."""

from __future__ import annotations

import asyncio
import socket

import pytest

from cti.media import MediaTimedOut, PortClosed, PortId, RelayEnd
from cti.media_engine import RtpEngine
from domain.failures import Code, PlatformError
from tests.media.peer import WAIT_S, Events

UDPTL = b"\x00\x01\x06\x01\xc0\x80\x00\x00\x01\x0a"  # no RTP at all
LARGE = bytes(range(256)) * 5


class FarEnd:
    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.number: int = self.socket.getsockname()[1]

    def send(self, datagram: bytes, number: int) -> None:
        self.socket.sendto(datagram, ("127.0.0.1", number))

    async def receive(self) -> tuple[bytes, int]:
        loop = asyncio.get_running_loop()
        data, address = await asyncio.wait_for(loop.sock_recvfrom(self.socket, 4096), WAIT_S)
        return data, address[1]


def end(port: PortId, far_end: FarEnd) -> RelayEnd:
    return RelayEnd(port, "127.0.0.1", far_end.number)


async def obeyed(engine: RtpEngine, events: Events) -> None:
    """Wait until the commands so far are: what came before them is no relay's."""
    port, _ = engine.open_port("127.0.0.1")
    engine.close_port(port)
    await events.wait(PortClosed, port=port)


async def test_datagrams_pass_both_ways_as_they_are(engine: RtpEngine, events: Events) -> None:
    one, other = FarEnd(), FarEnd()
    (a, a_number), (b, b_number) = (engine.open_port("127.0.0.1") for _ in range(2))
    engine.relay(end(a, one), end(b, other))
    await obeyed(engine, events)
    for datagram in (UDPTL, LARGE, b"\x80\x60" + bytes(10)):
        one.send(datagram, a_number)
        assert await other.receive() == (datagram, b_number)
        other.send(datagram, b_number)
        assert await one.receive() == (datagram, a_number)
    engine.close_port(a)
    figures = (await events.wait(PortClosed, port=a)).figures
    assert (figures.packets_received, figures.packets_sent) == (3, 3)
    other.send(UDPTL, b_number)  # the other side is alone: nothing is sent anywhere
    engine.close_port(b)
    await events.wait(PortClosed, port=b)


async def test_a_far_end_is_followed_to_where_it_sends_from(
    engine: RtpEngine, events: Events
) -> None:
    told, one, other = FarEnd(), FarEnd(), FarEnd()
    (a, a_number), (b, b_number) = (engine.open_port("127.0.0.1") for _ in range(2))
    engine.relay(end(a, told), end(b, other))
    await obeyed(engine, events)
    one.send(UDPTL, a_number)
    assert await other.receive() == (UDPTL, b_number)
    other.send(LARGE, b_number)
    assert await one.receive() == (LARGE, a_number)


async def test_a_later_relay_takes_the_place_of_the_earlier(
    engine: RtpEngine, events: Events
) -> None:
    ends = [FarEnd() for _ in range(3)]
    ports = [engine.open_port("127.0.0.1") for _ in range(3)]
    (a, a_number), (b, b_number), (c, c_number) = ports
    engine.relay(end(a, ends[0]), end(b, ends[1]))
    engine.relay(end(a, ends[0]), end(c, ends[2]))
    await obeyed(engine, events)
    ends[1].send(b"lost", b_number)
    ends[2].send(b"heard", c_number)
    assert await ends[0].receive() == (b"heard", a_number)
    ends[0].send(UDPTL, a_number)
    assert await ends[2].receive() == (UDPTL, c_number)


async def test_the_silence_of_a_far_end_is_told(engine: RtpEngine, events: Events) -> None:
    one, other = FarEnd(), FarEnd()
    (a, _), (b, _) = (engine.open_port("127.0.0.1") for _ in range(2))
    engine.relay(end(a, one), end(b, other), media_timeout_ms=100)
    await events.wait(MediaTimedOut, port=a)
    await events.wait(MediaTimedOut, port=b)


async def test_what_is_no_address_is_refused(engine: RtpEngine, events: Events) -> None:
    (a, _), (b, _) = (engine.open_port("127.0.0.1") for _ in range(2))
    for ip, number in (("x", 1), ("127.0.0.1", 70_000)):
        with pytest.raises(PlatformError) as caught:
            engine.relay(RelayEnd(a, ip, number), RelayEnd(b, "127.0.0.1", 1))
        assert caught.value.code is Code.SDP_MALFORMED
