"""The INVITE that began an incoming call, until its final response (RFC 3261 13.3, RFC 3262)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cti.sip.endpoint import ServerTransaction
from cti.sip.messages.message import response_to
from cti.sip.messages.session_description import body_refusal, description_of
from cti.sip.sessions.causes import code_of_status, refusal_headers, refusal_status
from cti.sip.sessions.offer_answer import Exchange, InviteUsage
from cti.sip.sessions.provisional import EXTENSION, ReliableProvisionals
from cti.sip.sessions.session_events import SessionEnd, SessionState
from cti.sip.sessions.session_policy import Reliability, lists
from domain.failures import Code

if TYPE_CHECKING:
    from cti.sip.sessions.session import InviteSession

_PROGRESS_REPEAT_S = 60.0


class IncomingInvite:
    """Rings, accepts or refuses; open until one of the latter two, CANCEL or BYE."""

    __slots__ = ("_accepted", "_expiry", "_reliable", "_server", "_session", "_timer")

    def __init__(self, session: InviteSession, server: ServerTransaction) -> None:
        self._session = session
        self._server: ServerTransaction | None = server
        self._reliable: ReliableProvisionals | None = None
        self._accepted: bytes | None = None  # a 2xx that has to wait
        self._timer: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        expires = server.request.headers.first_row("Expires")
        if expires is not None:
            self._expire_after(expires.strip())
        server.on_cancel = self._on_cancel
        server.on_failure = self._on_failure

    @property
    def is_open(self) -> bool:
        """Whether the final response is still to come."""
        return self._server is not None

    @property
    def awaits_prack(self) -> bool:
        """Whether a reliable response with a description has not arrived yet."""
        return self._reliable is not None and self._reliable.describe_session

    # What we do

    def ring(self, sdp: bytes) -> None:
        """Send 180, or 183 when there is early media; repeated each minute (13.3.1.1)."""
        server, session = self._server, self._session
        if server is None or self._accepted is not None:
            return
        session.state = SessionState.EARLY
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(_PROGRESS_REPEAT_S, self.ring, sdp)
        exchange = session.usage.exchange
        required = lists(server.request, "Require", EXTENSION)
        if self._is_reliable(sdp, required=required):
            self._ring_reliably(server, sdp)
        elif required:
            # RFC 3262 5: without an offer in the INVITE the first reliable response must have
            # one. We have none yet, so the caller hears nothing but the 100.
            return
        elif exchange.state is Exchange.ASKED or not sdp:
            server.respond(session.response(server.request, 183 if sdp else 180, sdp))
        else:
            # 13.2.1: an offer of ours, or a change, may only go where it surely arrives.
            server.respond(session.response(server.request, 180))

    def _is_reliable(self, sdp: bytes, *, required: bool) -> bool:
        server, session = self._server, self._session
        exchange = session.usage.exchange
        if not sdp and not exchange.settled and exchange.state is Exchange.STABLE:
            return False
        if required:
            return True
        policy = session.policy.reliability
        wanted = policy is Reliability.ALWAYS or (policy is Reliability.EARLY_MEDIA and bool(sdp))
        return wanted and server is not None and lists(server.request, "Supported", EXTENSION)

    def _ring_reliably(self, server: ServerTransaction, sdp: bytes) -> None:
        session = self._session
        exchange = session.usage.exchange
        body = b""
        if sdp and exchange.state is Exchange.ASKED:
            exchange.send_answer(sdp)
            body = sdp
        elif sdp and not exchange.settled and exchange.state is Exchange.STABLE:
            exchange.send_offer(sdp)
            body = sdp
        if self._reliable is None:
            timers = session.host.endpoint.timers
            self._reliable = ReliableProvisionals(server, timers, self._on_prack_missing)
        self._reliable.send(session.response(server.request, 183 if sdp else 180, body))

    def accept(self, sdp: bytes) -> None:
        """Send 200, until its ACK comes; nothing when the caller has gone meanwhile."""
        if self._server is None:
            return
        self._accepted = sdp
        self.proceed()

    def proceed(self) -> None:
        """Send the 200 that `accept` asked for, once nothing holds it back.

        RFC 3262 3: a reliable response with a description has to arrive first; and an offer of
        ours needs its answer.
        """
        server, session, sdp = self._server, self._session, self._accepted
        if server is None or sdp is None or self.awaits_prack:
            return
        exchange = session.usage.exchange
        if exchange.state is Exchange.OFFERED:
            return
        self.stop()
        self._server = None
        session.state = SessionState.CONFIRMED
        session.usage.dialog.confirmed = True
        timer_headers = session.agree_timer(server.request)
        if exchange.settled:
            # RFC 6337 3.1: a reliable response has answered, and an UPDATE may have gone further.
            session.send_2xx(server, b"", timer_headers)
            return
        if exchange.state is Exchange.ASKED:
            exchange.send_answer(sdp)
        else:
            exchange.send_offer(sdp)
        session.send_2xx(server, sdp, timer_headers)

    def reject(
        self, code: Code | None, status: int | None, headers: Iterable[tuple[str, str]]
    ) -> None:
        """Refuse the call, by the catalogue's status unless one is given."""
        server = self._close()
        if server is None:
            return
        session = self._session
        if code is None:
            code = code_of_status(status or 603)
        lines = [*refusal_headers(code, session.offer), *headers]
        status = status or refusal_status(code)
        server.respond(response_to(server.request, status, to_tag=session.local_tag, headers=lines))
        session.finish(SessionEnd(by_peer=False, status=status, code=code), session.release)

    # What happens to it

    def _expire_after(self, seconds: str) -> None:
        """Give an INVITE up that its sender wants answered in time (13.3.1)."""
        if seconds.isascii() and seconds.isdigit() and len(seconds) <= 6:
            loop = asyncio.get_running_loop()
            self._expiry = loop.call_later(int(seconds), self.reject, Code.NO_ANSWER, 487, ())

    def terminate(self) -> None:
        """Answer 487, as CANCEL and a BYE in the early dialog want (9.2, 15.1.2)."""
        server = self._close() if self._server is not None else None
        if server is not None:
            server.respond(response_to(server.request, 487, to_tag=self._session.local_tag))

    def _on_cancel(self) -> None:
        if self._server is None:
            return
        self.terminate()
        end = SessionEnd(by_peer=True, status=487, code=Code.CALLER_ABANDONED)
        self._session.finish(end, self._session.release)

    def _on_failure(self, code: Code) -> None:
        self._close()
        self._session.fail(code)

    def _on_prack_missing(self) -> None:
        """Give up on a caller that hears nothing of us (RFC 3262 3)."""
        self.reject(Code.SIP_TIMEOUT, 504, ())

    def _close(self) -> ServerTransaction | None:
        server, self._server = self._server, None
        self._accepted = None
        self.stop()
        return server

    def stop(self) -> None:
        """Repeat nothing more, and let nothing expire."""
        self._stop_timer()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self._reliable is not None:
            self._reliable.stop()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # PRACK

    def receive_prack(self, server: ServerTransaction, usage: InviteUsage) -> None:
        """Take a PRACK, with the answer to our offer or an offer of its own (RFC 3262 3 and 5)."""
        request, session = server.request, self._session
        refusal = body_refusal(request)
        if refusal is not None:
            server.respond(refusal)
            return
        reliable = self._reliable
        first = reliable.acknowledge(request) if reliable is not None else None
        if reliable is None or first is None:
            server.respond(response_to(request, 481))
            return
        sdp = description_of(request)
        if first.body and usage.exchange.state is Exchange.OFFERED:
            server.respond(session.response(request, 200))
            if sdp:
                usage.exchange.take_answer(sdp)
                session.observer.on_early_answer(sdp)
            else:
                session.end(Code.SDP_MALFORMED)
        elif sdp:
            session.changes.answer_offer(server, usage, sdp)
        else:
            server.respond(response_to(request, 200))
        session.proceed()
        reliable.proceed()
