"""Where a request really came from: our own proxy in front of us says it in a header."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from cti.sip.messages.message import Request

SOURCE_HEADER = "X-Source-Address"
_MAX_KNOWN_HOSTS = 4096


class TrustedProxies:
    """Networks whose proxies tell the truth about the sender."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(networks)
        self._known: dict[str, bool] = {}

    def __contains__(self, host: str) -> bool:
        if not self._networks:
            return False
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= _MAX_KNOWN_HOSTS:
                self._known.clear()
            address = ip_address(host)
            known = any(address in network for network in self._networks)
            self._known[host] = known
        return known

    def source_of(self, request: Request, host: str) -> str:
        """Return the sender's address; the header of anybody else is taken away.

        A scope id says which of our interfaces a link-local sender was heard on (RFC 4007 11),
        nothing about the sender.
        """
        stated = request.headers.first_row(SOURCE_HEADER)
        if stated is not None:
            if host in self:
                try:
                    address = ip_address(stated.strip().strip("[]"))
                    return str(getattr(address, "ipv4_mapped", None) or address)
                except ValueError:
                    pass
            request.headers.remove(SOURCE_HEADER)
        return host.partition("%")[0]
