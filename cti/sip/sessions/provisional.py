"""Provisional responses that arrive: RSeq, RAck and PRACK (RFC 3262)."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable

from cti.sip.endpoint import ServerTransaction
from cti.sip.messages.message import Request, Response
from cti.sip.sessions.offer_answer import InviteUsage
from cti.sip.sessions.session_policy import lists
from cti.sip.transactions.timers import Timers

EXTENSION = "100rel"
_MAX_RSEQ = 2**31 - 1
_MAX_WAITING = 16


class ReliableProvisionals:
    """Sends reliable provisional responses of one INVITE, each once the one before it has arrived.

    A response is repeated at T1, 2*T1, 4*T1, … until its PRACK comes or 64*T1 have passed (3).
    """

    __slots__ = ("_deadline_s", "_interval_s", "_on_missing", "_rseq", "_server", "_stopped",
                 "_timer", "_timers", "_waiting")  # fmt: skip

    def __init__(
        self, server: ServerTransaction, timers: Timers, on_missing: Callable[[], None]
    ) -> None:
        self._server = server
        self._timers = timers
        self._on_missing = on_missing
        # 3: the first is chosen at random, small enough never to wrap.
        self._rseq = secrets.randbelow(1 << 30)
        self._waiting: deque[Response] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._interval_s = 0.0
        self._deadline_s = 0.0

    @property
    def describe_session(self) -> bool:
        """Whether one that has not arrived yet carries a description: no 2xx may go out (3)."""
        return any(each.body for each in self._waiting)

    def send(self, response: Response) -> None:
        """Send a response, after those before it; one too many is left out."""
        if self._stopped or len(self._waiting) >= _MAX_WAITING:
            return
        self._rseq += 1
        response.headers.add("Require", EXTENSION)
        response.headers.set("RSeq", str(self._rseq))
        self._waiting.append(response)
        if len(self._waiting) == 1:
            self._send_first()

    def acknowledge(self, prack: Request) -> Response | None:
        """Take a PRACK; return the response it is for, None when there is no such one."""
        if not self._waiting:
            return None
        first = self._waiting[0]
        number, method = self._server.request.cseq
        if _rack_of(prack) != (first.headers.get("RSeq"), str(number), method):
            return None
        self._waiting.popleft()
        self._stop_timer()
        return first

    def proceed(self) -> None:
        """Send what waited for the response that was acknowledged."""
        if self._waiting and not self._stopped and self._timer is None:
            self._send_first()

    def stop(self) -> None:
        """Repeat nothing more: the final response is out. PRACKs under way still find theirs."""
        self._stopped = True
        self._stop_timer()

    def _send_first(self) -> None:
        loop = asyncio.get_running_loop()
        self._server.respond(self._waiting[0])
        self._interval_s = self._timers.t1_s
        self._deadline_s = loop.time() + self._timers.timeout_s
        self._timer = loop.call_later(self._interval_s, self._repeat)

    def _repeat(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self._timer = None
        if now_s >= self._deadline_s:
            self._on_missing()
            return
        self._server.respond(self._waiting[0])
        self._interval_s *= 2
        at_s = min(now_s + self._interval_s, self._deadline_s)
        self._timer = loop.call_at(at_s, self._repeat)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def is_new(usage: InviteUsage, response: Response) -> bool | None:
    """Whether a provisional response is to be taken (4); None when it is not a reliable one.

    One that came before is not new, nor one that overtook others: it will be repeated.
    """
    text = response.headers.get("RSeq")
    if text is None or not lists(response, "Require", EXTENSION):
        return None
    rseq = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0
    if not 1 <= rseq <= _MAX_RSEQ or (usage.remote_rseq and rseq != usage.remote_rseq + 1):
        return False
    usage.remote_rseq = rseq
    return True


def rack(invite: Request, response: Response) -> tuple[str, str]:
    """Return the header by which a PRACK names the response it is for (7.2)."""
    number, method = invite.cseq
    return "RAck", f"{response.headers.get('RSeq')} {number} {method}"


def _rack_of(prack: Request) -> tuple[str, ...]:
    fields = (prack.headers.get("RAck") or "").split()
    # Leading zeros mean nothing in a number.
    return tuple(each.lstrip("0") if each.isdigit() else each for each in fields)
