"""A proxy that all new requests go through (RFC 3261 8.1.2)."""

from __future__ import annotations

from collections.abc import Sequence

from cti.sip.messages.message import Request
from cti.sip.messages.uri import SipUri
from cti.sip.transports.transport import Hop

# Sending there is a transport error: nothing may pass the proxy by because its name is not known.
_NOWHERE = Hop("udp", "unresolved.invalid", 0)


class OutboundProxy:
    """Where it is now; whoever resolves its name tells its hops."""

    def __init__(self, uri: SipUri, hops: Sequence[Hop] = ()) -> None:
        self.uri = uri
        self._hops = list(hops)
        self._route = f"<{uri}>" if "lr" in uri.params else ""

    def take(self, request: Request, hop: Hop) -> Hop:
        """Return where a request goes instead of `hop`, and give it the Route it needs.

        Requests inside a dialog follow their route set; those to a peer that came to us, or that
        have a Route already, know their way.
        """
        if hop.connection or "Route" in request.headers or request.to.tag is not None:
            return hop
        if self._route:
            request.headers.set("Route", self._route)
        return self._hops[0] if self._hops else _NOWHERE

    def update(self, hops: Sequence[Hop]) -> None:
        """Take over where it is; what is known of failures stays while the hops stay."""
        if set(hops) != set(self._hops):
            self._hops = list(hops)

    def failed(self, hop: Hop) -> None:
        """Prefer the other hops from now on."""
        if len(self._hops) > 1 and hop == self._hops[0]:
            self._hops.append(self._hops.pop(0))
