"""INVITE and non-INVITE client transactions (RFC 3261 17.1, RFC 6026 7.2)."""

from __future__ import annotations

from collections.abc import Iterable

from cti.sip.messages.headers import Headers
from cti.sip.messages.message import Request, Response
from cti.sip.transactions.timers import Timer, Timers
from cti.sip.transactions.transaction import (
    NOTHING,
    Deliver,
    Key,
    Outputs,
    Send,
    SetTimer,
    Signal,
    State,
    Transaction,
    client_key,
)
from domain.failures import Code


class InviteClient(Transaction):
    """INVITE client transaction: Calling, Proceeding, Completed, Accepted, Terminated."""

    __slots__ = ("_cancel_wanted", "_request", "_sent")

    def __init__(self, request: Request, *, reliable: bool, timers: Timers) -> None:
        key = client_key(request.top_via, "INVITE")
        super().__init__(key, State.CALLING, reliable=reliable, timers=timers)
        self._request: Request | None = request
        self._sent = request.to_bytes()
        self._cancel_wanted = False

    def start(self, now_s: float) -> Outputs:
        """Send the request (17.1.1.2)."""
        timeout = SetTimer(Timer.B, now_s + self.timers.timeout_s)
        if self.reliable:
            return Send(self._sent), timeout
        return Send(self._sent), SetTimer(Timer.A, now_s + self.interval_s), timeout

    def receive(self, response: Response, now_s: float) -> Outputs:
        """Take a response that matches."""
        if self.state is State.CALLING or self.state is State.PROCEEDING:
            return self._receive_first(response, now_s)
        if self.state is State.COMPLETED and response.status >= 300:
            return (Send(self._sent, retransmission=True),)  # the ACK again
        if self.state is State.ACCEPTED and 200 <= response.status < 300:
            return (Deliver(response),)  # RFC 6026 7.2: retransmitted or forked
        return NOTHING

    def _receive_first(self, response: Response, now_s: float) -> Outputs:
        if response.status < 200:
            self.state = State.PROCEEDING
            if self._cancel_wanted:
                self._cancel_wanted = False
                return (Deliver(response), *self._send_cancel(now_s))
            return (Deliver(response),)
        request, self._request = self._request, None
        if response.status < 300:
            self.state = State.ACCEPTED
            self._sent = b""
            return Deliver(response), SetTimer(Timer.M, now_s + self.timers.timeout_s)
        assert request is not None  # noqa: S101 - it is kept up to the first final response
        self._sent = acknowledge(request, response).to_bytes()
        if self.reliable:  # Timer D is zero
            self.state = State.TERMINATED
            return Send(self._sent), Deliver(response), Signal.TERMINATED
        self.state = State.COMPLETED
        linger = SetTimer(Timer.D, now_s + self.timers.timeout_s)
        return Send(self._sent), Deliver(response), linger

    def cancel(self, now_s: float) -> Outputs:
        """Give the call up: a CANCEL may not be sent before a provisional response (9.1)."""
        if self.state is State.PROCEEDING:
            return self._send_cancel(now_s)
        self._cancel_wanted = self.state is State.CALLING
        return NOTHING

    @property
    def is_cancelled(self) -> bool:
        """Whether a CANCEL waits for a provisional response."""
        return self._cancel_wanted

    def _send_cancel(self, now_s: float) -> Outputs:
        # 9.1: without a final response within 64*T1 the INVITE counts as cancelled.
        return Signal.SEND_CANCEL, SetTimer(Timer.CANCELLED, now_s + self.timers.timeout_s)

    def fire(self, timer: Timer, now_s: float) -> Outputs:
        """Take a timer."""
        if self.state is State.CALLING:
            if timer is Timer.A:
                self.interval_s *= 2
                again = SetTimer(Timer.A, now_s + self.interval_s)
                return Send(self._sent, retransmission=True), again
            if timer is Timer.B:
                return self._fail(Code.SIP_TIMEOUT)
        elif self.state is State.PROCEEDING:
            if timer is Timer.CANCELLED:
                return self._fail(Code.SIP_TIMEOUT)
        elif (self.state is State.COMPLETED and timer is Timer.D) or (
            self.state is State.ACCEPTED and timer is Timer.M
        ):
            return self._terminate()
        return NOTHING

    def transport_error(self) -> Outputs:
        """Take a failed send: of the INVITE, or of the ACK in Completed."""
        if self.state is State.ACCEPTED or self.state is State.TERMINATED:
            return NOTHING
        return self._fail(Code.SIP_TRANSPORT)


class NonInviteClient(Transaction):
    """Non-INVITE client transaction: Trying, Proceeding, Completed, Terminated."""

    __slots__ = ("_sent",)

    def __init__(self, request: Request, *, reliable: bool, timers: Timers) -> None:
        key: Key = client_key(request.top_via, request.method)
        super().__init__(key, State.TRYING, reliable=reliable, timers=timers)
        self._sent = request.to_bytes()

    def start(self, now_s: float) -> Outputs:
        """Send the request (17.1.2.2)."""
        timeout = SetTimer(Timer.F, now_s + self.timers.timeout_s)
        if self.reliable:
            return Send(self._sent), timeout
        return Send(self._sent), SetTimer(Timer.E, now_s + self.interval_s), timeout

    def receive(self, response: Response, now_s: float) -> Outputs:
        """Take a response that matches."""
        if self.state is not State.TRYING and self.state is not State.PROCEEDING:
            return NOTHING
        if response.status < 200:
            self.state = State.PROCEEDING
            return (Deliver(response),)
        self._sent = b""
        if self.reliable:  # Timer K is zero
            self.state = State.TERMINATED
            return Deliver(response), Signal.TERMINATED
        self.state = State.COMPLETED
        return Deliver(response), SetTimer(Timer.K, now_s + self.timers.t4_s)

    def fire(self, timer: Timer, now_s: float) -> Outputs:
        """Take a timer."""
        if self.state is State.COMPLETED:
            return self._terminate() if timer is Timer.K else NOTHING
        if self.state is State.TERMINATED:
            return NOTHING
        if timer is Timer.F:
            return self._fail(Code.SIP_TIMEOUT)
        if timer is not Timer.E:
            return NOTHING
        if self.state is State.PROCEEDING:
            self.interval_s = self.timers.t2_s
        else:
            self.interval_s = min(2 * self.interval_s, self.timers.t2_s)
        again = SetTimer(Timer.E, now_s + self.interval_s)
        return Send(self._sent, retransmission=True), again

    def transport_error(self) -> Outputs:
        """Take a failed send of the request."""
        if self.state is State.TRYING or self.state is State.PROCEEDING:
            return self._fail(Code.SIP_TRANSPORT)
        return NOTHING


ClientMachine = InviteClient | NonInviteClient


def client_machine(request: Request, *, reliable: bool, timers: Timers) -> ClientMachine:
    """Return the machine a request needs; its top Via must be in place."""
    if request.method == "INVITE":
        return InviteClient(request, reliable=reliable, timers=timers)
    return NonInviteClient(request, reliable=reliable, timers=timers)


def acknowledge(request: Request, response: Response) -> Request:
    """Build the ACK for a final response other than 2xx (17.1.1.3)."""
    ack = _follow_up(request, "ACK")
    ack.headers.copy_from(response.headers, "To")
    return ack


def cancel(request: Request, headers: Iterable[tuple[str, str]] = ()) -> Request:
    """Build the CANCEL of an INVITE that was sent (9.1)."""
    cancelling = _follow_up(request, "CANCEL")
    cancelling.headers.copy_from(request.headers, "To")
    for name, value in headers:
        cancelling.headers.add(name, value)
    return cancelling


def _follow_up(request: Request, method: str) -> Request:
    headers = Headers([("Via", request.headers.get("Via") or ""), ("Max-Forwards", "70")])
    headers.copy_from(request.headers, "Route", "From", "Call-ID")
    headers.set("CSeq", f"{request.cseq[0]} {method}")
    return Request(method, request.uri, headers)
