"""The caller's own connection: the session that came in, and the port that it talks to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from cti.calls.digits import INFO_TYPE, info_body, info_digit, info_duration_ms
from cti.calls.farewell import end_session
from cti.media import MediaEvent, MediaTimedOut, PortClosed, SecureMediaFailed
from cti.rtp_port import RtpPort
from cti.sdp import Protection
from cti.sdp.passing import NOTHING_PASSED, Passing
from cti.sip.sessions.session import InviteSession, Referral, SessionEnd, SessionObserverBase
from cti.sip.sessions.session_events import NOBODY, PendingAnswer
from domain.failures import Code, PlatformError


class CallerOwner(Protocol):
    """The call, as its caller's line sees it."""

    def caller_answered(self) -> None:
        """The caller's ACK came."""

    def caller_changes(self, sdp: bytes) -> PendingAnswer | None:
        """The caller offers more than audio; None where there is nobody to carry it to."""

    def caller_changed(self) -> None:
        """The caller held, resumed, or moved its media."""

    def caller_key(self, key: str, duration_ms: int) -> None:
        """A key came by signalling."""

    def caller_media(self, event: MediaEvent) -> None:
        """What the port tells, but for its time-out."""

    def caller_referred(self, referral: Referral) -> None:
        """The caller wants the far end to go elsewhere."""

    def caller_left(self, code: Code, sip_status: int, *, by_caller: bool) -> None:
        """The session is over, other than by `end`."""


class _NoCall:
    """Stands for a call that is settled."""

    def caller_answered(self) -> None:
        """Ignore."""

    def caller_changes(self, sdp: bytes) -> PendingAnswer | None:
        """Carry it to nobody."""

    def caller_changed(self) -> None:
        """Ignore."""

    def caller_key(self, key: str, duration_ms: int) -> None:
        """Ignore."""

    def caller_media(self, event: MediaEvent) -> None:
        """Ignore."""

    def caller_referred(self, referral: Referral) -> None:
        """Refuse: nobody is there to be sent elsewhere."""
        referral.refuse(Code.NO_CALL)

    def caller_left(self, code: Code, sip_status: int, *, by_caller: bool) -> None:
        """Ignore."""


_NO_CALL = _NoCall()


class CallerLine(SessionObserverBase):
    """Observes the caller's session."""

    def __init__(
        self, owner: CallerOwner, session: InviteSession, port: RtpPort, local_sdp: bytes
    ) -> None:
        """Take over session and port; `local_sdp` answers the INVITE."""
        self.owner = owner
        self.port = port
        self.is_answered = False
        self._session = session
        self._local_sdp = local_sdp
        self._has_offer = bool(session.offer)
        self._rings = False
        self._is_heard = False
        self._is_over = False
        self._acknowledged: asyncio.Future[None] | None = None
        self._change: Callable[[bytes | Code], None] | None = None  # told how ours was taken
        session.observer = self
        port.listen(self._on_media)
        port.send_key = self._send_key

    def ring(self) -> None:
        """Send 180, once."""
        if not (self._rings or self._acknowledged or self._is_over):
            self._rings = True
            self._session.ring()

    @property
    def passable(self) -> Passing:
        """What its INVITE offers besides audio, as long as that is not answered."""
        is_open = self._acknowledged is None and not (self._is_heard or self._is_over)
        agreed = self.port.agreed
        is_plain = agreed is not None and agreed.protection is Protection.NONE
        return self.port.theirs if is_open and is_plain else NOTHING_PASSED

    def let_hear(self, other: RtpPort | None = None) -> bool:
        """Send 183 and open the way for early media; False for a caller who cannot take it yet.

        `other` is the port of whom it hears: the caller is answered with the same codec if it has
        offered that.
        """
        if self._acknowledged or self._is_over or not self._has_offer:
            return False
        if not self._is_heard:
            self._match(other)
            self._is_heard = self._rings = True
            self.port.connect()
            self._session.ring(self._local_sdp)
        return True

    async def answer(self, other: RtpPort | None = None) -> None:
        """Send 200 and wait for its ACK; PlatformError when the caller leaves instead."""
        if self._acknowledged is None:
            if not self._is_heard:
                self._match(other)
            self.port.connect()
            self._acknowledged = asyncio.get_running_loop().create_future()
            self._session.accept(self._local_sdp)
        await asyncio.shield(self._acknowledged)

    def _match(self, other: RtpPort | None) -> None:
        """Answer the INVITE with what the far end took, as long as nobody has seen an answer."""
        theirs = other.agreed if other is not None else None
        if other is None or theirs is None or not self._has_offer or self.port.agreed is None:
            return
        if self.passable.streams:
            self.port.passing = other.theirs
        elif self.port.agreed.codec is theirs.codec:
            return
        self.port.prefer(theirs.codec)
        with contextlib.suppress(PlatformError):  # else it stays as it was
            self._local_sdp = self.port.answer(self._session.offer)

    def take_over(self, session: InviteSession) -> None:
        """Let a phone take an answered caller's place; PlatformError for an offer of no use."""
        local_sdp = self.port.answer(session.offer) if session.offer else self.port.offer()
        former, self._session = self._session, session
        former.observer = NOBODY
        session.observer = self
        self._local_sdp = local_sdp
        session.accept(local_sdp)
        self.port.connect()
        former.end(Code.CALL_TRANSFERRED)
        self.owner.caller_changed()

    def end(self, code: Code, sip_status: int = 0) -> None:
        """Hang up or refuse, by `sip_status` where it is given, and close the port."""
        if sip_status >= 300 and self._acknowledged is None and not self._is_over:
            self._is_over = True
            self._session.reject(code, status=sip_status)
        self._is_over = True
        end_session(self._session, code)
        self.port.close()

    def release(self) -> None:
        """Know the call no more: it is settled."""
        self.owner = _NO_CALL

    @property
    def is_released(self) -> bool:
        """Whether its call is settled; the session may say its last words yet."""
        return self.owner is _NO_CALL

    def fail(self, error: PlatformError) -> None:
        """Wake who waits for the ACK."""
        if self._acknowledged is not None and not self._acknowledged.done():
            self._acknowledged.set_exception(error)
            self._acknowledged.exception()  # not an error when nobody waits any more

    # cti.calls.passage.Party

    @property
    def is_talking(self) -> bool:
        """See Party."""
        return self.is_answered and not self._is_over

    def reinvite(self, sdp: bytes, on_outcome: Callable[[bytes | Code], None]) -> None:
        """See Party."""
        if not self._is_over:
            self._change = on_outcome
            self._session.reinvite(sdp)

    # cti.sip.sessions.session.SessionObserver

    def on_answered(self, sdp: bytes) -> None:
        """The caller took a change of ours."""
        change, self._change = self._change, None
        if change is not None:
            change(sdp)

    def on_reoffer_refused(self, code: Code) -> None:
        """The caller refused a change of ours."""
        change, self._change = self._change, None
        if change is not None:
            change(code)

    def defer_answer(self, sdp: bytes) -> PendingAnswer | None:
        """The caller changes its media; more than audio is carried to the far end."""
        return self.owner.caller_changes(sdp) if self.is_talking else None

    def on_acknowledged(self, sdp: bytes) -> None:
        """The caller's ACK; with SDP it answers an offer of ours."""
        if self._is_over:
            return
        if sdp:
            try:
                self.port.take_answer(sdp)
                self.port.connect()
            except PlatformError as error:
                self._session.end(error.code)
                return
            self.owner.caller_changed()
        if not self.is_answered:
            self.is_answered = True
            self.owner.caller_answered()
            if self._acknowledged is not None and not self._acknowledged.done():
                self._acknowledged.set_result(None)

    def on_reoffer(self, sdp: bytes) -> bytes | Code:
        """The caller holds, resumes, or moves its media."""
        if not sdp:
            return self.port.offer()
        try:
            self._local_sdp = self.port.answer(sdp)
            if self._acknowledged is not None or self._is_heard:
                self.port.connect()
        except PlatformError as error:
            return error.code
        self.owner.caller_changed()
        return self._local_sdp

    def on_info(self, content_type: str, body: bytes) -> None:
        """A key sent by INFO counts like one sent by RTP."""
        key = info_digit(content_type, body)
        if key is not None:
            self.owner.caller_key(key, info_duration_ms(body))

    def on_refer(self, referral: Referral) -> None:
        """The caller wants the far end to go elsewhere."""
        self.owner.caller_referred(referral)

    def on_ended(self, end: SessionEnd) -> None:
        """The caller left, or the session failed."""
        if self._is_over:
            return
        self._is_over = True
        if not end.by_peer:
            self.owner.caller_left(end.code, end.status, by_caller=False)
        elif self.is_answered:
            self.owner.caller_left(Code.CALLER_HUNG_UP, 200, by_caller=True)
        else:
            self.owner.caller_left(Code.CALLER_ABANDONED, 487, by_caller=True)

    def _send_key(self, key: str, duration_ms: int) -> None:
        self._session.send("INFO", body=info_body(key, duration_ms), content_type=INFO_TYPE)

    def _on_media(self, event: MediaEvent) -> None:
        if isinstance(event, MediaTimedOut):
            self._session.end(Code.MEDIA_TIMEOUT)
            return
        if isinstance(event, SecureMediaFailed):
            self._session.end(Code.SECURE_MEDIA_FAILED)
            return
        if isinstance(event, PortClosed) and not self._is_over:
            # Nobody has asked for it: the media process is gone, and the port with it.
            self._session.end(Code.MEDIA_UNAVAILABLE)
        self.owner.caller_media(event)
