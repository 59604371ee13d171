"""Where requests inside a dialog go: by their next URI, or over the way that is known already."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cti.sip.location.server_location import is_host_name
from cti.sip.messages.uri import SipUri, parse_uri
from cti.sip.transports.transport import WEB_SOCKETS, Hop, default_port
from domain.failures import PlatformError

_PATIENCE_S = 3.0
_CONNECTED = frozenset({"tcp", "tls"})


@dataclass(frozen=True, slots=True)
class NamedHop:
    """A URI with a host name that is still to be looked up; `known` serves when that fails."""

    uri: SipUri
    known: Hop


def resolve(uri: SipUri | str, known: Hop) -> Hop | NamedHop:
    """Return where a URI leads, given the hop that the dialog's messages come from or went to."""
    if isinstance(uri, str):
        uri = parse_uri(uri)
    if not isinstance(uri, SipUri):
        return known
    transport = (uri.params.get("transport") or "").lower()
    if transport in WEB_SOCKETS:
        return known  # by its connection or not at all (RFC 7118 5)
    if _is_address(uri.host):
        return _at_address(uri, transport, known)
    return NamedHop(uri, known) if _is_worth_asking(uri.host.lower(), known) else known


def _is_worth_asking(name: str, known: Hop) -> bool:
    """Whether DNS may know better than we do; `.invalid` never exists (RFC 2606 2)."""
    return name != known.name.lower() and is_host_name(name) and not name.endswith(".invalid")


def _at_address(uri: SipUri, transport: str, known: Hop) -> Hop:
    """Return the hop at an address.

    A peer there is reached over the connection that is there (RFC 5923), also when its Contact
    forgot to say `transport=tcp`; once that is gone, by a new one to the port of its Contact.
    """
    same_host = uri.host == known.host
    if uri.scheme == "sips":
        transport = "tls"  # RFC 3261 26.2.2
    transport = transport or (known.transport if same_host else "udp")
    port = uri.port or default_port(transport)
    if transport == "udp":
        return Hop("udp", uri.host, port, known.connection if known.transport == "udp" else 0)
    if same_host and transport == known.transport:
        is_named = transport == "tcp" or "transport" in uri.params or uri.scheme == "sips"
        return known._replace(port=port) if known.connection and is_named else known
    if transport == "tcp":
        return Hop("tcp", uri.host, port)
    return known  # over TLS elsewhere: hardly a certificate proves an address


class Locator(Protocol):
    """The part of `cti.sip.location.resolver.Resolver` that is needed here."""

    def locate(self, uri: SipUri) -> Awaitable[list[Hop]]:
        """Return the hops of a URI; PlatformError."""

    def cached(self, uri: SipUri) -> list[Hop] | None:
        """Return the hops as far as that needs no question; None where one has to be asked."""


class NameLookups:
    """Finds the hops of names, and gives the answer to whoever waits to send."""

    def __init__(self, locator: Locator) -> None:
        self._locator = locator
        self._tasks: set[asyncio.Task[Hop]] = set()

    def find(self, named: NamedHop, then: Callable[[Hop], None]) -> None:
        """Call `then` with the hop: at once when it is known, else when DNS has answered."""
        hops = self._locator.cached(named.uri)
        if hops is not None:
            then(_chosen(hops, named.known))
            return
        task = asyncio.get_running_loop().create_task(self._ask(named))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._answered(done, named, then))

    async def _ask(self, named: NamedHop) -> Hop:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return _chosen(await self._locator.locate(named.uri), named.known)
        except (PlatformError, TimeoutError):
            return named.known  # the resolver has told of it; what worked until now may do again

    def _answered(
        self, task: asyncio.Task[Hop], named: NamedHop, then: Callable[[Hop], None]
    ) -> None:
        self._tasks.discard(task)
        then(named.known if task.cancelled() else task.result())

    async def aclose(self) -> None:
        """Wait for no answer any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _chosen(hops: Sequence[Hop], known: Hop) -> Hop:
    """Prefer the server that has served the dialog until now to others of the same name."""
    for hop in hops:
        if (hop.transport, hop.host) != (known.transport, known.host):
            continue
        if hop.port == known.port or (hop.transport in _CONNECTED and not known.connection):
            return known
        if hop.transport in _CONNECTED:  # by the connection while it stands
            return hop._replace(connection=known.connection)
    if not hops:
        return known
    first = hops[0]
    if first.transport == known.transport == "udp":
        return first._replace(connection=known.connection)
    return first


def _is_address(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except (OSError, ValueError):
        return False
    return True
