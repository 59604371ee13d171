"""A far end made of a plain UDP socket, and a collector of the engine's events."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from cti.media import Codec, Connection, MediaEvent, PortId
from cti.media_engine import RtpEngine

WAIT_S = 10.0
FRAME = 160
PAYLOAD_TYPES = {Codec.PCMU: 0, Codec.PCMA: 8, Codec.G722: 9, Codec.G729: 18, Codec.OPUS: 111}
PCMA_SILENCE = b"\xd5" * FRAME

E = TypeVar("E")


class Events:
    """Keeps the engine's events and lets a test wait for one."""

    def __init__(self) -> None:
        self.all: list[MediaEvent] = []
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def on_event(self, event: MediaEvent) -> None:
        self.all.append(event)
        for found, future in self._waiting:
            if not future.done() and found():
                future.set_result(None)

    def of(self, kind: type[E], **fields: object) -> list[E]:
        return [
            event
            for event in self.all
            if isinstance(event, kind)
            and all(getattr(event, name) == value for name, value in fields.items())
        ]

    async def wait(self, kind: type[E], count: int = 1, **fields: object) -> E:
        """Wait until `count` matching events have come; return the last of them."""

        def found() -> bool:
            return len(self.of(kind, **fields)) >= count

        if not found():
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((found, future))
            await asyncio.wait_for(future, WAIT_S)
        return self.of(kind, **fields)[count - 1]


@dataclass(frozen=True)
class Rtp:
    arrived_s: float
    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def rtp(payload_type: int, sequence: int, timestamp: int, payload: bytes, ssrc: int = 99) -> bytes:
    return struct.pack("!BBHII", 0x80, payload_type, sequence, timestamp, ssrc) + payload


class Peer(asyncio.DatagramProtocol):
    """Receives RTP and sends what it is given, paced on absolute deadlines."""

    def __init__(self) -> None:
        self.received: list[Rtp] = []
        self.transport: asyncio.DatagramTransport
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @classmethod
    async def open(cls, host: str = "127.0.0.1") -> Peer:
        loop = asyncio.get_running_loop()
        _, peer = await loop.create_datagram_endpoint(cls, local_addr=(host, 0))
        return peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    @property
    def port(self) -> int:
        number: int = self.transport.get_extra_info("sockname")[1]
        return number

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", data)
        assert first == 0x80
        now_s = asyncio.get_running_loop().time()
        marker, payload_type = bool(second & 0x80), second & 0x7F
        packet = Rtp(now_s, marker, payload_type, sequence, timestamp, ssrc, data[12:])
        self.received.append(packet)
        for count, future in self._waiting:
            if len(self.received) >= count and not future.done():
                future.set_result(None)

    async def wait(self, count: int) -> list[Rtp]:
        if len(self.received) < count:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((count, future))
            await asyncio.wait_for(future, WAIT_S)
        return self.received

    def send(self, data: bytes, port: int, host: str = "127.0.0.1") -> None:
        self.transport.sendto(data, (host, port))

    async def stream(self, port: int, datagrams: list[bytes], start_s: float | None = None) -> None:
        """Send one datagram every 20 ms."""
        loop = asyncio.get_running_loop()
        start_s = loop.time() if start_s is None else start_s
        done = loop.create_future()

        def step(index: int) -> None:
            self.send(datagrams[index], port)
            if index + 1 < len(datagrams):
                loop.call_at(start_s + (index + 1) * 0.02, step, index + 1)
            else:
                done.set_result(None)

        loop.call_at(start_s, step, 0)
        await asyncio.wait_for(done, WAIT_S + len(datagrams) * 0.02)


def connect(
    engine: RtpEngine,
    port: PortId,
    remote_port: int,
    *,
    codec: Codec = Codec.PCMA,
    remote_ip: str = "127.0.0.1",
    media_timeout_ms: int = 0,
    packet_time_ms: int = 20,
) -> None:
    engine.connect(
        port,
        Connection(
            remote_ip=remote_ip,
            remote_port=remote_port,
            codec=codec,
            payload_type=PAYLOAD_TYPES[codec],
            digit_payload_type=101,
            media_timeout_ms=media_timeout_ms,
            packet_time_ms=packet_time_ms,
        ),
    )


def bridge(engine: RtpEngine, one: PortId, other: PortId) -> None:
    """Let two ports hear each other."""
    engine.set_routes({one: [other], other: [one]})
