"""One connection, accepted or opened: a socket, TLS where it is wanted, and a framing."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from cti.sip.messages.message import SipSyntaxError
from cti.sip.transports.framing import KeepAlive
from cti.sip.transports.framings import Framing
from cti.sip.transports.pings import PingDue, Pings
from cti.sip.transports.tls import TlsError, TlsLayer
from cti.sip.transports.transport import ConnectionLimits, Hop, OnError, Receiver, TransportName

_MAX_UNSENT_BYTES = 1024 * 1024
_PING = b"\r\n\r\n"
_PONG = b"\r\n"


class Owner(Protocol):
    """Who keeps the connections."""

    receiver: Receiver
    limits: ConnectionLimits

    def admit(self, connection: Connection) -> bool:
        """Take in an accepted connection; False turns it away."""

    def is_banned(self, host: str) -> bool:
        """Whether nothing more is read of an address."""

    def watch(self, connection: Connection, *, owing: bool) -> None:
        """Take note that a peer owes bytes from now on, or no longer does."""

    def on_broken(self, connection: Connection) -> None:
        """Take note of a peer that sent what cannot be read."""

    def on_tls_error(self, connection: Connection, error: TlsError) -> None:
        """Take note of a peer that TLS could not trust or understand."""

    def forget(self, connection: Connection) -> None:
        """Drop a connection that is gone."""


class Connection(asyncio.Protocol):
    """Carries messages to and from one peer; all its deadlines are looked after by its owner."""

    def __init__(
        self,
        owner: Owner,
        transport: TransportName,
        connection: int,
        framing: Framing,
        tls: TlsLayer | None,
        peer: Hop | None = None,
    ) -> None:
        """`peer` is given for a connection that we open."""
        self.connection = connection
        self.hop = peer or Hop(transport, "", 0, connection)
        self.accepted = peer is None
        self.stood = False
        """Whether the connection stands or stood, its TLS included."""
        self.closed = asyncio.get_running_loop().create_future()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._socket: asyncio.Transport | None = None
        self._framing = framing
        self._tls = tls
        self._unsent: list[tuple[bytes, OnError]] = []
        self._unsent_bytes = 0
        self._heard_s = self._loop.time()
        self._owing_since_s: float | None = self._heard_s
        self._introduced = False  # by a message; keep-alives alone do not earn the longer timeout
        self._pings = None if self.accepted else Pings(owner.limits, self._heard_s)
        self._closing = False

    # The network's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, with TLS or with what has waited to be sent."""
        self._socket = cast("asyncio.Transport", transport)
        if self.accepted:
            peer = transport.get_extra_info("peername")
            self.hop = Hop(self.hop.transport, peer[0], peer[1], self.connection)
            if not self._owner.admit(self):
                self._socket.abort()
                return
        if self._tls is None:
            self._stand()
            return
        try:
            self._tls.start()
        except TlsError as error:
            self._fail(error)
        self._flush_tls()

    def data_received(self, data: bytes) -> None:
        """Take bytes, and pass on the messages they complete."""
        if self._owner.is_banned(self.hop.host):
            self.abort()
            return
        self._heard_s = self._loop.time()
        tls = self._tls
        if tls is not None:
            try:
                data = tls.receive(data)
            except TlsError as error:
                self._flush_tls()  # the alert that says why
                self._fail(error)
                return
            self._flush_tls()
            if tls.is_ready and not self.stood:
                self._stand()
        if data:
            self._take(data)
        if tls is not None and tls.has_ended:
            self.close()

    def _take(self, data: bytes) -> None:
        framing = self._framing
        receiver = self._owner.receiver
        if self._pings is not None:
            # Taken out here, since two pongs in a row would read like a ping.
            is_pong = framing.idle and data[:2] == _PONG and data[2:4] != _PONG
            if self._pings.heard(pong=is_pong):
                data = data[len(_PONG) :]
        frames = framing.feed(data)
        if output := framing.output():
            self._write(output)
        for frame in frames:
            if isinstance(frame, SipSyntaxError):
                receiver.on_malformed(frame, self.hop)
            elif isinstance(frame, KeepAlive):
                self._write(framing.wrap(_PONG))
            else:
                self._introduced = True
                receiver.on_message(frame, self.hop)
        if framing.broken or framing.ended:
            if framing.broken:
                self._owner.on_broken(self)
            self.close()
        elif self._introduced:
            self._note(idle=framing.idle, progress=bool(frames))

    def _note(self, *, idle: bool, progress: bool) -> None:
        """Note since when the rest of a message is owed."""
        if idle:
            if self._owing_since_s is not None:
                self._owing_since_s = None
                self._owner.watch(self, owing=False)
        elif self._owing_since_s is None:
            self._owing_since_s = self._heard_s
            self._owner.watch(self, owing=True)
        elif progress:
            self._owing_since_s = self._heard_s

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Leave the endpoint."""
        self._give_up_unsent()
        for future in (self.closed, self.ready):
            if not future.done():
                future.set_result(None)
        self._owner.forget(self)

    # Messages to the peer

    def send(self, data: bytes, on_error: OnError) -> None:
        """Send, or keep for the moment the connection stands."""
        if self.stood:
            if not self._write(self._framing.wrap(data)):
                self._loop.call_soon(on_error)
        elif self._unsent_bytes < _MAX_UNSENT_BYTES and not self._closing:
            self._unsent.append((data, on_error))
            self._unsent_bytes += len(data)
        else:
            self._loop.call_soon(on_error)

    def _stand(self) -> None:
        self.stood = True
        if not self.ready.done():
            self.ready.set_result(None)
        if not self.accepted:
            self._introduced = True
            self._note(idle=True, progress=False)
        for data, on_error in self._unsent:
            if not self._write(self._framing.wrap(data)):
                self._loop.call_soon(on_error)
        self._unsent.clear()

    def _write(self, data: bytes) -> bool:
        transport = self._socket
        if not data or transport is None or transport.is_closing():
            return False
        if transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            transport.abort()  # the peer does not read
            return False
        if self._tls is None:
            transport.write(data)
            return True
        try:
            self._tls.send(data)
        except TlsError:
            return False
        self._flush_tls()
        return True

    def _flush_tls(self) -> None:
        if self._tls is not None and self._socket is not None and (out := self._tls.output()):
            self._socket.write(out)

    # Deadlines

    def is_overdue(self, now_s: float) -> bool:
        """Whether the peer drips a message or handshake, or is silent for too long."""
        limits = self._owner.limits
        if self._closing:
            return now_s - self._heard_s > limits.pong_s
        since_s = self._owing_since_s
        if since_s is not None and self.accepted and now_s - since_s > limits.message_s:
            return True
        return now_s - self._heard_s > limits.idle_s

    @property
    def is_dripping(self) -> bool:
        """Whether a peer that connected to us owes the rest of a message or handshake."""
        return self.accepted and self._owing_since_s is not None and not self._closing

    def keep_alive(self, now_s: float) -> None:
        """Ping a peer we connected to when it is time, give up one that does not answer."""
        if self._pings is None or not self.stood:
            return
        due = self._pings.due(now_s)
        if due is PingDue.SEND:
            self._write(self._framing.wrap(_PING))
        elif due is PingDue.DEAD:
            self.abort()

    # The end

    @property
    def is_usable(self) -> bool:
        """Whether something can be sent, now or once connected."""
        return not self._closing and (self._socket is None or not self._socket.is_closing())

    @property
    def is_connected(self) -> bool:
        """Whether there is or was a socket."""
        return self._socket is not None

    @property
    def peer_identities(self) -> frozenset[str]:
        """Whom the peer's certificate proves it to be."""
        return frozenset() if self._tls is None else self._tls.peer_identities

    def _fail(self, error: TlsError) -> None:
        self._owner.on_tls_error(self, error)
        self.close()

    def _give_up_unsent(self) -> None:
        for _, on_error in self._unsent:
            self._loop.call_soon(on_error)
        self._unsent.clear()

    def close(self) -> None:
        """Close after what is written has gone."""
        if self._closing or self._socket is None:
            return
        if self.stood and (farewell := self._framing.end()):
            self._write(farewell)
        self._closing = True
        self._heard_s = self._loop.time()
        self._owner.watch(self, owing=True)  # of reading what is written
        if self._tls is not None:
            self._tls.end()
            self._flush_tls()
        self._socket.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        if self._socket is not None:
            self._socket.abort()
