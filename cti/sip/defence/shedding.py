"""Refuses the new calls of an endpoint for which its shedder has no time."""

from __future__ import annotations

from collections.abc import Callable, Container

from cti.sip.defence.early_refusal import EarlyRefusals, RefusedKeys
from cti.sip.defence.guard import Shedder
from cti.sip.messages.message import Request
from cti.sip.transactions.transaction import Key
from cti.sip.transports.transport import Hop


class Shedding:
    """Asks the shedder once for each new call, and answers copies of a refused one alike."""

    def __init__(
        self,
        user_agent: str,
        *,
        known: Container[Key],
        send: Callable[[bytes, Hop], None],
        clock: Callable[[], float],
    ) -> None:
        """`known` are the transactions that were let in; `clock` gives monotonic seconds."""
        self.shedder: Shedder | None = None
        self._known = known
        self._send = send
        self._clock = clock
        self._early = EarlyRefusals(user_agent)
        self._refused = RefusedKeys()
        self._let_in_early: Key | None = None

    def retry_after(self, request: Request, key: Key, source: str, now_s: float) -> int | None:
        """Return when a new call may come back for which there is no time; None: it is let in."""
        shedder = self.shedder
        if shedder is None or request.method != "INVITE" or request.to.tag is not None:
            return None
        let_in_early, self._let_in_early = self._let_in_early, None
        if let_in_early == key:
            return None
        if key not in self._refused:
            if shedder.admits(now_s, has_priority=_has_priority(request, source, shedder)):
                return None
            self._refused.add(key, now_s)
        return shedder.retry_after_s()

    def take_early(self, data: bytes, source: Hop) -> bool:
        """Refuse a new call before it is parsed, where there is no time and its sender is known.

        Others go the long way, on which the guard counts what they send. False leaves the datagram
        to be parsed.
        """
        shedder = self.shedder
        if self._early.is_ack(data):
            return True
        if shedder is None or not shedder.is_shedding or not shedder.is_trusted(source.host):
            return False
        invite = self._early.read(data, source)
        if invite is None or invite.key in self._known:
            return False
        if invite.key not in self._refused:
            now_s = self._clock()
            if shedder.admits(now_s):
                self._let_in_early = invite.key
                return False
            self._refused.add(invite.key, now_s)
        refusal = self._early.refusal(invite, shedder.retry_after_s())
        self._send(refusal, Hop("udp", source.host, invite.port, source.connection))
        return True


def _has_priority(request: Request, source: str, shedder: Shedder) -> bool:
    # Who takes the place of another in a call (RFC 3891) ends more work than it brings, and the
    # call was let in; a Replaces of no call is refused before anything is done for it.
    headers = request.headers
    if shedder.is_trusted(source):
        return "Replaces" in headers or "Resource-Priority" in headers
    # An agent calls for somebody who has been let in, or back. The guard bounds each such address,
    # and the call is challenged: whoever only writes a phone's address gets no further.
    return "Replaces" in headers or shedder.is_phone(source)
