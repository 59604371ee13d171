"""A proxy that all new requests go through (RFC 3261 8.1.2)."""

from __future__ import annotations

from collections.abc import Sequence

from cti.sip.message import Request
from cti.sip.transport import Hop
from cti.sip.uri import SipUri


class OutboundProxy:
    """Where it is now; whoever resolves its name keeps `hops` up to date."""

    def __init__(self, uri: SipUri, hops: Sequence[Hop]) -> None:
        self.uri = uri
        self.hops = list(hops)
        self._route = f"<{uri}>" if "lr" in uri.params else ""

    def take(self, request: Request, hop: Hop) -> Hop:
        """Return where a request goes instead of `hop`, and give it the Route it needs.

        Requests inside a dialog follow their route set; those to a peer that came to us, or that
        have a Route already, know their way.
        """
        if (
            not self.hops
            or hop.connection
            or "Route" in request.headers
            or request.to.tag is not None
        ):
            return hop
        if self._route:
            request.headers.set("Route", self._route)
        return self.hops[0]

    def failed(self, hop: Hop) -> None:
        """Prefer the other hops from now on."""
        if len(self.hops) > 1 and hop == self.hops[0]:
            self.hops.append(self.hops.pop(0))
