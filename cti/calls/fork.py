"""One branch of a call to somebody: an INVITE over the first of several ways that leads anywhere.

A phone's contact may be reached in several ways, an outside number over several trunks. The next
way is taken only while nothing was heard from the far end: whoever rings is not rung twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from cti.calls.farewell import end_session
from cti.shared.contacts import Way as ContactWay
from cti.sip.messages.uri import NameAddr
from cti.sip.sessions.session import InviteSession, Referral, SessionEnd, SessionObserverBase
from cti.sip.sessions.session_events import PendingAnswer
from cti.sip.transports.transport import Hop
from cti.sip.user_agent import UserAgent
from cti.trunks.outbound import OutboundTrunks, TrunkAttempt
from domain.failures import Code, PlatformError

_ANSWERED = 200
# What says that the way is wrong, not that the person is busy or away.
_WAY_IS_CLOSED = frozenset({408, 430, 503})
_NO_WAY = SessionEnd(by_peer=False, status=503, code=Code.SIP_TRANSPORT)
_ALL_TRUNKS_BUSY = SessionEnd(by_peer=False, status=503, code=Code.TRUNK_BUSY)


class Way(Protocol):
    """One INVITE that may be sent."""

    @property
    def trunk(self) -> str:
        """The trunk it goes over, empty for a phone."""

    @property
    def hop(self) -> Hop:
        """Where it begins."""

    @property
    def progress_within_s(self) -> float | None:
        """Nothing but 100 for so long: the way leads nowhere."""

    def invite(self, sdp: bytes, fork: Fork) -> InviteSession | None:
        """Send it; None where there is no room. ValueError for what cannot be written."""

    def answered(self) -> None:
        """The far end has answered."""

    def failed(self, end: SessionEnd, *, was_heard: bool) -> bool:
        """The far end did not answer; True when another way may do better.

        Who `was_heard` is not rung twice.
        """

    def release(self) -> None:
        """The INVITE or the call after it is over."""


class PhoneWay:
    """A way to a registered contact."""

    def __init__(
        self,
        user_agent: UserAgent,
        way: ContactWay,
        from_: NameAddr,
        to: NameAddr,
        headers: Iterable[tuple[str, str]],
        max_forwards: int,
    ) -> None:
        self._user_agent = user_agent
        self._way = way
        self._from = from_
        self._to = to
        self._headers = headers
        self._max_forwards = max_forwards
        self.trunk = ""
        self.hop = way.hop
        self.progress_within_s: float | None = None

    def invite(self, sdp: bytes, fork: Fork) -> InviteSession | None:
        """See Way."""
        return self._user_agent.invite(
            self._way.uri,
            from_=self._from,
            to=self._to,
            hop=self._way.hop,
            sdp=sdp,
            observer=fork,
            headers=self._headers,
            route=self._way.route,
            max_forwards=self._max_forwards,
        )

    def answered(self) -> None:
        """See Way."""

    def failed(self, end: SessionEnd, *, was_heard: bool) -> bool:
        """See Way."""
        return end.status in _WAY_IS_CLOSED and not was_heard

    def release(self) -> None:
        """See Way."""


class TrunkWay:
    """An attempt over a trunk; holds one of its channels from the INVITE to the end."""

    def __init__(
        self,
        user_agent: UserAgent,
        trunks: OutboundTrunks,
        attempt: TrunkAttempt,
        clock: Callable[[], float],
        max_forwards: int,
    ) -> None:
        self._user_agent = user_agent
        self._trunks = trunks
        self._clock = clock
        self._max_forwards = max_forwards
        self._holds_channel = False
        self._attempt = attempt
        self.trunk = attempt.trunk
        self.hop = attempt.hop
        self.progress_within_s: float | None = attempt.progress_within_s

    def invite(self, sdp: bytes, fork: Fork) -> InviteSession | None:
        """See Way."""
        attempt = self._attempt
        self._holds_channel = self._trunks.take(attempt, self._clock())
        if not self._holds_channel:
            return None
        try:
            return self._user_agent.invite(
                attempt.uri,
                from_=attempt.from_,
                to=attempt.to,
                hop=attempt.hop,
                sdp=sdp,
                observer=fork,
                headers=attempt.headers,
                credentials=attempt.credentials,
                route=attempt.route,
                max_forwards=self._max_forwards,
                answer_within_s=attempt.answer_within_s,
            )
        except ValueError:
            self.release()
            raise

    def answered(self) -> None:
        """See Way."""
        self._trunks.report(self._attempt, _ANSWERED, Code.FLOW_ENDED)

    def failed(self, end: SessionEnd, *, was_heard: bool) -> bool:
        """See Way."""
        return self._trunks.report(
            self._attempt,
            end.status,
            end.code,
            retry_after_s=end.retry_after_s,
            was_heard=was_heard,
        )

    def release(self) -> None:
        """See Way."""
        if self._holds_channel:
            self._holds_channel = False
            self._trunks.release(self._attempt)


class ForkOwner(Protocol):
    """The leg, as its forks see it."""

    def fork_offer(self, fork: Fork, way: Way) -> bytes:
        """Return the description for an INVITE over a way; PlatformError for none."""

    def fork_progressed(self, fork: Fork, sdp: bytes) -> None:
        """The far end rings, or is heard already."""

    def fork_answered(self, fork: Fork, sdp: bytes) -> None:
        """The far end took our INVITE or re-INVITE."""

    def fork_acknowledged(self, sdp: bytes) -> None:
        """The far end's ACK came."""

    def fork_changes(self, sdp: bytes) -> PendingAnswer | None:
        """The far end wants to change more than its audio; None leaves it to the next."""

    def fork_change_refused(self, code: Code) -> None:
        """The far end refused a change of ours."""

    def fork_reoffered(self, fork: Fork, sdp: bytes) -> bytes | Code:
        """The far end wants to change the media."""

    def fork_referred(self, referral: Referral) -> None:
        """The far end wants the call to go elsewhere."""

    def fork_info(self, fork: Fork, content_type: str, body: bytes) -> None:
        """The far end sent an INFO: a key, perhaps."""

    def fork_ended(self, fork: Fork, end: SessionEnd) -> None:
        """The branch is over, all its ways have failed or its call has ended."""


class Fork(SessionObserverBase):
    """A branch of a leg."""

    def __init__(self, owner: ForkOwner, ways: Iterable[Way] = ()) -> None:
        """A fork without ways takes over a session that came in."""
        self.owner = owner
        self.session: InviteSession | None = None
        self.ended: SessionEnd | None = None
        self.way: Way | None = None
        self._ways = iter(ways)
        self._was_heard = False
        self._was_answered = False
        self._gives_up = False
        self._silence: asyncio.TimerHandle | None = None

    @property
    def far_end(self) -> tuple[Fork, str]:
        """Whom it talks to: proxies on the way may fork once more, each fork has its tag."""
        return self, "" if self.session is None else self.session.remote_tag

    def ring(self, failure: SessionEnd | None = None) -> None:
        """Send the INVITE over the next way; without one `failure` is the end."""
        for way in self._ways:
            self.way = way
            try:
                session = way.invite(self.owner.fork_offer(self, way), self)
            except ValueError:  # a contact that no request can be sent to
                failure = failure or _NO_WAY
                continue
            except PlatformError as error:
                failure = failure or SessionEnd(by_peer=False, status=503, code=error.code)
                continue
            if session is not None:
                self.session = session
                self._watch(way)
                return
            failure = failure or _ALL_TRUNKS_BUSY
        self._end(failure or _NO_WAY)

    def take(self, session: InviteSession) -> None:
        """Stand for a session that came in, in the place of a fork of ours."""
        self.session = session
        self._was_heard = self._was_answered = True
        session.observer = self

    def end(self, code: Code) -> None:
        """Give up or hang up, by whatever the session's state needs."""
        self._gives_up = True
        if self.ended is None and self.session is not None:
            end_session(self.session, code)

    # cti.sip.sessions.session.SessionObserver

    def on_progress(self, status: int, sdp: bytes) -> None:  # noqa: ARG002 - all mean ringing
        """See SessionObserver."""
        self._hear()
        self.owner.fork_progressed(self, sdp)

    def on_answered(self, sdp: bytes) -> None:
        """See SessionObserver."""
        if not self._was_answered:
            self._was_answered = True
            self._hear()
            if self.way is not None:
                self.way.answered()
        self.owner.fork_answered(self, sdp)

    def on_acknowledged(self, sdp: bytes) -> None:
        """See SessionObserver."""
        self.owner.fork_acknowledged(sdp)

    def defer_answer(self, sdp: bytes) -> PendingAnswer | None:
        """See SessionObserver."""
        return self.owner.fork_changes(sdp)

    def on_reoffer_refused(self, code: Code) -> None:
        """See SessionObserver."""
        self.owner.fork_change_refused(code)

    def on_reoffer(self, sdp: bytes) -> bytes | Code:
        """See SessionObserver."""
        return self.owner.fork_reoffered(self, sdp)

    def on_info(self, content_type: str, body: bytes) -> None:
        """See SessionObserver."""
        self.owner.fork_info(self, content_type, body)

    def on_refer(self, referral: Referral) -> None:
        """See SessionObserver."""
        self.owner.fork_referred(referral)

    def on_ended(self, end: SessionEnd) -> None:
        """See SessionObserver."""
        self._stop_watching()
        way, again = self.way, False
        if way is not None:
            if not (self._was_answered or self._gives_up):
                again = way.failed(end, was_heard=self._was_heard)
            way.release()
        if again:
            self.ring(end)
        else:
            self._end(end)

    def _watch(self, way: Way) -> None:
        if way.progress_within_s is not None:
            loop = asyncio.get_running_loop()
            self._silence = loop.call_later(way.progress_within_s, self._on_silence)

    def _on_silence(self) -> None:
        """Take the next way: a 200 that comes yet is ended by the session."""
        if self.session is not None:
            self.session.end(Code.SIP_TIMEOUT)

    def _hear(self) -> None:
        self._was_heard = True
        self._stop_watching()

    def _stop_watching(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _end(self, end: SessionEnd) -> None:
        self.ended = end
        self.owner.fork_ended(self, end)
