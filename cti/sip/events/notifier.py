"""The notifier's side of one subscription: which NOTIFY is sent when (RFC 6665 4.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cti.sip.endpoint import SipEndpoint
from cti.sip.messages.message import Response
from cti.sip.sessions.dialog import Dialog
from domain.failures import Code

# RFC 5057 5.1: responses that end the usage or its whole dialog; others end only their request.
_ENDS_USAGE = frozenset({
    404, 405, 408, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 502, 604,
})  # fmt: skip


class Notifier:
    """Sends NOTIFYs one after the other; where states change faster, the newest wins.

    `state` gives the body for the number of NOTIFYs sent before, None when the resource is gone.
    `on_over` is called once, when nothing will be sent any more.
    """

    __slots__ = ("_content_type", "_dialog", "_endpoint", "_event", "_expires_at_s", "_expiry",
                 "_in_flight", "_interval_s", "_next_at_s", "_on_over", "_over", "_pause",
                 "_reason", "_sent", "_stale", "_state")  # fmt: skip

    def __init__(
        self,
        endpoint: SipEndpoint,
        dialog: Dialog,
        *,
        event: str,
        content_type: str,
        state: Callable[[int], bytes | None],
        on_over: Callable[[], None],
        interval_s: float = 0.0,
    ) -> None:
        self._endpoint = endpoint
        self._dialog = dialog
        self._event = event
        self._content_type = content_type
        self._state = state
        self._on_over = on_over
        self._interval_s = interval_s
        self._expires_at_s = 0.0
        self._next_at_s = 0.0
        self._expiry: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._stale = False  # the subscriber has yet to be told the state
        self._in_flight = False
        self._reason: str | None = None
        self._over = False
        self._sent = 0

    def activate(self, expires_s: float) -> None:
        """Start or refresh the subscription; the state follows at once (4.2.1.2)."""
        if self._over or self._reason is not None:
            return
        loop = asyncio.get_running_loop()
        self._expires_at_s = loop.time() + expires_s
        self._stop_timers()
        self._expiry = loop.call_at(self._expires_at_s, self.end, "timeout")
        self._next_at_s = 0.0
        self.changed()

    def changed(self) -> None:
        """Tell the state, as soon as the interval between NOTIFYs allows."""
        self._stale = True
        self._send_next()

    def end(self, reason: str) -> None:
        """Send the last NOTIFY, after the one under way; the first reason counts."""
        if self._reason is None:
            self._reason = reason
            self._send_next()

    def _send_next(self) -> None:
        if self._in_flight or self._over:
            return
        if self._reason is not None:
            self._finish()
            self._send(f"terminated;reason={self._reason}", self._state(self._sent))
        elif self._stale and self._pause is None:
            loop = asyncio.get_running_loop()
            if loop.time() < self._next_at_s:
                self._pause = loop.call_at(self._next_at_s, self._resume)
            else:
                self._send_state(loop.time())

    def _resume(self) -> None:
        self._pause = None
        self._next_at_s = 0.0
        self._send_next()

    def _send_state(self, now_s: float) -> None:
        body = self._state(self._sent)
        if body is None:
            self.end("noresource")
            return
        self._stale = False
        self._in_flight = True
        self._next_at_s = now_s + self._interval_s
        left_s = max(1, round(self._expires_at_s - now_s))
        self._send(f"active;expires={left_s}", body)

    def _send(self, subscription_state: str, body: bytes | None) -> None:
        self._sent += 1
        request = self._dialog.request(
            "NOTIFY",
            headers=[("Event", self._event), ("Subscription-State", subscription_state)],
            body=body or b"",
            content_type=self._content_type if body else None,
        )
        self._endpoint.send_request(
            request,
            self._dialog.next_hop(),
            on_response=self._on_response,
            on_failure=self._on_failure,
        )

    def _on_response(self, response: Response) -> None:
        if response.status < 200 or self._over:
            return
        self._in_flight = False
        if response.status in _ENDS_USAGE:
            self._finish()
        else:
            self._send_next()

    def _on_failure(self, _code: Code) -> None:
        if not self._over:
            self._finish()

    def _finish(self) -> None:
        self._over = True
        self._stop_timers()
        self._on_over()

    def _stop_timers(self) -> None:
        for timer in (self._expiry, self._pause):
            if timer is not None:
                timer.cancel()
        self._expiry = self._pause = None
