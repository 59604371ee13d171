"""Changes of a session under way: re-INVITE and UPDATE, both ways (RFC 3261 14, RFC 3311)."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import TYPE_CHECKING

from cti.sip.endpoint import ClientTransaction, ServerTransaction
from cti.sip.messages.message import Request, Response, response_to
from cti.sip.messages.session_description import SDP_TYPE, body_refusal, description_of
from cti.sip.sessions.causes import code_of_status, refusal_headers, refusal_status, retry_after_s
from cti.sip.sessions.invite_responses import take_2xx, take_provisional
from cti.sip.sessions.offer_answer import Exchange, InviteUsage
from cti.sip.sessions.session_events import PendingAnswer, SessionState
from cti.sip.sessions.session_timer import interval_refusal
from domain.failures import Code

if TYPE_CHECKING:
    from cti.sip.sessions.session import InviteSession

_MAX_RETRIES = 8
_MAX_RETRY_AFTER_S = 10


class SessionChanges:
    """At most one request of ours changes the session at a time; the newest wish waits."""

    __slots__ = ("_client", "_is_refresh", "_pending", "_retries", "_session", "_timer", "_waiting",
                 "_wants_refresh")  # fmt: skip

    def __init__(self, session: InviteSession) -> None:
        self._session = session
        self._client: ClientTransaction | None = None
        self._waiting: bytes | None = None  # an offer; empty asks for the far end's
        self._wants_refresh = False
        self._is_refresh = False  # whether the request under way is one
        self._retries = 0
        self._pending: tuple[ServerTransaction, PendingAnswer] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # Ours

    def offer(self, sdp: bytes) -> None:
        """Offer a change; a later offer takes the place of one that waits."""
        self._waiting = sdp
        self._retries = 0
        self.proceed()

    def refresh(self) -> None:
        """Show the far end that the session lives (RFC 4028 10); any change does that too."""
        self._wants_refresh = True
        self.proceed()

    def stop(self) -> None:
        """Want nothing any more."""
        self._terminate()
        self._waiting = None
        self._wants_refresh = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._client is not None:
            self._client.cancel()  # else a far end that rings on would keep its transaction

    def proceed(self) -> None:
        """Send what waits, as soon as the session is free for it."""
        if self._waiting is None and not self._wants_refresh:
            return
        session = self._session
        if self._client is not None or self._timer is not None or not session.is_in_dialog:
            return
        if session.awaits_ack or session.usage.exchange.state is not Exchange.STABLE:
            return
        if session.state is SessionState.CONFIRMED:
            self._send_confirmed(session.usage)
        elif self._waiting and self._may_update(session.usage):
            self._send(session.usage, "UPDATE", self._take_waiting())

    def _may_update(self, usage: InviteUsage) -> bool:
        """Whether an offer may go out before the call is answered (RFC 3311 5.1)."""
        session = self._session
        return (
            session.state is SessionState.EARLY
            and usage.exchange.settled
            and usage.allows_update
            and not session.awaits_prack
        )

    def _take_waiting(self) -> bytes:
        offer, self._waiting = self._waiting or b"", None
        return offer

    def _send_confirmed(self, usage: InviteUsage) -> None:
        if self._waiting is not None:
            self._wants_refresh = False
            self._send(usage, "INVITE", self._take_waiting())
            return
        self._wants_refresh = False
        # RFC 4028 7.4: UPDATE needs no description; a re-INVITE repeats the last one as it was.
        if usage.allows_update:
            self._send(usage, "UPDATE", b"", is_refresh=True)
        else:
            self._send(usage, "INVITE", usage.exchange.local, is_refresh=True)

    def _send(
        self, usage: InviteUsage, method: str, sdp: bytes, *, is_refresh: bool = False
    ) -> None:
        session = self._session
        self._is_refresh = is_refresh
        request = usage.dialog.request(
            method,
            headers=(*session.host.capabilities, *session.timer.ask()),
            body=sdp,
            content_type=SDP_TYPE if sdp else None,
        )
        self._transmit(usage, request)

    def _transmit(self, usage: InviteUsage, request: Request) -> None:
        if request.body:
            usage.exchange.send_offer(request.body)
        if request.method == "INVITE":
            usage.begin_invite()
        self._client = self._session.host.endpoint.send_request(
            request,
            usage.dialog.next_hop(),
            on_response=partial(self._on_response, usage, request),
            on_failure=partial(self._on_failure, usage),
        )

    def _on_failure(self, usage: InviteUsage, code: Code) -> None:
        self._client = None
        self._on_dialog_lost(usage, code)

    def _on_dialog_lost(self, usage: InviteUsage, code: Code) -> None:
        """End the call; but a fork that is gone leaves it to the others, and to the INVITE."""
        session = self._session
        if session.is_over:
            return
        if usage is session.usage and not session.awaits_answer:
            session.fail(code)
        else:
            usage.exchange.roll_back()
            session.observer.on_reoffer_refused(code)
            self.proceed()

    def _on_response(self, usage: InviteUsage, request: Request, response: Response) -> None:
        session, is_invite = self._session, request.method == "INVITE"
        if response.status < 200:
            if is_invite and not session.is_over:
                take_provisional(session, usage, request, response)
            return
        is_first = self._client is not None and self._client.request is request
        if is_first:
            self._client = None
        if session.is_over or not is_first:
            # The 2xx again, or too late: all it needs is an ACK.
            if is_invite and response.status < 300:
                session.send_ack(usage, request)
        elif response.status < 300:
            self._on_taken(usage, request, response)
        else:
            self._on_refused(usage, request, response)

    def _on_taken(self, usage: InviteUsage, request: Request, response: Response) -> None:
        session = self._session
        self._retries = 0
        usage.dialog.refresh_target(response)
        session.timer_agreed(response)
        if request.method == "INVITE":
            take_2xx(session, usage, request, response, is_refresh=self._is_refresh)
            return
        if usage.exchange.state is Exchange.OFFERED:
            sdp = description_of(response)
            if not sdp:
                session.fail(Code.SDP_MALFORMED)
                return
            usage.exchange.take_answer(sdp)
            session.observer.on_early_answer(sdp)
        session.proceed()

    def _on_refused(self, usage: InviteUsage, request: Request, response: Response) -> None:
        session, status = self._session, response.status
        if status in {408, 481}:  # 12.2.1.2: these mean the dialog
            self._on_dialog_lost(usage, code_of_status(status))
            return
        if request.body:
            usage.exchange.roll_back()
        delay_s = self._retry_in_s(response)
        if delay_s:
            self._retries += 1
            self._wants_refresh |= self._is_refresh
            if not self._is_refresh and self._waiting is None:
                self._waiting = request.body
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._retry)
            return
        again = self._again(usage, request, response)
        if again is not None:
            usage.dialog.local_cseq += 1
            self._transmit(usage, again)
            return
        if request.method == "UPDATE" and status in {405, 501}:
            usage.allows_update = False
            self._wants_refresh |= self._is_refresh
            if request.body and self._waiting is None:
                self._waiting = request.body
        elif not self._is_refresh:
            session.observer.on_reoffer_refused(code_of_status(status))
        session.proceed()

    def _again(self, usage: InviteUsage, request: Request, response: Response) -> Request | None:
        session, cseq = self._session, usage.dialog.local_cseq + 1
        if response.status == 422 and session.timer.lengthen(response):
            again = request.copy()
            again.headers.remove("Via")
            again.headers.set("CSeq", f"{cseq} {request.method}")
            for name, value in session.timer.ask():
                again.headers.set(name, value)
            return again
        return session.client.authorized(request, response, cseq)

    def _retry_in_s(self, response: Response) -> float:
        """Return how long to wait before the same again, 0 when it shall not be repeated."""
        if self._retries >= _MAX_RETRIES:
            return 0.0
        session = self._session
        if response.status == 491:
            # 14.1: both sides try again at different times, in units of 10 ms with the usual T1
            # of 500 ms, in proportion with another.
            units = secrets.randbelow(191) + 210 if session.direction == "out" else 0
            units = units or secrets.randbelow(201) + 1
            return units * 0.01 * session.host.endpoint.timers.t1_s / 0.5
        if response.status == 500:
            asked_s = retry_after_s(response)
            stated = "Retry-After" in response.headers and asked_s <= _MAX_RETRY_AFTER_S
            return max(asked_s, session.host.endpoint.timers.t1_s) if stated else 0.0
        return 0.0

    def _retry(self) -> None:
        self._timer = None
        self.proceed()

    # The far end's

    def receive(self, server: ServerTransaction, usage: InviteUsage) -> None:
        """Take a re-INVITE or UPDATE."""
        request, session = server.request, self._session
        is_invite = request.method == "INVITE"
        sdp = description_of(request)
        refusal = self._refusal(usage, request, sdp)
        if refusal is not None:
            server.respond(refusal)
            return
        if is_invite:
            session.stop_answer()  # the caller has seen our 2xx, only its ACK was lost
            server.on_failure = session.fail
        if is_invite or sdp:
            self.answer_offer(server, usage, sdp)
        else:
            usage.dialog.refresh_target(request)
            timer_headers = session.agree_timer(request)
            server.respond(session.response(request, 200, headers=timer_headers))
        session.proceed()

    def _refusal(self, usage: InviteUsage, request: Request, sdp: bytes) -> Response | None:
        session = self._session
        status = 0
        if request.method == "INVITE":
            if session.incoming is not None and session.incoming.is_open:
                status = 500  # 14.2: we have yet to answer the INVITE before it
            elif session.awaits_answer or self._is_inviting:
                status = 491
        if not status and (sdp or request.method == "INVITE"):
            status = usage.exchange.refusal()
        if not status and sdp and not usage.exchange.settled:
            status = 500  # RFC 3311 5.2: the first exchange belongs to the INVITE
        if status == 500:
            return response_to(request, 500, headers=[retry_soon()])
        if status:
            return response_to(request, status)
        return body_refusal(request) or interval_refusal(request, session.policy)

    @property
    def _is_inviting(self) -> bool:
        return self._client is not None and self._client.request.method == "INVITE"

    def answer_offer(self, server: ServerTransaction, usage: InviteUsage, sdp: bytes) -> None:
        """Answer the offer of an INVITE, UPDATE or PRACK, or give ours where it has none."""
        request, session, exchange = server.request, self._session, usage.exchange
        status = exchange.refusal()
        if status:
            server.respond(response_to(request, status, headers=[retry_soon()]))
            return
        if sdp:
            exchange.take_offer(sdp)
        session.usage = usage
        waits = sdp and request.method == "INVITE" and session.state is SessionState.CONFIRMED
        pending = session.observer.defer_answer(sdp) if waits else None
        if pending is None:
            self._conclude(server, usage, sdp, session.observer.on_reoffer(sdp))
            return
        # 14.2 gives a re-INVITE the time of any INVITE; 100 goes out by itself (17.2.1).
        self._pending = server, pending
        server.on_cancel = partial(self._on_cancel, usage)
        pending.on_settled(partial(self._on_settled, server, usage, sdp))

    def _on_settled(
        self, server: ServerTransaction, usage: InviteUsage, sdp: bytes, answer: bytes | Code
    ) -> None:
        if self._pending is None or self._pending[0] is not server:
            return  # it was cancelled, or the session is over
        self._pending = None
        server.on_cancel = None
        self._conclude(server, usage, sdp, answer)
        self._session.proceed()

    def _on_cancel(self, usage: InviteUsage) -> None:
        """Forget a re-INVITE that its sender has taken back (9.2)."""
        usage.exchange.roll_back()
        self._terminate()
        self._session.proceed()

    def _terminate(self) -> None:
        """Answer 487 to a re-INVITE whose answer is still waited for."""
        if self._pending is not None:
            (server, pending), self._pending = self._pending, None
            server.respond(response_to(server.request, 487))
            pending.settle(Code.CALLER_ABANDONED)

    def _conclude(
        self, server: ServerTransaction, usage: InviteUsage, sdp: bytes, answer: bytes | Code
    ) -> None:
        request, session, exchange = server.request, self._session, usage.exchange
        if session.is_over:
            server.respond(response_to(request, 487 if request.method == "INVITE" else 481))
            return
        if isinstance(answer, Code):
            exchange.roll_back()
            headers = refusal_headers(answer, sdp)
            server.respond(response_to(request, refusal_status(answer), headers=headers))
            return
        if sdp:
            exchange.send_answer(answer)
        else:
            exchange.send_offer(answer)
        timer_headers: tuple[tuple[str, str], ...] = ()
        if request.method != "PRACK":
            usage.dialog.refresh_target(request)
            timer_headers = session.agree_timer(request)
        if request.method == "INVITE":
            session.send_2xx(server, answer, timer_headers)
        else:
            server.respond(session.response(request, 200, answer, timer_headers))


def retry_soon() -> tuple[str, str]:
    """Return the Retry-After of RFC 3261 14.2: 0 to 10 seconds."""
    return "Retry-After", str(secrets.randbelow(11))
