"""All sockets of an endpoint by transport (RFC 3261 18)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection
from typing import NamedTuple

from cti.sip.defence.guard import Guard
from cti.sip.metrics import TRANSPORT_ERRORS
from cti.sip.transports.pool import ConnectionPool, stream_socket
from cti.sip.transports.tls_files import Tls
from cti.sip.transports.transport import (
    SECURE,
    TRANSPORTS,
    ConnectionLimits,
    Hop,
    OnError,
    Receiver,
    TransportName,
    address_family,
)
from cti.sip.transports.udp import UdpSocket
from domain.failures import Code, PlatformError

_BACKLOG = 1024


class _Listener(NamedTuple):
    transport: str
    family: socket.AddressFamily
    address: tuple[str, int]


class Transports:
    """Sends and receives messages over all sockets."""

    def __init__(
        self,
        receiver: Receiver,
        limits: ConnectionLimits,
        *,
        tls: Tls | None = None,
        origins: Collection[str] = (),
    ) -> None:
        self._receiver = receiver
        self._pool = ConnectionPool(receiver, limits)
        self._pool.tls = tls
        self._pool.origins = frozenset(origins)
        self._early: Callable[[bytes, Hop], bool] | None = None
        self._on_wait: Callable[[float], None] | None = None
        self._last_id = 0
        self._udp: dict[int, UdpSocket] = {}
        self._servers: list[asyncio.Server] = []
        self._listeners: list[_Listener] = []
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def guard(self) -> Guard | None:
        """Who decides what is read."""
        return self._pool.guard

    @guard.setter
    def guard(self, guard: Guard | None) -> None:
        self._pool.guard = guard
        for udp in self._udp.values():
            udp.guard = guard

    def watch_datagrams(
        self, early: Callable[[bytes, Hop], bool], on_wait: Callable[[float], None]
    ) -> None:
        """Have datagrams shown before they are parsed, and told how long they have waited."""
        self._early, self._on_wait = early, on_wait
        for udp in self._udp.values():
            udp.early, udp.on_wait = early, on_wait

    def _new_id(self) -> int:
        """Return a number no socket or connection had before."""
        self._last_id += 1
        return self._last_id

    async def listen(self, transport: str, host: str, port: int) -> tuple[str, int]:
        """Bind a socket to an address; port 0 takes a free one."""
        family = address_family(host)
        if family is None or transport not in TRANSPORTS:
            names = ", ".join(TRANSPORTS)
            raise PlatformError(
                Code.CONFIG_INVALID,
                f"cannot listen on {transport} {host}: give {names} and an IP address",
            )
        if transport in SECURE and (self._pool.tls is None or self._pool.tls.server is None):
            raise PlatformError(
                Code.CONFIG_INVALID, f"cannot listen on {transport} {host}: give a certificate"
            )
        bound = _bound_socket(transport, family, host, port)
        address = (host, int(bound.getsockname()[1]))
        name: TransportName = transport
        if name == "udp":
            udp = UdpSocket(bound, self._new_id(), self._receiver)
            udp.guard = self.guard
            udp.early, udp.on_wait = self._early, self._on_wait
            self._udp[udp.connection] = udp
        else:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(
                lambda: self._pool.accept(name, self._new_id()), sock=bound, backlog=_BACKLOG
            )
            self._servers.append(server)
            self._start_sweep()
        self._listeners.append(_Listener(name, family, address))
        return address

    def local_address(self, transport: str, hop: Hop | None = None) -> tuple[str, int] | None:
        """Return the bound address from which a hop is reached; None when there is none."""
        family = None if hop is None else address_family(hop.host)
        if transport == "udp" and hop is not None and hop.connection in self._udp:
            udp = self._udp[hop.connection]
            if family in {None, udp.family}:
                return udp.address
        for listener in self._listeners:
            if listener.transport == transport and family in {None, listener.family}:
                return listener.address
        return None

    def _choose_udp(self, connection: int, family: socket.AddressFamily) -> UdpSocket | None:
        chosen = self._udp.get(connection)
        if chosen is not None and chosen.family is family:
            return chosen
        for udp in self._udp.values():
            if udp.family is family:
                return udp
        return None

    def send(self, data: bytes, hop: Hop, on_error: OnError) -> int:
        """Send to a hop; return the connection that is used, 0 for UDP.

        `on_error` is called later, never from within this call.
        """
        if hop.transport == "udp":
            family = address_family(hop.host)
            udp = None if family is None else self._choose_udp(hop.connection, family)
            if udp is None or not udp.send(data, hop.host, hop.port):
                self._report(hop, on_error)
            return 0
        connection = self._pool.find(hop)
        if connection is None:
            connection = self._pool.open(hop, self._new_id())
            if connection is None:
                self._report(hop, on_error)
                return 0
            self._start_sweep()
        connection.send(data, on_error)
        return connection.connection

    def stands(self, connection: int) -> bool:
        """Whether a connection can carry messages now."""
        return self._pool.stands(connection)

    def identities_of(self, connection: int) -> frozenset[str]:
        """Whom the certificate of a connection's peer proves it to be."""
        return self._pool.identities_of(connection)

    @staticmethod
    def _report(hop: Hop, on_error: OnError) -> None:
        TRANSPORT_ERRORS.labels(hop.transport).inc()
        asyncio.get_running_loop().call_soon(on_error)

    def _start_sweep(self) -> None:
        if self._sweep is None:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(self._pool.sweep_period_s, self._sweep_connections)

    def _sweep_connections(self) -> None:
        self._pool.sweep(asyncio.get_running_loop().time())
        self._sweep = None
        self._start_sweep()

    async def aclose(self) -> None:
        """Close all sockets, after what was written to them has gone."""
        if self._sweep is not None:
            self._sweep.cancel()
        for server in self._servers:
            server.close()
        await self._pool.aclose()
        for udp in self._udp.values():
            udp.close()
        self._udp.clear()
        self._listeners.clear()
        for server in self._servers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.wait_closed(), 1.0)
        self._servers.clear()


def _bound_socket(
    transport: str, family: socket.AddressFamily, host: str, port: int
) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_DGRAM) if transport == "udp" else stream_socket(host)
    try:
        if family is socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if transport != "udp":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise PlatformError(
            Code.CONFIG_INVALID, f"cannot listen on {transport} {host} port {port}: {error}"
        ) from error
    return bound
