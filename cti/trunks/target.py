"""Where a trunk's requests go: a server, and the proxies on the way to it (RFC 3261 8.1.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cti.sip.messages.uri import NameAddr, SipUri
from cti.trunks.trunk import Trunk


@dataclass(frozen=True, slots=True)
class Target:
    """A server's URI, and the Route that requests to it carry."""

    server: str
    route: tuple[str, ...] = ()

    def __str__(self) -> str:
        """By which its health is kept, and operators know it."""
        return " via ".join((self.server, *(each.strip("<>") for each in self.route)))

    @property
    def next_hop(self) -> SipUri:
        """The URI whose addresses requests are sent to."""
        return SipUri.parse(NameAddr.parse(self.route[0]).uri_text if self.route else self.server)


def targets_of(trunk: Trunk) -> list[Target]:
    """Return where a trunk's calls go.

    What a registrar wants calls to pass comes behind a proxy of our own choice (RFC 3608 5).
    """
    proxy = proxy_route(trunk.settings.outbound_proxy)
    servers = trunk.settings.server
    return [Target(server, (*proxy, *trunk.service_route(server))) for server in servers]


def proxy_route(proxy: str | None) -> tuple[str, ...]:
    """Write the Route for a configured proxy, as a loose router (RFC 3261 16.12)."""
    if proxy is None:
        return ()
    uri = SipUri.parse(proxy)
    return (f"<{replace(uri, params={**uri.params, 'lr': None})}>",)
