"""Offers and answers of one dialog: who owes whom a description (RFC 3264, RFC 6337)."""

from __future__ import annotations

from enum import Enum

from cti.sip.messages.message import Request, Response
from cti.sip.sessions.dialog import Dialog
from cti.sip.sessions.session_policy import lists


class Exchange(Enum):
    """Where an exchange of offer and answer stands; at most one is open at a time."""

    STABLE = "no offer is open"
    OFFERED = "our offer waits for its answer"
    ASKED = "the far end's offer waits for ours"


class OfferAnswer:
    """The exchanges of one dialog, one after the other."""

    __slots__ = ("_offer", "local", "remote", "settled", "state")

    def __init__(self) -> None:
        self.state = Exchange.STABLE
        self.settled = False
        """Whether there was a complete exchange: the session has its media."""
        self.local = b""
        """Our description of the last complete exchange."""
        self.remote = b""
        """The far end's description of the last complete exchange."""
        self._offer = b""

    def send_offer(self, sdp: bytes) -> None:
        """Open an exchange."""
        self.state = Exchange.OFFERED
        self._offer = sdp

    def take_answer(self, sdp: bytes) -> None:
        """Complete an exchange of ours."""
        self._settle(self._offer, sdp)

    def take_offer(self, sdp: bytes) -> None:
        """Let the far end open an exchange."""
        self.state = Exchange.ASKED
        self._offer = sdp

    def send_answer(self, sdp: bytes) -> None:
        """Complete an exchange of the far end's."""
        self._settle(sdp, self._offer)

    def roll_back(self) -> None:
        """Forget the open offer: it was refused, all stays as agreed before."""
        self.state = Exchange.STABLE
        self._offer = b""

    def refusal(self) -> int:
        """Return the status that refuses a further offer of the far end's now; 0 to take it.

        RFC 3261 14.2 and RFC 3311 5.2: 491 while ours is open, 500 while we owe an answer.
        """
        if self.state is Exchange.STABLE:
            return 0
        return 491 if self.state is Exchange.OFFERED else 500

    def _settle(self, local: bytes, remote: bytes) -> None:
        self.state = Exchange.STABLE
        self.settled = True
        self.local = local
        self.remote = remote
        self._offer = b""


class InviteUsage:
    """The INVITE usage of one dialog (RFC 5057 4); a forked INVITE has several, early ones."""

    __slots__ = ("_acknowledged", "allows_update", "dialog", "exchange", "is_described",
                 "preview", "remote_rseq")  # fmt: skip

    def __init__(self, dialog: Dialog, message: Request | Response) -> None:
        self.dialog = dialog
        self.exchange = OfferAnswer()
        self.preview = b""
        """What an unreliable provisional response described: early media, no answer yet."""
        self.is_described = False
        """Whether the INVITE under way had its exchange in a reliable provisional response."""
        self.remote_rseq = 0
        """The last such response, 0 before the first."""
        self.allows_update = False
        """Whether the far end lists UPDATE; one that refuses it is not asked again."""
        self._acknowledged: tuple[int, bytes] = (0, b"")
        self.learn(message)

    def learn(self, message: Request | Response) -> None:
        """Take note of what the far end allows."""
        if not self.allows_update:
            self.allows_update = lists(message, "Allow", "update")

    def begin_invite(self) -> None:
        """Send a further INVITE: it has provisional responses of its own (RFC 3262 3)."""
        self.preview = b""
        self.is_described = False
        self.remote_rseq = 0

    def ack(self, invite: Request, sdp: bytes = b"") -> Request:
        """Build the ACK of a 2xx; a repeated 2xx gets the same again (RFC 3261 13.2.2.4)."""
        cseq = invite.cseq[0]
        if sdp:
            self._acknowledged = cseq, sdp
        elif self._acknowledged[0] == cseq:
            sdp = self._acknowledged[1]
        return self.dialog.ack(invite, sdp)
