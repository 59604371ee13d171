"""UDP and TCP sockets under the transactions (RFC 3261 18), over asyncio or uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, Protocol, cast, get_args

import structlog

from cti.sip.framing import KeepAlive, StreamFramer
from cti.sip.message import Request, Response, SipSyntaxError, parse_message
from cti.sip.metrics import TRANSPORT_ERRORS
from domain.failures import Code, PlatformError

if TYPE_CHECKING:
    from cti.sip.guard import Guard

log = structlog.get_logger(__name__)

TransportName = Literal["udp", "tcp", "tls", "ws", "wss"]
TRANSPORTS: tuple[TransportName, ...] = get_args(TransportName)

_RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
_MAX_UNSENT_BYTES = 1024 * 1024
_KEEP_ALIVE_BYTES = 8


@dataclass(frozen=True, slots=True)
class Hop:
    """Where to send to, or where something came from.

    `host` is an address without brackets. `connection` names a socket or TCP connection of this
    endpoint, 0 lets the transport choose; one that is gone is replaced by a new one to `host`.
    `name` is the host name that a TLS peer must prove to have; empty, it must prove the address.
    """

    transport: TransportName
    host: str
    port: int
    connection: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a TCP peer may take up."""

    max_connections: int = 4096
    message_s: float = 32.0
    """From the first byte of a message, or from the connection's start, to the message's end."""
    idle_s: float = 3600.0
    connect_s: float = 10.0


class Receiver(Protocol):
    """What the transports report to; `source` is the address the bytes came from."""

    def on_message(self, message: Request | Response, source: Hop) -> None:
        """Take a message."""

    def on_malformed(self, error: SipSyntaxError, source: Hop) -> None:
        """Take what could not be parsed."""

    def on_connection_lost(self, connection: int) -> None:
        """Take the news that a TCP connection is gone."""


OnError = Callable[[], None]


@lru_cache(maxsize=4096)
def _address_family(host: str) -> socket.AddressFamily | None:
    """Return the family of an address, None for a name: those are resolved before (RFC 3263)."""
    try:
        version = ip_address(host).version
    except ValueError:
        return None
    return socket.AF_INET if version == 4 else socket.AF_INET6


class UdpSocket(asyncio.DatagramProtocol):
    """One bound UDP socket."""

    def __init__(self, transports: Transports) -> None:
        self.connection = transports.new_connection_id()
        self.family = socket.AF_INET
        self.address = ("", 0)
        self._transports = transports
        self._transport: asyncio.DatagramTransport | None = None
        self._congested = False
        self._send_failed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Parse one datagram and pass it on."""
        # Keep-alives: line breaks, NULs, or STUN, whose first two bits are zero (RFC 5389 6).
        if len(data) <= _KEEP_ALIVE_BYTES or data[0] < 0x04:
            return
        guard = self._transports.guard
        if guard is not None and guard.is_banned(addr[0]):
            return
        source = Hop("udp", addr[0], addr[1], self.connection)
        receiver = self._transports.receiver
        try:
            message = parse_message(data)
        except SipSyntaxError as error:
            receiver.on_malformed(error, source)
        else:
            receiver.on_message(message, source)

    def send(self, data: bytes, host: str, port: int) -> bool:
        """Send now; False when the system refused at once."""
        transport = self._transport
        if transport is None or self._congested or transport.is_closing():
            return False
        self._send_failed = False
        transport.sendto(data, (host, port))
        return not self._send_failed

    def error_received(self, exc: Exception) -> None:  # noqa: ARG002 - the signature is asyncio's
        """Note an error; the loop reports those of a send before `sendto` returns."""
        self._send_failed = True

    def pause_writing(self) -> None:
        """Let datagrams go: waiting in a queue would only make them late."""
        self._congested = True

    def resume_writing(self) -> None:
        """Send again."""
        self._congested = False

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()


class TcpConnection(asyncio.Protocol):
    """One TCP connection, accepted or opened."""

    def __init__(self, transports: Transports, host: str = "", port: int = 0) -> None:
        self.connection = transports.new_connection_id()
        self.host = host
        self.port = port
        self.accepted = not host
        self.closed = asyncio.get_running_loop().create_future()
        self._transports = transports
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._framer = StreamFramer()
        self._unsent: list[tuple[bytes, OnError]] = []
        self._unsent_bytes = 0
        self._heard_s = self._loop.time()
        self._message_since_s: float | None = self._heard_s
        self._introduced = False  # by a message; keep-alives alone do not earn the longer timeout

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take part in the life of the endpoint, and send what has waited."""
        self._transport = cast("asyncio.Transport", transport)
        if self.accepted:
            peer = transport.get_extra_info("peername")
            self.host, self.port = peer[0], peer[1]
            if not self._transports.admit(self):
                self._transport.abort()
                return
        for data, _ in self._unsent:
            self._transport.write(data)
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        """Cut the stream into messages and pass them on."""
        self._heard_s = self._loop.time()
        receiver = self._transports.receiver
        source = self.hop
        frames = self._framer.feed(data)
        for frame in frames:
            if isinstance(frame, SipSyntaxError):
                receiver.on_malformed(frame, source)
            elif isinstance(frame, KeepAlive):
                self._write(b"\r\n")
            else:
                self._introduced = True
                receiver.on_message(frame, source)
        if self._framer.broken:
            self._transports.tell_broken(self)
            self.close()
        elif not self._introduced:
            return
        elif self._framer.idle:
            self._message_since_s = None
        elif frames or self._message_since_s is None:
            self._message_since_s = self._heard_s

    def send(self, data: bytes, on_error: OnError) -> None:
        """Send, or keep for the moment the connection stands."""
        if self._transport is not None:
            if not self._write(data):
                self._loop.call_soon(on_error)
        elif self._unsent_bytes < _MAX_UNSENT_BYTES:
            self._unsent.append((data, on_error))
            self._unsent_bytes += len(data)
        else:
            self._loop.call_soon(on_error)

    def _write(self, data: bytes) -> bool:
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            transport.abort()  # the peer does not read
            return False
        transport.write(data)
        return True

    def is_overdue(self, now_s: float, limits: ConnectionLimits) -> bool:
        """Tell whether the peer drips a message or is silent for too long."""
        since_s = self._message_since_s
        if since_s is not None and self.accepted and now_s - since_s > limits.message_s:
            return True
        return now_s - self._heard_s > limits.idle_s

    @property
    def is_dripping(self) -> bool:
        """Whether a peer that connected to us owes the rest of a message."""
        return self.accepted and self._message_since_s is not None

    @property
    def hop(self) -> Hop:
        """Its peer."""
        return Hop("tcp", self.host, self.port, self.connection)

    def connect_failed(self) -> None:
        """Tell all senders that there will be no connection."""
        for _, on_error in self._unsent:
            self._loop.call_soon(on_error)
        self._unsent.clear()
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Leave the endpoint."""
        if not self.closed.done():
            self.closed.set_result(None)
        self._transports.forget(self)

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands or stood."""
        return self._transport is not None

    @property
    def is_usable(self) -> bool:
        """Whether something can be sent, now or once connected."""
        return self._transport is None or not self._transport.is_closing()

    def close(self) -> None:
        """Close after what is written has gone."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


class Transports:
    """All sockets of an endpoint."""

    def __init__(self, receiver: Receiver, limits: ConnectionLimits) -> None:
        self.receiver = receiver
        self.guard: Guard | None = None
        self._limits = limits
        self._last_id = 0
        self._udp: dict[int, UdpSocket] = {}
        self._servers: list[asyncio.Server] = []
        self._connections: dict[int, TcpConnection] = {}
        self._opened: dict[tuple[str, int], TcpConnection] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._tcp_addresses: list[tuple[str, int]] = []

    def new_connection_id(self) -> int:
        """Return a number no socket or connection had before."""
        self._last_id += 1
        return self._last_id

    async def listen(self, transport: str, host: str, port: int) -> tuple[str, int]:
        """Bind a socket to an address; port 0 takes a free one."""
        family = _address_family(host)
        if family is None or transport not in {"udp", "tcp"}:
            raise PlatformError(
                Code.CONFIG_INVALID,
                f"cannot listen on {transport} {host}: give udp or tcp and an IP address",
            )
        bound = socket.socket(
            family, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        )
        try:
            if family is socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if transport == "tcp":
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            bound.setblocking(False)
            bound.bind((host, port))
        except OSError as error:
            bound.close()
            raise PlatformError(
                Code.CONFIG_INVALID, f"cannot listen on {transport} {host} port {port}: {error}"
            ) from error
        address = (host, int(bound.getsockname()[1]))
        loop = asyncio.get_running_loop()
        if transport == "tcp":
            server = await loop.create_server(lambda: TcpConnection(self), sock=bound, backlog=512)
            self._servers.append(server)
            self._tcp_addresses.append(address)
            self._start_sweep()
        else:
            udp = UdpSocket(self)
            udp.family = family
            udp.address = address
            await loop.create_datagram_endpoint(lambda: udp, sock=bound)
            self._udp[udp.connection] = udp
        return address

    def local_address(self, transport: str, hop: Hop | None = None) -> tuple[str, int] | None:
        """Return the bound address from which a hop is reached; None when there is none."""
        family = None if hop is None else _address_family(hop.host)
        if transport == "udp":
            udp = self._choose_udp(hop.connection if hop else 0, family)
            return None if udp is None else udp.address
        for address in self._tcp_addresses:
            if family is None or _address_family(address[0]) is family:
                return address
        return None

    def _choose_udp(self, connection: int, family: socket.AddressFamily | None) -> UdpSocket | None:
        chosen = self._udp.get(connection)
        if chosen is not None and family in {None, chosen.family}:
            return chosen
        for udp in self._udp.values():
            if family is None or udp.family is family:
                return udp
        return None

    def send(self, data: bytes, hop: Hop, on_error: OnError) -> int:
        """Send to a hop; return the TCP connection that is used, 0 for UDP.

        `on_error` is called later, never from within this call. Over UDP a request of any size is
        sent as it is: the change to TCP above 1300 bytes (RFC 3261 18.1.1) is not made here.
        """
        if hop.transport == "udp":
            family = _address_family(hop.host)
            udp = None if family is None else self._choose_udp(hop.connection, family)
            if udp is None or not udp.send(data, hop.host, hop.port):
                self._report(hop, on_error)
            return 0
        connection = self._connections.get(hop.connection)
        if connection is None or not connection.is_usable:
            connection = self._opened.get((hop.host, hop.port))
        if connection is None or not connection.is_usable:
            if _address_family(hop.host) is None or self._is_full():
                self._report(hop, on_error)
                return 0
            connection = self._open(hop)
        connection.send(data, on_error)
        return connection.connection

    @staticmethod
    def _report(hop: Hop, on_error: OnError) -> None:
        TRANSPORT_ERRORS.labels(hop.transport).inc()
        asyncio.get_running_loop().call_soon(on_error)

    def _is_full(self) -> bool:
        return len(self._connections) >= self._limits.max_connections

    def admit(self, connection: TcpConnection) -> bool:
        """Take in an accepted connection, unless there are too many."""
        if self._is_full():
            return False
        if self.guard is not None and self.guard.is_banned(connection.host):
            return False
        self._connections[connection.connection] = connection
        return True

    def tell_broken(self, connection: TcpConnection) -> None:
        """Tell the guard of a stream that cannot be read on."""
        if self.guard is not None:
            self.guard.on_broken_stream(connection.hop)

    def _open(self, hop: Hop) -> TcpConnection:
        connection = TcpConnection(self, hop.host, hop.port)
        self._connections[connection.connection] = connection
        self._opened[hop.host, hop.port] = connection
        task = asyncio.get_running_loop().create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        self._start_sweep()
        return connection

    async def _connect(self, connection: TcpConnection) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limits.connect_s):
                await loop.create_connection(lambda: connection, connection.host, connection.port)
        except OSError as error:  # TimeoutError is one
            log.debug("sip_connect_failed", host=connection.host, error=str(error))
            TRANSPORT_ERRORS.labels("tcp").inc()
            connection.connect_failed()

    def forget(self, connection: TcpConnection) -> None:
        """Drop a connection that is gone."""
        self._connections.pop(connection.connection, None)
        key = (connection.host, connection.port)
        if self._opened.get(key) is connection:
            del self._opened[key]
        self.receiver.on_connection_lost(connection.connection)

    def _start_sweep(self) -> None:
        if self._sweep is None:
            period_s = min(self._limits.message_s, self._limits.idle_s) / 4
            self._sweep = asyncio.get_running_loop().call_later(period_s, self._sweep_connections)

    def _sweep_connections(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for connection in list(self._connections.values()):
            if connection.is_overdue(now_s, self._limits):
                if connection.is_dripping:
                    self.tell_broken(connection)
                connection.abort()
        self._sweep = None
        self._start_sweep()

    async def aclose(self) -> None:
        """Close all sockets, after what was written to them has gone."""
        if self._sweep is not None:
            self._sweep.cancel()
        for server in self._servers:
            server.close()
        for task in list(self._connecting):
            task.cancel()
        connections = list(self._connections.values())
        for connection in connections:
            connection.close()
        closing = [connection.closed for connection in connections if connection.is_connected]
        if closing:
            await asyncio.wait(closing, timeout=1.0)
        for connection in connections:
            connection.abort()
        for udp in self._udp.values():
            udp.close()
        self._udp.clear()
        self._tcp_addresses.clear()
        for server in self._servers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.wait_closed(), 1.0)
        self._servers.clear()
