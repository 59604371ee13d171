"""The Via of what is sent and of what comes in (RFC 3261 18.1.1 and 18.2.1, RFC 3581)."""

from __future__ import annotations

import os
from ipaddress import IPv6Address

from cti.sip.messages.message import Request, SipSyntaxError
from cti.sip.messages.uri import MAGIC_COOKIE, Via
from cti.sip.transports.transport import Hop, address_family, default_port

_QUOTED_BYTES = 1024


def new_branch() -> str:
    """Return a branch that is unique over space and time (RFC 3261 8.1.1.7)."""
    return MAGIC_COOKIE + os.urandom(10).hex()


def via_of(transport: str, host: str, port: int | None) -> Via:
    """Return the Via of a new request."""
    via = Via(transport.upper(), host, port, {"branch": new_branch()})
    if transport == "udp":
        via.params["rport"] = None  # RFC 3581 3
    return via


def stamp_via(request: Request, source: Hop) -> Hop:
    """Add received and rport to the top Via (RFC 3261 18.2.1, RFC 3581 4); return the way back.

    Over a connection the way back is that connection. Once it is gone, a new one goes to the port
    of the Via (RFC 3261 18.2.2), to a peer that proves to be the host of the Via.

    A datagram from another address than its Via names has come through NAT, which lets in only
    what goes back where it came from: it is answered as if it had asked for that (RFC 3581).

    `maddr` is not followed: it would let a peer send our responses to third parties.
    """
    via = top = request.top_via
    by_source = "rport" in via.params
    host = source.host.partition("%")[0]
    transport = source.transport
    if not by_source and via.host != host and not _is_same_ipv6(via.host, host):
        by_source = transport == "udp" and address_family(via.host) is not None
        via = via.with_params(received=host)
    if by_source:
        via = via.with_params(received=host, rport=str(source.port))
    if via is not top:
        request.replace_top_via(via)
    if transport == "udp" and by_source:
        return source
    port = via.port or default_port(transport)
    name = via.host if transport == "tls" else ""
    return Hop(transport, source.host, port, source.connection, name)


def quoted_request(datagram: bytes) -> tuple[Via, str] | None:
    """Return top Via and method of a request of ours of which only the start may be left."""
    lines = datagram[:_QUOTED_BYTES].split(b"\r\n", 2)
    if len(lines) < 3 or not lines[1].startswith(b"Via: ") or lines[0].startswith(b"SIP/"):
        return None
    try:
        method = lines[0].partition(b" ")[0].decode("ascii")
        return Via.parse(lines[1][len(b"Via: ") :].decode("ascii")), method
    except (SipSyntaxError, UnicodeDecodeError):
        return None


def _is_same_ipv6(one: str, other: str) -> bool:
    if ":" not in one or ":" not in other:
        return False
    try:
        return IPv6Address(one) == IPv6Address(other)
    except ValueError:
        return False
