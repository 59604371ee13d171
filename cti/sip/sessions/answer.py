"""The 2xx to an INVITE that waits for its ACK (RFC 3261 13.3.1.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cti.sip.endpoint import ServerTransaction
from cti.sip.messages.message import Response
from cti.sip.transactions.timers import Timers


class UnacknowledgedAnswer:
    """Repeats a 2xx at T1, 2*T1, … up to T2 apart, until `stop` or for 64*T1.

    The transaction layer cannot do it: each hop of a 2xx may lose it, on any transport.
    """

    __slots__ = ("_deadline", "_interval_s", "_on_missing", "_response", "_timer", "_timers",
                 "_transaction", "cseq")  # fmt: skip

    def __init__(
        self,
        transaction: ServerTransaction,
        response: Response,
        timers: Timers,
        on_missing: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.cseq = transaction.request.cseq[0]
        self._transaction = transaction
        self._response = response
        self._timers = timers
        self._on_missing = on_missing
        self._interval_s = timers.t1_s
        self._deadline = loop.time() + timers.timeout_s
        self._timer = loop.call_later(self._interval_s, self._repeat)

    def stop(self) -> None:
        """The ACK came, or nobody waits for it any more."""
        self._timer.cancel()

    def _repeat(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._deadline:
            self._on_missing()
            return
        self._transaction.respond(self._response)
        self._interval_s = min(2 * self._interval_s, self._timers.t2_s)
        at = min(loop.time() + self._interval_s, self._deadline)
        self._timer = loop.call_at(at, self._repeat)
