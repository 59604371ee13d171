"""What transports and their users share: hops, limits, and to whom transports report."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Literal, NamedTuple, Protocol, get_args

from cti.sip.messages.message import Request, Response, SipSyntaxError

TransportName = Literal["udp", "tcp", "tls", "ws", "wss"]
TRANSPORTS: tuple[TransportName, ...] = get_args(TransportName)
SECURE: frozenset[str] = frozenset({"tls", "wss"})
WEB_SOCKETS: frozenset[str] = frozenset({"ws", "wss"})

OnError = Callable[[], None]


class Hop(NamedTuple):
    """Where to send to, or where something came from.

    `host` is an address without brackets. `connection` names a socket or connection of this
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
    """What the peer of a connection may take up."""

    max_connections: int = 16_384
    max_of_a_host: int = 4096
    """Of these, so that one peer cannot take all; an office behind NAT is one peer."""
    message_s: float = 32.0
    """From the first byte of a message, or from the connection's start, to the message's end.

    What precedes the first message, the handshakes of TLS and WebSocket, counts.
    """
    idle_s: float = 3600.0
    connect_s: float = 5.0
    """For the whole way to a connection that can be used, the handshake of TLS included."""
    ping_s: float = 95.0
    """Pings go out between this and 1.26 times this: 120 s (RFC 5626 4.4.1)."""
    pong_s: float = 10.0


class Receiver(Protocol):
    """What the transports report to; `source` is the address the bytes came from."""

    def on_message(self, message: Request | Response, source: Hop) -> None:
        """Take a message."""

    def on_malformed(self, error: SipSyntaxError, source: Hop) -> None:
        """Take what could not be parsed."""

    def on_connection_lost(self, connection: int, *, stood: bool) -> None:
        """Take the news that a connection is gone, or never `stood`."""

    def on_unreachable(self, datagram: bytes) -> None:
        """Take the news that nobody listens where a datagram went; its end may be cut off."""


@lru_cache(maxsize=4096)
def address_family(host: str) -> socket.AddressFamily | None:
    """Return the family of an address, None for a name: those are resolved before (RFC 3263)."""
    try:
        version = ip_address(host).version
    except ValueError:
        return None
    return socket.AF_INET if version == 4 else socket.AF_INET6


def transport_params(transport: str) -> dict[str, str | None]:
    """Return the parameters by which a URI of ours names its transport.

    A URI says ws for wss too (RFC 7118 5.2.2): the connection tells, and the Via.
    """
    return {} if transport == "udp" else {"transport": "ws" if transport == "wss" else transport}


def default_port(transport: str) -> int:
    """Return the port of a URI or Via that names none (RFC 3261 19.1.2, RFC 7118 appendix)."""
    return {"tls": 5061, "ws": 80, "wss": 443}.get(transport, 5060)
