"""RTCP of the media engine on real sockets, with a far end made of a plain one."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import pytest

from cti.media import Codec, Connection, MediaTimedOut, PortClosed, PortFigures, PortId
from cti.media_engine import RtpEngine
from tests.media.peer import FRAME, PCMA_SILENCE, WAIT_S, Events, Peer, rtp

SENDER_REPORT, RECEIVER_REPORT, GOODBYE = 200, 201, 203


class ReportSocket(asyncio.DatagramProtocol):
    """Where a far end sends its reports from and receives ours."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.put_nowait(data)


async def _report_socket(host: str = "127.0.0.1") -> tuple[asyncio.DatagramTransport, ReportSocket]:
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(ReportSocket, local_addr=(host, 0))


def _receiver_report(about: int, *, lost: int, last_sr: int = 0, delay: int = 0) -> bytes:
    head = struct.pack("!BBHI", 0x81, RECEIVER_REPORT, 7, 99)
    return head + struct.pack("!IIIIII", about, 26 << 24 | lost, 1000, 80, last_sr, delay)


def _kinds(compound: bytes) -> list[int]:
    kinds, at = [], 0
    while at < len(compound):
        _, kind, words = struct.unpack_from("!BBH", compound, at)
        kinds.append(kind)
        at += 4 * (words + 1)
    assert at == len(compound)
    return kinds


async def _until(peer: Peer, reached: Callable[[], bool]) -> None:
    """Wait, looking with each packet that the engine sends."""
    async with asyncio.timeout(WAIT_S):
        while not reached():
            await peer.wait(len(peer.received) + 1)


async def _closed(engine: RtpEngine, events: Events, port: PortId) -> PortFigures:
    engine.close_port(port)
    return (await events.wait(PortClosed, port=port)).figures


@pytest.mark.parametrize("shared", [False, True])
async def test_what_the_far_end_reports_is_in_the_figures_and_it_gets_a_goodbye(
    engine: RtpEngine, events: Events, shared: bool
) -> None:
    peer = await Peer.open()
    transport, reports = await _report_socket()
    port, number = engine.open_port("127.0.0.1")
    connection = Connection(
        remote_ip="127.0.0.1",
        remote_port=peer.port,
        codec=Codec.PCMA,
        payload_type=8,
        rtcp_port=transport.get_extra_info("sockname")[1],
        rtcp_mux=shared,
    )
    engine.connect(port, connection)
    ours = (await peer.wait(3))[0].ssrc
    for index in range(30):
        peer.send(rtp(8, index, index * FRAME, PCMA_SILENCE), number)
    report = _receiver_report(ours, lost=12)
    before = engine.figures()["packets_invalid"]
    if shared:
        peer.send(report, number)
    else:
        transport.sendto(report, ("127.0.0.1", number + 1))
        await _until(peer, lambda: engine.figures()["reports_received"] == 1)
    await _until(peer, lambda: engine.figures()["packets_received"] >= 30)
    figures = await _closed(engine, events, port)
    assert (figures.far_packets_lost, figures.far_jitter_ms) == (12, 10.0)
    assert figures.round_trip_ms is None  # the far end has seen no report of ours
    assert (figures.codec, figures.packets_lost, figures.packets_duplicate) == ("PCMA", 0, 0)
    assert figures.mos is not None
    assert 4.3 < figures.mos < 4.5
    assert engine.figures()["packets_invalid"] == before
    if not shared:
        goodbye = await asyncio.wait_for(reports.received.get(), WAIT_S)
        assert _kinds(goodbye) == [SENDER_REPORT, 202, GOODBYE]


async def test_reports_of_strangers_are_refused(engine: RtpEngine, events: Events) -> None:
    peer = await Peer.open()
    transport, _ = await _report_socket("127.0.0.2")
    port, number = engine.open_port("127.0.0.1")
    engine.connect(
        port,
        Connection(remote_ip="127.0.0.1", remote_port=peer.port, codec=Codec.PCMA, payload_type=8),
    )
    ours = (await peer.wait(3))[0].ssrc
    transport.sendto(_receiver_report(ours, lost=12), ("127.0.0.1", number + 1))
    await _until(peer, lambda: engine.figures()["packets_invalid"] == 1)
    figures = await _closed(engine, events, port)
    assert (figures.far_packets_lost, figures.packets_invalid) == (None, 1)


async def test_reports_alone_keep_a_call_alive(engine: RtpEngine, events: Events) -> None:
    peer = await Peer.open()
    transport, _ = await _report_socket()
    port, number = engine.open_port("127.0.0.1")
    engine.connect(
        port,
        Connection(
            remote_ip="127.0.0.1",
            remote_port=peer.port,
            codec=Codec.PCMA,
            payload_type=8,
            media_timeout_ms=1000,
        ),
    )
    empty_report = struct.pack("!BBHI", 0x80, RECEIVER_REPORT, 1, 99)
    for count in range(1, 9):
        transport.sendto(empty_report, ("127.0.0.1", number + 1))
        await peer.wait(count * 10)  # 200 ms
    assert events.of(MediaTimedOut) == []
    await events.wait(MediaTimedOut, port=port)


@pytest.mark.parametrize("number", [45_010, 45_011])
async def test_a_port_is_left_out_when_either_of_its_numbers_is_taken(
    events: Events, number: int
) -> None:
    engine = RtpEngine(port_min=45_010, port_max=45_013, quarantine_ms=0, on_event=events.on_event)
    loop = asyncio.get_running_loop()
    taken, _ = await loop.create_datagram_endpoint(ReportSocket, local_addr=("127.0.0.1", number))
    assert engine.open_port("127.0.0.1")[1] == 45_012
    taken.close()
    await engine.aclose()
