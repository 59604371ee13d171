"""INVITE and non-INVITE server transactions (RFC 3261 17.2, RFC 6026 7.1)."""

from __future__ import annotations

from cti.sip.messages.message import Request, Response, response_to
from cti.sip.transactions.timers import Timer, Timers
from cti.sip.transactions.transaction import (
    NOTHING,
    Deliver,
    Failed,
    Outputs,
    Send,
    SetTimer,
    Signal,
    State,
    Transaction,
    server_key,
)
from domain.failures import Code


class InviteServer(Transaction):
    """INVITE server transaction: Proceeding, Completed, Confirmed, Accepted, Terminated."""

    __slots__ = ("_request", "_sent")

    def __init__(self, request: Request, *, reliable: bool, timers: Timers) -> None:
        super().__init__(server_key(request), State.PROCEEDING, reliable=reliable, timers=timers)
        self._request: Request | None = request
        self._sent = b""

    def start(self, request: Request, now_s: float) -> Outputs:
        """Pass the request on; a TU that is silent for 200 ms has a 100 sent for it (17.2.1)."""
        return SetTimer(Timer.TRYING, now_s + self.timers.trying_s), Deliver(request)

    def receive(self, request: Request, now_s: float) -> Outputs:
        """Take the INVITE again, or its ACK."""
        if request.method == "ACK":
            return self._receive_ack(request, now_s)
        if self.state is State.PROCEEDING:
            return self._send_trying() or (Send(self._sent, retransmission=True),)
        if self.state is State.COMPLETED:
            return (Send(self._sent, retransmission=True),)
        return NOTHING  # RFC 6026 7.1: Accepted absorbs it; the TU repeats its 2xx by itself

    def _receive_ack(self, ack: Request, now_s: float) -> Outputs:
        if self.state is State.ACCEPTED:
            return (Deliver(ack),)  # the ACK of a 2xx from a client that kept the branch
        if self.state is not State.COMPLETED:
            return NOTHING
        self._sent = b""
        if self.reliable:  # Timer I is zero
            return self._terminate()
        self.state = State.CONFIRMED
        return (SetTimer(Timer.I, now_s + self.timers.t4_s),)

    def respond(self, response: Response, now_s: float) -> Outputs:
        """Take a response of the TU; what the state does not allow is dropped."""
        if self.state is State.ACCEPTED and 200 <= response.status < 300:
            return (Send(response.to_bytes(), retransmission=True),)
        if self.state is not State.PROCEEDING:
            return NOTHING
        self._request = None
        self._sent = response.to_bytes()
        if response.status < 200:
            return (Send(self._sent),)
        timeout_s = now_s + self.timers.timeout_s
        if response.status < 300:
            self.state = State.ACCEPTED
            sent, self._sent = self._sent, b""
            return Send(sent), SetTimer(Timer.L, timeout_s)
        self.state = State.COMPLETED
        wait_for_ack = SetTimer(Timer.H, timeout_s)
        if self.reliable:
            return Send(self._sent), wait_for_ack
        return Send(self._sent), SetTimer(Timer.G, now_s + self.interval_s), wait_for_ack

    def _send_trying(self) -> Outputs:
        request, self._request = self._request, None
        if request is None:
            return NOTHING
        self._sent = response_to(request, 100).to_bytes()
        return (Send(self._sent),)

    def fire(self, timer: Timer, now_s: float) -> Outputs:
        """Take a timer."""
        if self.state is State.PROCEEDING:
            return self._send_trying() if timer is Timer.TRYING else NOTHING
        if self.state is State.COMPLETED:
            if timer is Timer.G:
                self.interval_s = min(2 * self.interval_s, self.timers.t2_s)
                again = SetTimer(Timer.G, now_s + self.interval_s)
                return Send(self._sent, retransmission=True), again
            if timer is Timer.H:
                return self._fail(Code.ACK_MISSING)
        elif (self.state is State.CONFIRMED and timer is Timer.I) or (
            self.state is State.ACCEPTED and timer is Timer.L
        ):
            return self._terminate()
        return NOTHING

    def transport_error(self) -> Outputs:
        """Take a failed send of a response.

        After a final response the machine stays, to absorb retransmissions until its timers end it
        (RFC 6026 8.7).
        """
        if self.state is State.PROCEEDING:
            return self._fail(Code.SIP_TRANSPORT)
        if self.state is State.COMPLETED or self.state is State.ACCEPTED:
            return (Failed(Code.SIP_TRANSPORT),)
        return NOTHING


class NonInviteServer(Transaction):
    """Non-INVITE server transaction: Trying, Proceeding, Completed, Terminated."""

    __slots__ = ("_sent",)

    def __init__(self, request: Request, *, reliable: bool, timers: Timers) -> None:
        super().__init__(server_key(request), State.TRYING, reliable=reliable, timers=timers)
        self._sent = b""

    def start(self, request: Request, now_s: float) -> Outputs:
        """Pass the request on (17.2.2)."""
        # The client stops waiting after Timer F; no answer is of use then (RFC 4320 4.2).
        give_up = SetTimer(Timer.ABANDONED, now_s + self.timers.timeout_s)
        return give_up, Deliver(request)

    def receive(self, request: Request, now_s: float) -> Outputs:  # noqa: ARG002 - as InviteServer
        """Take the request again."""
        if self.state is State.TRYING or not self._sent:
            return NOTHING
        return (Send(self._sent, retransmission=True),)

    def respond(self, response: Response, now_s: float) -> Outputs:
        """Take a response of the TU; what comes after the final one is dropped."""
        if self.state is not State.TRYING and self.state is not State.PROCEEDING:
            return NOTHING
        self._sent = response.to_bytes()
        if response.status < 200:
            self.state = State.PROCEEDING
            return (Send(self._sent),)
        if self.reliable:  # Timer J is zero
            self.state = State.TERMINATED
            return Send(self._sent), Signal.TERMINATED
        self.state = State.COMPLETED
        return Send(self._sent), SetTimer(Timer.J, now_s + self.timers.timeout_s)

    def fire(self, timer: Timer, now_s: float) -> Outputs:  # noqa: ARG002 - as the other machines
        """Take a timer."""
        if self.state is State.COMPLETED:
            return self._terminate() if timer is Timer.J else NOTHING
        if timer is Timer.ABANDONED and self.state is not State.TERMINATED:
            return self._fail(Code.SIP_TIMEOUT)
        return NOTHING

    def transport_error(self) -> Outputs:
        """Take a failed send of a response."""
        if self.state is State.PROCEEDING or self.state is State.COMPLETED:
            return self._fail(Code.SIP_TRANSPORT)
        return NOTHING


ServerMachine = InviteServer | NonInviteServer


def server_machine(request: Request, *, reliable: bool, timers: Timers) -> ServerMachine:
    """Return the machine a new request needs."""
    if request.method == "INVITE":
        return InviteServer(request, reliable=reliable, timers=timers)
    return NonInviteServer(request, reliable=reliable, timers=timers)
