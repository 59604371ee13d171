"""Requests too large for UDP (RFC 3261 18.1.1): they go by TCP to peers that take it. Sans-IO."""

from __future__ import annotations

from collections import OrderedDict

from cti.sip.transports.transport import Hop

MAX_UDP_REQUEST_BYTES = 1300
CONNECT_S = 1.0
"""How long a caller may wait for a peer that answers nothing on TCP."""
_REMEMBERED_S = 600.0
_MAX_REMEMBERED = 4096


class LargeRequests:
    """Which peers have no TCP at the address of their UDP, as far as was tried."""

    def __init__(self) -> None:
        self._refused_s: OrderedDict[tuple[str, int], float] = OrderedDict()

    def stream_hop(self, hop: Hop, now_s: float) -> Hop | None:
        """Return where a large request to a UDP hop goes instead; None: nowhere."""
        refused_s = self._refused_s.get((hop.host, hop.port))
        if refused_s is not None and now_s - refused_s < _REMEMBERED_S:
            return None
        return Hop("tcp", hop.host, hop.port)

    def refused(self, hop: Hop, now_s: float) -> None:
        """Take note that no connection could be made."""
        key = (hop.host, hop.port)
        self._refused_s[key] = now_s
        self._refused_s.move_to_end(key)
        if len(self._refused_s) > _MAX_REMEMBERED:
            self._refused_s.popitem(last=False)
