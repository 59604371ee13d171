"""One call as a user agent sees it: the INVITE usage of a dialog (RFC 3261 13, 14 and 15)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Literal, Protocol

from cti.sip.answer import UnacknowledgedAnswer
from cti.sip.causes import code_of_status, reason_header, refusal_status
from cti.sip.client_auth import MAX_ATTEMPTS, authorized_again
from cti.sip.dialog import Dialog
from cti.sip.digest import Credentials
from cti.sip.endpoint import ClientTransaction, ServerTransaction, SipEndpoint
from cti.sip.message import Request, Response, response_to
from cti.sip.session_description import SDP_TYPE, describes, description_of
from cti.sip.transport import Hop
from domain.failures import Code

_PROGRESS_REPEAT_S = 60.0
_TALK_EVENT = "talk"


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


class SessionObserver(Protocol):
    """What a session tells; plain functions that return at once."""

    def on_progress(self, status: int, sdp: bytes) -> None:
        """The far end rings or sends early media (1xx above 100)."""

    def on_answered(self, sdp: bytes) -> None:
        """The far end took our INVITE or re-INVITE; the ACK was sent."""

    def on_acknowledged(self, sdp: bytes) -> None:
        """The ACK of our 2xx came, with the answer where the 2xx carried our offer."""

    def on_reoffer(self, sdp: bytes) -> bytes | Code:
        """Answer the far end's re-INVITE, or refuse it; an empty `sdp` asks for our offer."""

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

    def on_answered(self, sdp: bytes) -> None:
        """Ignore."""

    def on_acknowledged(self, sdp: bytes) -> None:
        """Ignore."""

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


class SessionHost(Protocol):
    """The user agent, as its sessions see it."""

    endpoint: SipEndpoint
    capabilities: tuple[tuple[str, str], ...]
    """Allow, Supported and the like, for INVITE and its responses."""

    @property
    def in_dialog(self) -> Mapping[str, InDialogHandler]:
        """Takes requests inside a dialog whose method the session itself does not serve."""

    def forget(self, session: InviteSession) -> None:
        """Take the session off the tables."""


def _ignore(_outcome: object) -> None:
    """Take the outcome of a request that nobody waits for."""


class Referral(Protocol):
    """A request of the far end to send it elsewhere, until it is accepted or refused."""

    target: str
    """The Refer-To URI, without its headers."""
    replaces: tuple[str, str, str] | None
    """Call-ID, to-tag and from-tag of the dialog to take over (RFC 3891), for an attended one."""
    referred_by: str
    """The Referred-By header as sent (RFC 3892), empty without one."""

    def accept(self) -> None:
        """Answer 202 and tell that the transfer is tried (NOTIFY, sipfrag 100)."""

    def refuse(self, code: Code) -> None:
        """Answer by the catalogue's status; nothing follows."""

    def progress(self, status: int) -> None:
        """Tell a provisional status of the new call (NOTIFY)."""

    def finish(self, status: int) -> None:
        """Tell the final status of the new call (NOTIFY); ends the implicit subscription."""


class InviteSession:
    """A call, incoming ("in") or outgoing ("out"), from its INVITE to its BYE."""

    def __init__(
        self,
        host: SessionHost,
        request: Request,
        hop: Hop,
        *,
        direction: Literal["in", "out"],
        local_tag: str,
        contact: str,
        observer: SessionObserver,
        credentials: Credentials | None = None,
    ) -> None:
        self.direction = direction
        self.request = request
        self.hop = hop
        self.call_id = request.call_id
        self.local_tag = local_tag
        self.observer = observer
        self.source = hop.host
        """The address the INVITE really came from; that of the peer of our own."""
        self.offer = b""
        self.state = SessionState.CALLING
        self._host = host
        self._contact = contact
        self._credentials = credentials
        self._attempts = 1
        self._dialog: Dialog | None = None
        self._server: ServerTransaction | None = None  # the INVITE without a final response
        self._client: ClientTransaction | None = None  # our INVITE without a final response
        self._answer: UnacknowledgedAnswer | None = None
        self._ended = False
        self._bye_after_ack: Code | None = None
        self._forks: set[str] = set()
        self._waiting_offer: bytes | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def remote_tag(self) -> str:
        """The far end's tag, empty before it is known."""
        return self._dialog.remote_tag if self._dialog is not None else ""

    # Incoming: RFC 3261 13.3

    def receive(self, server: ServerTransaction) -> None:
        """Start an incoming session with its INVITE."""
        self.state = SessionState.PROCEEDING
        self.offer = description_of(server.request)
        self._dialog = Dialog.of_server(
            server.request, server.hop, local_tag=self.local_tag, contact=self._contact
        )
        self._server = server
        self.source = server.source
        server.on_cancel = self._on_cancel
        server.on_failure = self._on_server_failure

    def ring(self, sdp: bytes = b"") -> None:
        """Send 180, or 183 when there is early media; repeated each minute (13.3.1.1)."""
        if self._server is None:
            return
        self.state = SessionState.EARLY
        self._stop_timer()
        self._server.respond(self._response(self._server.request, 183 if sdp else 180, sdp))
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_PROGRESS_REPEAT_S, self.ring, sdp)

    def accept(self, sdp: bytes) -> None:
        """Send 200, until its ACK comes; nothing when the caller has gone meanwhile."""
        server, self._server = self._server, None
        if server is None or self._dialog is None:
            return
        self._stop_timer()
        self.state = SessionState.CONFIRMED
        self._dialog.confirmed = True
        self._send_2xx(server, sdp)

    def reject(
        self,
        code: Code | None = None,
        *,
        status: int | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Refuse the call, by the catalogue's status unless one is given."""
        server, self._server = self._server, None
        if server is None:
            return
        if code is None:
            code = code_of_status(status or 603)
        status = status or refusal_status(code)
        lines = [reason_header(code), *headers]
        server.respond(response_to(server.request, status, to_tag=self.local_tag, headers=lines))
        self._finish(SessionEnd(by_peer=False, status=status, code=code), self._release)

    def _on_cancel(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.respond(response_to(server.request, 487, to_tag=self.local_tag))
        end = SessionEnd(by_peer=True, status=487, code=Code.CALLER_ABANDONED)
        self._finish(end, self._release)

    def _on_server_failure(self, code: Code) -> None:
        self._server = None
        self._fail(code)

    def _send_2xx(self, server: ServerTransaction, sdp: bytes) -> None:
        response = self._response(server.request, 200, sdp)
        self._answer = UnacknowledgedAnswer(
            server, response, self._host.endpoint.timers, self._on_ack_missing
        )
        server.respond(response)

    def _response(self, request: Request, status: int, sdp: bytes) -> Response:
        return response_to(
            request,
            status,
            to_tag=self.local_tag,
            headers=(
                # 12.1.1: the caller learns the proxies that stay in the way of the dialog.
                *(("Record-Route", each) for each in request.headers.rows("Record-Route")),
                ("Contact", self._contact),
                *self._host.capabilities,
            ),
            body=sdp,
            content_type=SDP_TYPE if sdp else None,
        )

    def handle_ack(self, request: Request) -> None:
        """Take the ACK of a 2xx."""
        if self._answer is None or self._answer.cseq != request.cseq[0]:
            return
        self._answer.stop()
        self._answer = None
        if self._bye_after_ack is not None:
            self._send_bye(self._bye_after_ack)
            return
        self.observer.on_acknowledged(description_of(request))
        self._send_waiting_offer()

    def _on_ack_missing(self) -> None:
        self._answer = None
        self._fail(Code.ACK_MISSING)

    # Outgoing: RFC 3261 13.2

    def start(self, answer_within_s: float | None = None) -> None:
        """Send the INVITE of an outgoing session; without any response in time it has ended."""
        self._send_invite(self.request)
        if answer_within_s is not None and not self._ended:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(answer_within_s, self._on_silence)

    def _on_silence(self) -> None:
        client = self._client
        end = SessionEnd(by_peer=False, status=408, code=Code.SIP_TIMEOUT)
        # The transaction goes on, so that a late 2xx is acknowledged and ended by BYE.
        self._finish(end, client.cancel if client is not None else self._release)

    def _send_invite(self, request: Request) -> None:
        self.request = request
        self._client = self._host.endpoint.send_request(
            request,
            self.hop,
            on_response=partial(self._on_invite_response, request),
            on_failure=self._on_invite_failure,
        )

    def _on_invite_response(self, request: Request, response: Response) -> None:
        if response.status >= 300:
            self._on_refused(request, response)
        elif response.status >= 200:
            self._on_accepted(request, response)
        elif not self._ended:
            self._stop_timer()
            self._on_provisional(request, response)

    def _on_provisional(self, request: Request, response: Response) -> None:
        if response.status == 100:
            if self.state is SessionState.CALLING:
                self.state = SessionState.PROCEEDING
            return
        self.state = SessionState.EARLY
        tag = response.to.tag
        if tag is not None and (self._dialog is None or self._dialog.remote_tag != tag):
            self._dialog = self._client_dialog(request, response)
        self.observer.on_progress(response.status, description_of(response))

    def _on_accepted(self, request: Request, response: Response) -> None:
        tag = response.to.tag or ""
        if self._client is not None:
            self._stop_timer()
        if self._dialog is not None and self._dialog.confirmed:
            if self._dialog.remote_tag == tag:
                self._send_ack(self._dialog, request)  # the 2xx again, its ACK was lost
            else:
                self._drop_fork(request, response, tag)
            return
        self._client = None
        if self._dialog is None or self._dialog.remote_tag != tag:
            self._dialog = self._client_dialog(request, response)
        self._dialog.confirm(response)
        self._send_ack(self._dialog, request)
        if self._ended:  # the 2xx crossed our CANCEL (9.1)
            self._send_bye(Code.CALLER_ABANDONED)
            return
        self.state = SessionState.CONFIRMED
        self.observer.on_answered(description_of(response))
        self._send_waiting_offer()

    def _drop_fork(self, request: Request, response: Response, tag: str) -> None:
        """Acknowledge and end what another branch of a forked INVITE accepted (13.2.2.4)."""
        dialog = self._client_dialog(request, response)
        dialog.confirm(response)
        self._send_ack(dialog, request)
        if tag not in self._forks:
            self._forks.add(tag)
            bye = dialog.request("BYE", headers=[reason_header(Code.FLOW_ENDED)])
            self._host.endpoint.send_request(
                bye, dialog.next_hop(), on_response=_ignore, on_failure=_ignore
            )

    def _on_refused(self, request: Request, response: Response) -> None:
        self._client = None
        self._stop_timer()
        if self._ended:
            self._release()
            return
        again = self._authorized(request, response, request.cseq[0] + 1)
        if again is not None:
            self._dialog = None
            self._send_invite(again)
            return
        code = code_of_status(response.status)
        words = _reason(response) or response.reason
        end = SessionEnd(by_peer=True, status=response.status, code=code, reason=words)
        self._finish(end, self._release)

    def _on_invite_failure(self, code: Code) -> None:
        self._client = None
        if self._ended:
            self._release()
        else:
            self._fail(code)

    def _client_dialog(self, request: Request, response: Response) -> Dialog:
        return Dialog.of_client(
            request, response, self.hop, local_tag=self.local_tag, contact=self._contact
        )

    def _send_ack(self, dialog: Dialog, invite: Request) -> None:
        self._host.endpoint.send_ack(dialog.ack(invite), dialog.next_hop())

    def _authorized(self, request: Request, response: Response, cseq: int) -> Request | None:
        if self._attempts >= MAX_ATTEMPTS:
            return None
        self._attempts += 1
        return authorized_again(request, response, self._credentials, cseq=cseq)

    # Both: RFC 3261 12.2, 14, 15

    def handle(self, server: ServerTransaction) -> None:
        """Take a request of this dialog."""
        request, dialog = server.request, self._dialog
        if (
            dialog is None
            or dialog.remote_tag != (request.from_.tag or "")
            or (self._ended and request.method != "BYE")
        ):
            server.respond(response_to(request, 481))
        elif not dialog.accepts(request.cseq[0]):
            server.respond(response_to(request, 500, headers=[_retry_soon()]))
        else:
            own = _HANDLERS.get(request.method)
            if own is not None:
                own(self, server, dialog)
            elif (other := self._host.in_dialog.get(request.method)) is not None:
                other(self, server, dialog)
            else:
                server.respond(response_to(request, 405, headers=self._host.capabilities))

    def _on_bye(self, server: ServerTransaction, _dialog: Dialog) -> None:
        server.respond(response_to(server.request, 200))
        invite, self._server = self._server, None
        if invite is not None:
            invite.respond(response_to(invite.request, 487, to_tag=self.local_tag))
        if not self._ended:
            reason = _reason(server.request)
            end = SessionEnd(by_peer=True, status=200, code=Code.FLOW_ENDED, reason=reason)
            self._finish(end, self._release)
        elif self._bye_after_ack is not None:
            self._release()

    def _on_reinvite(self, server: ServerTransaction, dialog: Dialog) -> None:
        request = server.request
        if self._server is not None:
            # 14.2: we have yet to answer the INVITE before it.
            server.respond(response_to(request, 500, headers=[_retry_soon()]))
            return
        if self._client is not None or (self._answer is not None and self._answer.offered):
            server.respond(response_to(request, 491))
            return
        if not describes(request):
            server.respond(response_to(request, 415, headers=[("Accept", SDP_TYPE)]))
            return
        if self._answer is not None:
            self._answer.stop()  # the caller has seen our 2xx, only its ACK was lost
            self._answer = None
        answer = self.observer.on_reoffer(description_of(request))
        if self._ended:
            server.respond(response_to(request, 487))
        elif isinstance(answer, Code):
            headers = [reason_header(answer)]
            server.respond(response_to(request, refusal_status(answer), headers=headers))
        else:
            server.on_failure = self._on_server_failure
            dialog.refresh_target(request)
            self._send_2xx(server, answer)

    def _on_info(self, server: ServerTransaction, _dialog: Dialog) -> None:
        request = server.request
        server.respond(response_to(request, 200))
        self.observer.on_info(request.headers.get("Content-Type") or "", request.body)

    def _on_notify(self, server: ServerTransaction, _dialog: Dialog) -> None:
        event = (server.request.headers.get("Event") or "").partition(";")[0].strip().lower()
        other = self._host.in_dialog.get("NOTIFY")
        if event != _TALK_EVENT and other is not None:
            other(self, server, _dialog)
            return
        if event != _TALK_EVENT:
            headers = [("Allow-Events", _TALK_EVENT)]
            server.respond(response_to(server.request, 489, headers=headers))
            return
        server.respond(response_to(server.request, 200))
        self.observer.on_talk()

    def _on_options(self, server: ServerTransaction, _dialog: Dialog) -> None:
        headers = (*self._host.capabilities, ("Accept", SDP_TYPE))
        server.respond(response_to(server.request, 200, headers=headers))

    def reinvite(self, sdp: bytes) -> None:
        """Offer a change; waits while another INVITE is under way, a later offer replaces it."""
        if self._ended:
            return
        self._waiting_offer = sdp
        self._attempts = 1
        self._send_waiting_offer()

    def _send_waiting_offer(self) -> None:
        free = self._client is None and self._answer is None and self._timer is None
        if self._waiting_offer is None or not free or self.state is not SessionState.CONFIRMED:
            return
        offer, self._waiting_offer = self._waiting_offer, None
        dialog = self._confirmed_dialog()
        headers = self._host.capabilities
        self._send_reinvite(
            dialog.request("INVITE", headers=headers, body=offer, content_type=SDP_TYPE)
        )

    def _send_reinvite(self, request: Request) -> None:
        self._client = self._host.endpoint.send_request(
            request,
            self._confirmed_dialog().next_hop(),
            on_response=partial(self._on_reinvite_response, request),
            on_failure=self._fail,
        )

    def _on_reinvite_response(self, request: Request, response: Response) -> None:
        if response.status < 200:
            return
        dialog = self._confirmed_dialog()
        if response.status < 300:
            self._send_ack(dialog, request)
        if self._client is None or self._client.request is not request:
            return  # the 2xx again, or the session ended meanwhile
        self._client = None
        if self._ended:
            return
        if response.status < 300:
            dialog.refresh_target(response)
            self.observer.on_answered(description_of(response))
            self._send_waiting_offer()
        else:
            self._on_reinvite_refused(dialog, request, response)

    def _on_reinvite_refused(self, dialog: Dialog, request: Request, response: Response) -> None:
        if response.status in {408, 481}:  # 12.2.1.2: these mean the dialog
            self._fail(code_of_status(response.status))
            return
        if response.status == 491 and self._waiting_offer is None:
            self._waiting_offer = request.body
            self._wait_after_glare()
            return
        again = self._authorized(request, response, dialog.local_cseq + 1)
        if again is not None:
            dialog.local_cseq += 1
            self._send_reinvite(again)
            return
        self.observer.on_reoffer_refused(code_of_status(response.status))
        self._send_waiting_offer()

    def _wait_after_glare(self) -> None:
        """Let the two sides try again at different times (14.1)."""
        units = 210 + secrets.randbelow(191) if self.direction == "out" else secrets.randbelow(201)
        # In units of 10 ms with the usual T1 of 500 ms, in proportion with another.
        delay_s = units * 0.01 * self._host.endpoint.timers.t1_s / 0.5
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._glare_is_over)

    def _glare_is_over(self) -> None:
        self._timer = None
        self._send_waiting_offer()

    def notify_talk(self, on_result: Callable[[bool], None]) -> None:
        """Ask the phone to pick up (NOTIFY, event talk), ringing or held."""
        dialog = self._dialog
        if dialog is None or self._ended:
            on_result(False)
            return
        headers = [("Event", _TALK_EVENT), ("Subscription-State", "active")]

        def on_response(response: Response) -> None:
            if response.status >= 200:
                on_result(response.status < 300)

        self.send("NOTIFY", headers, on_response=on_response, on_failure=lambda _: on_result(False))

    def send(
        self,
        method: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        *,
        on_response: Callable[[Response], None] = _ignore,
        on_failure: Callable[[Code], None] = _ignore,
    ) -> None:
        """Send a request other than INVITE in the dialog; without one the failure is NO_CALL."""
        dialog = self._dialog
        if dialog is None:
            on_failure(Code.NO_CALL)
            return
        self._host.endpoint.send_request(
            dialog.request(method, headers=headers, body=body, content_type=content_type),
            dialog.next_hop(),
            on_response=on_response,
            on_failure=on_failure,
        )

    def end(self, code: Code) -> None:
        """End the session by whatever its state needs: a refusal, CANCEL or BYE. Never raises."""
        if self._ended:
            return
        if self._server is not None:
            self.reject(code)
        elif self.state is SessionState.CONFIRMED:
            end = SessionEnd(by_peer=False, status=200, code=code)
            self._finish(end, partial(self._bye, code))
        else:
            end = SessionEnd(by_peer=False, status=487, code=code)
            client = self._client
            cancel = partial(client.cancel, [reason_header(code)]) if client else self._release
            self._finish(end, cancel)

    def _fail(self, code: Code) -> None:
        """End the session because the signalling did."""
        self._client = None
        if self._ended:
            if self._bye_after_ack is not None:
                self._send_bye(self._bye_after_ack)
            return
        status = 408 if code in {Code.SIP_TIMEOUT, Code.ACK_MISSING} else 503
        end = SessionEnd(by_peer=False, status=status, code=code)
        confirmed = self.state is SessionState.CONFIRMED
        self._finish(end, partial(self._send_bye, code) if confirmed else self._release)

    def _bye(self, code: Code) -> None:
        if self._answer is not None:
            self._bye_after_ack = code  # 15: the callee waits for the ACK
        else:
            self._send_bye(code)

    def _send_bye(self, code: Code) -> None:
        self._bye_after_ack = None
        if self._answer is not None:
            self._answer.stop()
            self._answer = None
        dialog = self._confirmed_dialog()
        self._host.endpoint.send_request(
            dialog.request("BYE", headers=[reason_header(code)]),
            dialog.next_hop(),
            on_response=self._on_bye_response,
            on_failure=lambda _code: self._release(),
        )

    def _on_bye_response(self, response: Response) -> None:
        if response.status >= 200:
            self._release()  # 15.1.1: whatever it says, the session is over

    def _confirmed_dialog(self) -> Dialog:
        assert self._dialog is not None  # noqa: S101 - callers have checked the state
        return self._dialog

    def _finish(self, end: SessionEnd, last_act: Callable[[], None]) -> None:
        self._ended = True
        self.state = SessionState.TERMINATED
        self._waiting_offer = None
        self._stop_timer()
        last_act()  # first: the observer may do anything
        self.observer.on_ended(end)

    def _release(self) -> None:
        if self._answer is not None:
            self._answer.stop()
            self._answer = None
        self._host.forget(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _reason(message: Request | Response) -> str:
    return ", ".join(message.headers.rows("Reason"))


def _retry_soon() -> tuple[str, str]:
    """Return the Retry-After of RFC 3261 14.2: 0 to 10 seconds."""
    return "Retry-After", str(secrets.randbelow(11))


InDialogHandler = Callable[[InviteSession, ServerTransaction, Dialog], None]

_HANDLERS: dict[str, InDialogHandler] = {
    "BYE": InviteSession._on_bye,  # noqa: SLF001 - the class's own table
    "INFO": InviteSession._on_info,  # noqa: SLF001
    "INVITE": InviteSession._on_reinvite,  # noqa: SLF001
    "NOTIFY": InviteSession._on_notify,  # noqa: SLF001
    "OPTIONS": InviteSession._on_options,  # noqa: SLF001
}
