"""What a session tells its observer, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cti.sip.sessions.causes import q850_cause_in
from domain.failures import Code


class SessionState(StrEnum):
    """Where the call is."""

    CALLING = "calling"
    PROCEEDING = "proceeding"
    EARLY = "early"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """How a session ended; `status` is that of the response, 200 after a BYE."""

    by_peer: bool
    status: int
    code: Code
    reason: str = ""
    """The peer's own words: its Reason header or reason phrase. For people, not for branching."""
    retry_after_s: int = 0
    """When the peer wants to be asked again (Retry-After), 0 when it does not say."""
    targets: tuple[str, ...] = ()
    """Where a redirection points, the best first."""

    @property
    def q850_cause(self) -> int:
        """The peer's cause (ITU-T Q.850) as its Reason header tells it, 0 without one."""
        return q850_cause_in(self.reason)


class PendingAnswer:
    """The answer to a re-INVITE that has to be asked for elsewhere; settled once."""

    __slots__ = ("_answer", "_takers")

    def __init__(self) -> None:
        self._answer: bytes | Code | None = None
        self._takers: list[Callable[[bytes | Code], None]] = []

    def on_settled(self, taker: Callable[[bytes | Code], None]) -> None:
        """Give the answer to `taker` as soon as it is known."""
        if self._answer is None:
            self._takers.append(taker)
        else:
            taker(self._answer)

    @property
    def is_settled(self) -> bool:
        """Whether there is an answer, or a refusal."""
        return self._answer is not None

    def settle(self, answer: bytes | Code) -> None:
        """Answer, or refuse by a code; nothing the second time."""
        if self.is_settled:
            return
        self._answer = answer
        takers, self._takers = self._takers, []
        for taker in takers:
            taker(answer)


class SessionObserver(Protocol):
    """What a session tells; plain functions that return at once."""

    def on_progress(self, status: int, sdp: bytes) -> None:
        """The far end rings or sends early media (1xx above 100); of several forks the newest."""

    def on_early_answer(self, sdp: bytes) -> None:
        """The far end answered an offer of ours in a PRACK or to an UPDATE, not yet the call."""

    def on_answered(self, sdp: bytes) -> None:
        """The far end took our INVITE or re-INVITE; the ACK was sent.

        `sdp` answers our offer. It is empty when another exchange came after it, or when the offer
        was the far end's: what was agreed last counts.
        """

    def on_acknowledged(self, sdp: bytes) -> None:
        """The ACK of our 2xx came, with the answer where the 2xx carried our offer."""

    def defer_answer(self, sdp: bytes) -> PendingAnswer | None:
        """Take the offer of a re-INVITE whose answer has to wait; None: see `on_reoffer`."""

    def on_reoffer(self, sdp: bytes) -> bytes | Code:
        """Answer the far end's offer, or refuse it; an empty `sdp` asks for our offer.

        It comes in a re-INVITE or UPDATE, in a PRACK, or in a response to our INVITE without one.
        """

    def on_reoffer_refused(self, code: Code) -> None:
        """The far end refused our re-INVITE; the session goes on as it was."""

    def on_info(self, content_type: str, body: bytes) -> None:
        """An INFO came."""

    def on_talk(self) -> None:
        """The far end asks us to pick up (NOTIFY, event talk)."""

    def on_refer(self, referral: Referral) -> None:
        """The far end asks us to send it elsewhere (RFC 3515); accept or refuse it, once."""

    def on_ended(self, end: SessionEnd) -> None:
        """The session is over; comes once, and last."""


class SessionObserverBase:
    """Ignores everything and refuses changes; observers override what they need."""

    def on_progress(self, status: int, sdp: bytes) -> None:
        """Ignore."""

    def on_early_answer(self, sdp: bytes) -> None:
        """Ignore."""

    def on_answered(self, sdp: bytes) -> None:
        """Ignore."""

    def on_acknowledged(self, sdp: bytes) -> None:
        """Ignore."""

    def defer_answer(self, sdp: bytes) -> PendingAnswer | None:
        """Answer at once."""

    def on_reoffer(self, sdp: bytes) -> bytes | Code:  # noqa: ARG002 - for those who override
        """Refuse (488), the session stays as it is."""
        return Code.NO_COMMON_CODEC

    def on_reoffer_refused(self, code: Code) -> None:
        """Ignore."""

    def on_info(self, content_type: str, body: bytes) -> None:
        """Ignore."""

    def on_talk(self) -> None:
        """Ignore."""

    def on_refer(self, referral: Referral) -> None:
        """Refuse (403): not everybody may send calls elsewhere."""
        referral.refuse(Code.TRANSFER_FORBIDDEN)

    def on_ended(self, end: SessionEnd) -> None:
        """Ignore."""


NOBODY = SessionObserverBase()
"""Observes what nobody cares for any more."""


class Referral(Protocol):
    """A request of the far end to send it elsewhere, until it is accepted or refused."""

    target: str
    """The Refer-To URI, without its headers."""
    replaces: tuple[str, str, str] | None
    """Call-ID, to-tag and from-tag of the dialog to take over (RFC 3891), for an attended one."""
    referred_by: str
    """The Referred-By header as sent (RFC 3892), empty without one."""
    headers: tuple[tuple[str, str], ...]
    """Headers of the Refer-To for the new call: Subject and User-To-User at most."""

    def accept(self) -> None:
        """Answer 202 and tell that the transfer is tried (NOTIFY, sipfrag 100)."""

    def refuse(self, code: Code) -> None:
        """Answer by the catalogue's status; nothing follows."""

    def progress(self, status: int) -> None:
        """Tell a provisional status of the new call (NOTIFY)."""

    def finish(self, status: int) -> None:
        """Tell the final status of the new call (NOTIFY); ends the implicit subscription."""
