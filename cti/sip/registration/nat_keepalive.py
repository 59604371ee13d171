"""Keeps the NAT in front of phones on UDP open, so that calls reach them between registrations."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

from cti.sip.endpoint import SipEndpoint, new_branch
from cti.sip.messages.message import Request
from cti.sip.messages.uri import NameAddr, SipUri, Via
from cti.sip.transports.transport import Hop
from domain.failures import PlatformError


class NatKeepAlive:
    """Asks each phone behind NAT for OPTIONS once an interval.

    An OPTIONS and not a bare CRLF: only what the phone sends is sure to renew a mapping (RFC 4787
    4.3), and any answer does. No transaction waits for it: the next one follows anyhow.
    """

    def __init__(
        self,
        endpoint: SipEndpoint,
        *,
        interval_s: int,
        branch: Callable[[], str] = new_branch,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._endpoint = endpoint
        self._branch = branch
        self._unix_clock = unix_clock
        # One slot a second; a phone keeps its slot, which spreads the phones over the interval.
        self._slots: list[dict[Hop, int]] = [{} for _ in range(max(1, interval_s))]
        self._at = 0
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, hop: Hop, until_unix_s: int) -> None:
        """Keep a binding open until it expires; told again, it moves on."""
        self._slots[hash(hop) % len(self._slots)][hop] = until_unix_s
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(1.0, self._turn)

    def close(self) -> None:
        """Send no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._slots = [{} for _ in self._slots]

    def tick(self) -> None:
        """Serve the next slot."""
        self._at = (self._at + 1) % len(self._slots)
        now_s = self._unix_clock()
        slot = self._slots[self._at]
        for hop, until_s in list(slot.items()):
            if until_s <= now_s:
                del slot[hop]
            else:
                self._ask(hop)

    def _turn(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(1.0, self._turn)
        self.tick()

    def _ask(self, hop: Hop) -> None:
        try:
            host, port = self._endpoint.local_address("udp", hop)
        except PlatformError:
            return
        via = Via("UDP", host, port, {"branch": self._branch(), "rport": None})
        us = NameAddr(SipUri(host=host, port=port))
        target = SipUri(host=hop.host, port=hop.port)
        request = Request(
            "OPTIONS",
            str(target),
            [
                ("Via", str(via)),
                ("Max-Forwards", "1"),
                ("From", str(us.with_tag("nat"))),
                ("To", f"<{target}>"),
                ("Call-ID", os.urandom(8).hex()),
                ("CSeq", "1 OPTIONS"),
            ],
        )
        self._endpoint.forward(request, hop)
