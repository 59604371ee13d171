"""What client and server transactions share: states, outputs, keys (RFC 3261 17, RFC 6026).

A transaction is sans-IO: it takes messages, timers that fired, transport errors and the time, and
returns outputs for its owner to carry out in order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import NamedTuple

from cti.sip.messages.message import Request, Response
from cti.sip.messages.uri import MAGIC_COOKIE, Via
from cti.sip.transactions.timers import Timer, Timers
from domain.failures import Code


class State(Enum):
    """States of the four machines, as RFC 3261 and RFC 6026 name them."""

    CALLING = "Calling"
    TRYING = "Trying"
    PROCEEDING = "Proceeding"
    COMPLETED = "Completed"
    CONFIRMED = "Confirmed"
    ACCEPTED = "Accepted"
    TERMINATED = "Terminated"


class Send(NamedTuple):
    """Send these bytes to the peer."""

    data: bytes
    retransmission: bool = False


class Deliver(NamedTuple):
    """Pass this message to the transaction user (TU)."""

    message: Request | Response


class SetTimer(NamedTuple):
    """Call `fire` with this timer at this time."""

    timer: Timer
    at_s: float


class Failed(NamedTuple):
    """Inform the TU; nothing more will come of the transaction."""

    code: Code


class Signal(Enum):
    """Outputs without content."""

    SEND_CANCEL = "send a CANCEL for this INVITE"
    TERMINATED = "forget the transaction"


Output = Send | Deliver | SetTimer | Failed | Signal
Outputs = tuple[Output, ...]

TERMINATE: Outputs = (Signal.TERMINATED,)
NOTHING: Outputs = ()

Key = tuple[str, ...]


class Transaction(ABC):
    """What the four machines have in common."""

    __slots__ = ("interval_s", "key", "reliable", "state", "timers")

    def __init__(self, key: Key, state: State, *, reliable: bool, timers: Timers) -> None:
        self.key = key
        self.state = state
        self.reliable = reliable
        self.timers = timers
        self.interval_s = timers.t1_s

    @abstractmethod
    def fire(self, timer: Timer, now_s: float) -> Outputs:
        """Take a timer; one that means nothing in the present state is ignored."""

    @abstractmethod
    def transport_error(self) -> Outputs:
        """Take the news that the last bytes could not be sent."""

    def _terminate(self) -> Outputs:
        self.state = State.TERMINATED
        return TERMINATE

    def _fail(self, code: Code) -> Outputs:
        self.state = State.TERMINATED
        return Failed(code), Signal.TERMINATED


def client_key(via: Via, method: str) -> Key:
    """Return what a response must match (RFC 3261 17.1.3 and 18.1.2)."""
    return via.params.get("branch") or "", via.sent_by, method


def server_key(request: Request, method: str | None = None) -> Key:
    """Return what retransmissions and the ACK must match (RFC 3261 17.2.3).

    `method` asks for the key of another request with the same branch: of the INVITE for an ACK or
    CANCEL.
    """
    via = request.top_via
    method = method or request.method
    branch = via.params.get("branch") or ""
    if branch[:7].lower() == MAGIC_COOKIE.lower() and len(branch) > 7:
        return branch, via.sent_by, method
    # A client of RFC 2543, or one whose branch tells nothing (RFC 4475 3.2.1). The To tag is left
    # out: the ACK carries ours, the INVITE does not.
    number, _ = request.cseq
    tag = request.from_.tag or ""
    return "", via.sent_by, method, request.uri, tag, request.call_id, str(number)
