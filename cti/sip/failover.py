"""One request tried at one server after the other (RFC 3263 4.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from cti.sip.endpoint import ClientTransaction, SipEndpoint
from cti.sip.message import Request, Response
from cti.sip.transport import Hop
from domain.failures import Code

_UNAVAILABLE = 503


class FailoverRequest:
    """A request on its way to the first of several hops that serves it.

    The next hop gets it in a transaction of its own after a transport error, no answer in time, or
    a 503; never once a peer has sent a provisional response other than 100, for then it has begun
    to serve it.
    """

    def __init__(
        self,
        endpoint: SipEndpoint,
        request: Request,
        hops: Sequence[Hop],
        *,
        on_response: Callable[[Response], None],
        on_failure: Callable[[Code], None],
        answer_within_s: float | None = None,
    ) -> None:
        """Send at once; `request` has no Via yet.

        `answer_within_s` is how long a hop may say nothing at all before the next is tried; without
        it the timers of the transaction decide, 32 s over UDP. It is not for an INVITE, whose late
        2xx would have to be acknowledged and ended.
        """
        if not hops:
            raise ValueError("no hop to send to")
        self._endpoint = endpoint
        self._request = request
        self._hops = list(hops)
        self._on_response = on_response
        self._on_failure = on_failure
        self._answer_within_s = answer_within_s
        self._patience: asyncio.TimerHandle | None = None
        self._attempt = 0
        self._is_served = False
        self._is_cancelled = False
        self._send()

    @property
    def hop(self) -> Hop:
        """Where the request went last."""
        return self._transaction.hop

    @property
    def request(self) -> Request:
        """The request as it was sent last."""
        return self._transaction.request

    def cancel(self, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Give an INVITE up, see ClientTransaction; no further hop is tried."""
        self._is_cancelled = True
        self._transaction.cancel(headers)

    def _send(self) -> None:
        self._attempt += 1
        attempt = self._attempt
        hop = self._hops.pop(0)
        self._is_served = False

        def on_response(response: Response) -> None:
            if attempt == self._attempt:
                self._take_response(response)

        def on_failure(code: Code) -> None:
            if attempt == self._attempt:
                self._take_failure(code)

        self._transaction: ClientTransaction = self._endpoint.send_request(
            self._request.copy(), hop, on_response=on_response, on_failure=on_failure
        )
        if self._answer_within_s is not None:
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(self._answer_within_s, self._give_up, attempt)

    def _give_up(self, attempt: int) -> None:
        if attempt == self._attempt:
            self._take_failure(Code.SIP_TIMEOUT)

    def _heard(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _take_response(self, response: Response) -> None:
        self._heard()
        if response.status == _UNAVAILABLE and self._may_try_next():
            self._send()
            return
        self._is_served = self._is_served or response.status > 100
        self._on_response(response)

    def _take_failure(self, code: Code) -> None:
        self._heard()
        if self._may_try_next():
            self._send()
        else:
            self._attempt += 1  # what comes late is of no interest
            self._on_failure(code)

    def _may_try_next(self) -> bool:
        return bool(self._hops) and not self._is_served and not self._is_cancelled
