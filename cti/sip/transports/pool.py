"""All connections of an endpoint: which one to use, how many there may be, which are overdue."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter

import structlog

from cti.sip.defence.guard import Guard
from cti.sip.metrics import CONNECTIONS, REFUSED_CONNECTIONS, TRANSPORT_ERRORS
from cti.sip.seldom import Seldom
from cti.sip.transports.connection import Connection
from cti.sip.transports.framings import BareFraming
from cti.sip.transports.tls import TLS_FAULTS, TlsError, TlsFault, TlsLayer
from cti.sip.transports.tls_files import Tls
from cti.sip.transports.transport import (
    SECURE,
    WEB_SOCKETS,
    ConnectionLimits,
    Hop,
    Receiver,
    TransportName,
    address_family,
)
from cti.sip.transports.websocket import WebSocketFraming

log = structlog.get_logger(__name__)

# A peer that vanished is found out by TCP after about this, whether we send to it or not.
_UNACKNOWLEDGED_MS = 30_000
_SILENT_S, _PROBE_S, _PROBES = 120, 10, 3


class ConnectionPool:
    """Implements `Owner`."""

    def __init__(self, receiver: Receiver, limits: ConnectionLimits) -> None:
        self.receiver = receiver
        self.limits = limits
        self.guard: Guard | None = None
        self.tls: Tls | None = None
        self.origins: frozenset[str] = frozenset()
        self._connections: dict[int, Connection] = {}
        self._of_host: Counter[str] = Counter()
        self._opened: dict[tuple[str, str, int, str], Connection] = {}
        self._owing: dict[int, Connection] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._all_swept_s = 0.0
        self._seldom = Seldom()

    # Connections that come and that are opened

    def accept(self, transport: TransportName, connection: int) -> Connection:
        """Make what serves a connection that comes in."""
        layer = None
        if transport in SECURE and self.tls is not None and self.tls.server is not None:
            layer = TlsLayer(self.tls.server)
        framing = WebSocketFraming(self.origins) if transport in WEB_SOCKETS else BareFraming()
        return Connection(self, transport, connection, framing, layer)

    def admit(self, connection: Connection) -> bool:
        """Take in an accepted connection, unless there are too many."""
        host = connection.hop.host
        if (
            self._is_full
            or self._of_host[host] >= self.limits.max_of_a_host
            or self.is_banned(host)
        ):
            REFUSED_CONNECTIONS.inc()
            return False
        self._add(connection)
        self._owing[connection.connection] = connection
        return True

    def find(self, hop: Hop) -> Connection | None:
        """Return the connection to use for a hop, None where there is none."""
        connection = self._connections.get(hop.connection)
        if connection is None or not connection.is_usable:
            connection = self._opened.get((hop.transport, hop.host, hop.port, hop.name))
        return connection if connection is not None and connection.is_usable else None

    def open(self, hop: Hop, connection: int) -> Connection | None:
        """Connect to a hop; None where that is not to be."""
        if hop.transport in WEB_SOCKETS or address_family(hop.host) is None or self._is_full:
            return None  # a WebSocket client is not listening (RFC 7118 5)
        layer = None
        if hop.transport in SECURE:
            if self.tls is None:
                self.tls = Tls()
            layer = TlsLayer(self.tls.client, peer_name=hop.name or hop.host.partition("%")[0])
        peer = Hop(hop.transport, hop.host, hop.port, connection, hop.name)
        opened = Connection(self, hop.transport, connection, BareFraming(), layer, peer)
        self._add(opened)
        self._opened[hop.transport, hop.host, hop.port, hop.name] = opened
        task = asyncio.get_running_loop().create_task(self._connect(opened))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return opened

    async def _connect(self, connection: Connection) -> None:
        hop = connection.hop
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.limits.connect_s):
                bound = stream_socket(hop.host)
                try:
                    await loop.sock_connect(bound, (hop.host, hop.port))
                    await loop.create_connection(lambda: connection, sock=bound)
                except BaseException:
                    bound.close()
                    raise
                await connection.ready
        except OSError as error:  # TimeoutError is one
            self._log("sip_connect_failed", hop.host, transport=hop.transport, error=str(error))
        if not connection.stood:
            TRANSPORT_ERRORS.labels(hop.transport).inc()
            connection.abort()
            if not connection.is_connected:
                connection.connection_lost(None)

    def _add(self, connection: Connection) -> None:
        self._connections[connection.connection] = connection
        self._of_host[connection.hop.host] += 1
        CONNECTIONS.labels(connection.hop.transport).inc()

    @property
    def _is_full(self) -> bool:
        return len(self._connections) >= self.limits.max_connections

    def identities_of(self, connection: int) -> frozenset[str]:
        """Whom the certificate of a connection's peer proves it to be."""
        known = self._connections.get(connection)
        return frozenset() if known is None else known.peer_identities

    def stands(self, connection: int) -> bool:
        """Whether a connection can carry messages now."""
        known = self._connections.get(connection)
        return known is not None and known.stood

    # What connections tell

    def is_banned(self, host: str) -> bool:
        """See Owner."""
        return self.guard is not None and self.guard.is_banned(host)

    def watch(self, connection: Connection, *, owing: bool) -> None:
        """See Owner."""
        if not owing:
            self._owing.pop(connection.connection, None)
        elif connection.connection in self._connections:
            self._owing[connection.connection] = connection

    def on_broken(self, connection: Connection) -> None:
        """See Owner."""
        if self.guard is not None:
            self.guard.on_broken_stream(connection.hop)

    def on_tls_error(self, connection: Connection, error: TlsError) -> None:
        """Count the failure, and tell of it once a minute for each peer."""
        TLS_FAULTS[error.fault].inc()
        self._log(
            "sip_tls_failed",
            connection.hop.host,
            transport=connection.hop.transport,
            name=connection.hop.name,
            accepted=connection.accepted,
            reason=error.fault.value,
            detail=str(error),
        )
        # A certificate that one side does not believe is a mistake, not an attack.
        if connection.accepted and error.fault is TlsFault.PROTOCOL:
            self.on_broken(connection)

    def forget(self, connection: Connection) -> None:
        """See Owner."""
        number = connection.connection
        self._owing.pop(number, None)
        if self._connections.pop(number, None) is None:
            return
        hop = connection.hop
        CONNECTIONS.labels(hop.transport).dec()
        self._of_host[hop.host] -= 1
        if not self._of_host[hop.host]:
            del self._of_host[hop.host]
        key = (hop.transport, hop.host, hop.port, hop.name)
        if self._opened.get(key) is connection:
            del self._opened[key]
        self.receiver.on_connection_lost(number, stood=connection.stood)

    def _log(self, event: str, peer: str, **fields: object) -> None:
        """Log what may repeat with each message at most once a minute for each peer."""
        if self._seldom.may_tell(f"{event} {peer}", asyncio.get_running_loop().time()):
            log.warning(event, peer=peer, **fields)

    # Deadlines

    @property
    def sweep_period_s(self) -> float:
        """How often `sweep` is to be called."""
        return min(self.limits.message_s, self.limits.idle_s, self.limits.pong_s) / 4

    def sweep(self, now_s: float) -> None:
        """End what is overdue, and ping.

        Only those that owe bytes and those we opened are looked at each time: thousands of idle
        connections cost nothing but a look now and then.
        """
        candidates = list(self._owing.values())
        if now_s - self._all_swept_s >= self.limits.idle_s / 8:
            self._all_swept_s = now_s
            candidates = list(self._connections.values())
        for connection in candidates:
            if connection.is_overdue(now_s):
                if connection.is_dripping:
                    self.on_broken(connection)
                connection.abort()
        for connection in list(self._opened.values()):
            connection.keep_alive(now_s)

    async def aclose(self) -> None:
        """Close all, after what was written has gone."""
        for task in list(self._connecting):
            task.cancel()
        connections = list(self._connections.values())
        for connection in connections:
            connection.close()
        closing = [each.closed for each in connections if each.is_connected]
        if closing:
            await asyncio.wait(closing, timeout=1.0)
        for connection in connections:
            connection.abort()


def stream_socket(host: str) -> socket.socket:
    """Make a TCP socket that finds out when its peer has vanished; accepted ones inherit it."""
    family = address_family(host) or socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with contextlib.suppress(AttributeError, OSError):  # Linux has these
        for option, value in (
            (socket.TCP_KEEPIDLE, _SILENT_S),
            (socket.TCP_KEEPINTVL, _PROBE_S),
            (socket.TCP_KEEPCNT, _PROBES),
            (socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS),
        ):
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made
