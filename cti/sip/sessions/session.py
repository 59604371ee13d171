"""One call as a user agent sees it: the INVITE usage of a dialog (RFC 3261 13, 14 and 15)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Literal, Protocol

from cti.sip.authentication.digest import Credentials
from cti.sip.endpoint import ServerTransaction, SipEndpoint
from cti.sip.messages.message import Request, Response, response_to
from cti.sip.messages.session_description import SDP_TYPE, description_of
from cti.sip.sessions.answer import UnacknowledgedAnswer
from cti.sip.sessions.causes import reason_header, reason_text, refusal_status
from cti.sip.sessions.dialog import Dialog
from cti.sip.sessions.dialog_client import DialogClient, ignore
from cti.sip.sessions.in_dialog import HANDLERS, TALK_EVENT
from cti.sip.sessions.incoming_invite import IncomingInvite
from cti.sip.sessions.offer_answer import Exchange, InviteUsage
from cti.sip.sessions.outgoing_invite import OutgoingInvite
from cti.sip.sessions.session_changes import SessionChanges, retry_soon
from cti.sip.sessions.session_events import (
    NOBODY,
    Referral,
    SessionEnd,
    SessionObserver,
    SessionObserverBase,
    SessionState,
)
from cti.sip.sessions.session_policy import SessionPolicy
from cti.sip.sessions.session_timer import SessionTimer, has_timer
from cti.sip.transports.transport import Hop
from domain.failures import Code

__all__ = [
    "InDialogHandler",
    "InviteSession",
    "Referral",
    "SessionEnd",
    "SessionHost",
    "SessionObserver",
    "SessionObserverBase",
    "SessionState",
]

_MAX_FORWARDS = 70


class SessionHost(Protocol):
    """The user agent, as its sessions see it."""

    endpoint: SipEndpoint
    policy: SessionPolicy
    capabilities: tuple[tuple[str, str], ...]
    """Allow, Supported and the like, for INVITE and its responses."""

    @property
    def in_dialog(self) -> Mapping[str, InDialogHandler]:
        """Takes requests inside a dialog whose method the session itself does not serve."""

    def forget(self, session: InviteSession) -> None:
        """Take the session off the tables."""


class InviteSession:
    """A call, incoming ("in") or outgoing ("out"), from its INVITE to its BYE.

    What belongs to the first INVITE alone is in `incoming` or `outgoing`, later changes are in
    `changes`; these parts call the methods that stand under "For the parts".
    """

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
        follow_redirects: bool = False,
    ) -> None:
        self.direction = direction
        self.request = request
        self.hop = hop
        self.source = hop.host
        """The address the INVITE really came from; that of the peer of our own."""
        self.call_id = request.call_id
        self.local_tag = local_tag
        self.contact = contact
        self.observer = observer
        self.offer = b""
        self.state = SessionState.CALLING
        self.host = host
        self.policy = host.policy
        self.incoming: IncomingInvite | None = None
        self.outgoing: OutgoingInvite | None = None
        if direction == "out":
            self.outgoing = OutgoingInvite(self, follow_redirects=follow_redirects)
        self.is_over = False
        self._changes: SessionChanges | None = None
        self._timer: SessionTimer | None = None
        self.client = DialogClient(host.endpoint, credentials)
        self._usage: InviteUsage | None = None
        self._answer: UnacknowledgedAnswer | None = None
        self._bye_after_ack: Code | None = None

    @property
    def remote_tag(self) -> str:
        """The far end's tag, empty before it is known."""
        return self._usage.dialog.remote_tag if self._usage is not None else ""

    @property
    def max_forwards(self) -> int:
        """What an INVITE of ours that carries this call on may have left (RFC 7332)."""
        text = (self.request.headers.first_row("Max-Forwards") or "").strip()
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            return _MAX_FORWARDS
        return min(_MAX_FORWARDS, max(0, int(text) - 1))

    # Calling and being called

    def receive(self, server: ServerTransaction) -> None:
        """Start an incoming session with its INVITE."""
        request = server.request
        dialog = Dialog.of_server(
            request, server.hop, local_tag=self.local_tag, contact=self.contact
        )
        self.state = SessionState.PROCEEDING
        self.source = server.source
        self.offer = description_of(request)
        self._usage = InviteUsage(dialog, request)
        if self.offer:
            self._usage.exchange.take_offer(self.offer)
        self.incoming = IncomingInvite(self, server)

    def ring(self, sdp: bytes = b"") -> None:
        """Send 180, or 183 when there is early media; reliably where the caller can have it so."""
        if self.incoming is not None:
            self.incoming.ring(sdp)

    def accept(self, sdp: bytes) -> None:
        """Send 200, until its ACK comes; nothing when the caller has gone meanwhile.

        `sdp` answers the INVITE, or offers where it has no offer; what was agreed while it rang
        stays, a change of that is for `reinvite`.
        """
        if self.incoming is not None:
            self.incoming.accept(sdp)

    def reject(
        self,
        code: Code | None = None,
        *,
        status: int | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Refuse the call, by the catalogue's status unless one is given."""
        if self.incoming is not None:
            self.incoming.reject(code, status, headers)

    def start(self, answer_within_s: float | None = None) -> None:
        """Send the INVITE of an outgoing session; without any response in time it has ended."""
        if self.outgoing is not None:
            self.outgoing.start(answer_within_s)

    def reinvite(self, sdp: bytes) -> None:
        """Offer a change, by UPDATE before the answer; a later offer replaces one that waits.

        An empty offer asks the far end for its own.
        """
        if not self.is_over:
            self.changes.offer(sdp)

    def end(self, code: Code) -> None:
        """End the session by whatever its state needs: a refusal, CANCEL or BYE. Never raises."""
        if self.is_over:
            return
        if self.incoming is not None and self.incoming.is_open:
            self.incoming.reject(code, None, ())
        elif self.state is SessionState.CONFIRMED:
            end = SessionEnd(by_peer=False, status=200, code=code)
            self.finish(end, partial(self._bye, code))
        elif self.outgoing is not None:
            self.outgoing.cancel(code)

    def notify_talk(self, on_result: Callable[[bool], None]) -> None:
        """Ask the phone to pick up (NOTIFY, event talk), ringing or held."""
        if not self.is_in_dialog:
            on_result(False)
            return
        headers = [("Event", TALK_EVENT), ("Subscription-State", "active")]

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
        on_response: Callable[[Response], None] = ignore,
        on_failure: Callable[[Code], None] = ignore,
    ) -> None:
        """Send a request other than INVITE in the dialog; without one the failure is NO_CALL."""
        if self._usage is None:
            on_failure(Code.NO_CALL)
            return
        dialog = self._usage.dialog
        request = dialog.request(method, headers=headers, body=body, content_type=content_type)
        self.client.send_for_call(dialog, request, on_response, on_failure, self.fail)

    # The network's requests: RFC 3261 12.2.2

    def handle(self, server: ServerTransaction) -> None:
        """Take a request of this dialog."""
        request = server.request
        method, usage = request.method, self._usage_of(request.from_.tag or "")
        if usage is None or (self.is_over and method != "BYE"):
            server.respond(response_to(request, 481))
        elif not usage.dialog.accepts(request.cseq[0]):
            server.respond(response_to(request, 500, headers=[retry_soon()]))
        elif (own := HANDLERS.get(method)) is not None:
            own(self, server, usage)
        elif (other := self.host.in_dialog.get(method)) is not None:
            other(self, server, usage.dialog)
        else:
            server.respond(response_to(request, 405, headers=self.host.capabilities))

    def _usage_of(self, remote_tag: str) -> InviteUsage | None:
        usage = self._usage
        if usage is not None and usage.dialog.remote_tag == remote_tag:
            return usage
        return self.outgoing.usage_of(remote_tag) if self.outgoing is not None else None

    def hung_up(self, bye: Request) -> None:
        """Take the BYE of the far end (15.1.2)."""
        if self.incoming is not None:
            self.incoming.terminate()
        if not self.is_over:
            end = SessionEnd(
                by_peer=True,
                status=200,
                code=Code.FLOW_ENDED,
                reason=reason_text(bye),
            )
            self.finish(end, partial(self._leave, Code.FLOW_ENDED))
        elif self._bye_after_ack is not None:
            self.release()

    def handle_ack(self, request: Request) -> None:
        """Take the ACK of a 2xx."""
        if self._answer is None or self._answer.cseq != request.cseq[0]:
            return
        self.stop_answer()
        if self._bye_after_ack is not None:
            self.send_bye(self._bye_after_ack)
            return
        exchange, sdp = self.usage.exchange, b""
        if exchange.state is Exchange.OFFERED:
            sdp = description_of(request)
            if not sdp:  # 13.2.2.4: it had to answer the offer of our 2xx
                self.fail(Code.SDP_MALFORMED)
                return
            exchange.take_answer(sdp)
        self.observer.on_acknowledged(sdp)
        self.proceed()

    # For the parts: what is known

    @property
    def usage(self) -> InviteUsage:
        """The dialog in use: the one with the newest fork, or with the one that answered."""
        assert self._usage is not None  # noqa: S101 - callers have checked the state
        return self._usage

    @usage.setter
    def usage(self, usage: InviteUsage) -> None:
        self._usage = usage

    @property
    def changes(self) -> SessionChanges:
        """Its re-INVITEs and UPDATEs; most calls have none."""
        if self._changes is None:
            self._changes = SessionChanges(self)
        return self._changes

    @property
    def timer(self) -> SessionTimer:
        """Its session timer."""
        if self._timer is None:
            self._timer = SessionTimer(self)
        return self._timer

    def agree_timer(self, request: Request) -> tuple[tuple[str, str], ...]:
        """Return what a 2xx to `request` says of the session timer."""
        if self._timer is None and not has_timer(request, self.policy):
            return ()
        return self.timer.agree(request)

    def timer_agreed(self, response: Response) -> None:
        """Take what a 2xx to a request of ours says of the session timer."""
        if self._timer is not None or has_timer(response, self.policy):
            self.timer.agreed(response)

    @property
    def is_in_dialog(self) -> bool:
        """Whether requests can go to the far end: the session has begun and is not over."""
        return self._usage is not None and not self.is_over

    @property
    def awaits_ack(self) -> bool:
        """Whether a 2xx of ours is not acknowledged yet."""
        return self._answer is not None

    @property
    def awaits_prack(self) -> bool:
        """Whether a provisional response of ours with a description has not arrived yet."""
        return self.incoming is not None and self.incoming.awaits_prack

    @property
    def awaits_answer(self) -> bool:
        """Whether our INVITE has no final response yet."""
        return self.outgoing is not None and self.outgoing.is_open

    # For the parts: messages

    def response(
        self,
        request: Request,
        status: int,
        sdp: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
    ) -> Response:
        """Build a response that makes or refreshes the dialog (12.1.1)."""
        return response_to(
            request,
            status,
            to_tag=self.local_tag,
            headers=(
                # 12.1.1: the caller learns the proxies that stay in the way of the dialog.
                *[("Record-Route", each) for each in request.headers.rows("Record-Route")],
                ("Contact", self.contact),
                *self.host.capabilities,
                *headers,
            ),
            body=sdp,
            content_type=SDP_TYPE if sdp else None,
        )

    def send_2xx(
        self, server: ServerTransaction, sdp: bytes, headers: Iterable[tuple[str, str]]
    ) -> None:
        """Send the 200 of an INVITE, until its ACK comes."""
        response = self.response(server.request, 200, sdp, headers)
        self._answer = UnacknowledgedAnswer(
            server, response, self.host.endpoint.timers, self._on_ack_missing
        )
        server.respond(response)

    def stop_answer(self) -> None:
        """Repeat the 200 no more."""
        if self._answer is not None:
            self._answer.stop()
            self._answer = None

    def _on_ack_missing(self) -> None:
        self._answer = None
        self.fail(Code.ACK_MISSING)

    def send_ack(self, usage: InviteUsage, invite: Request, sdp: bytes = b"") -> None:
        """Acknowledge a 2xx of ours."""
        self.host.endpoint.send_ack(usage.ack(invite, sdp), usage.dialog.next_hop())

    # For the parts: going on and ending

    def proceed(self) -> None:
        """Send what waited for an exchange or an ACK to be complete."""
        if self.incoming is not None:
            self.incoming.proceed()
        if self._changes is not None:
            self._changes.proceed()

    def fail(self, code: Code) -> None:
        """End the session because the signalling did."""
        if self.is_over:
            if self._bye_after_ack is not None:
                self.send_bye(self._bye_after_ack)
            return
        if self.incoming is not None and self.incoming.is_open:
            self.incoming.reject(code, None, ())
            return
        end = SessionEnd(by_peer=False, status=refusal_status(code), code=code)
        confirmed = self.state is SessionState.CONFIRMED
        self.finish(end, partial(self.send_bye if confirmed else self._leave, code))

    def finish(self, end: SessionEnd, last_act: Callable[[], None]) -> None:
        """Say the last word to the far end, then to the observer."""
        self.is_over = True
        self.state = SessionState.TERMINATED
        for part in (self.incoming, self.outgoing, self._changes, self._timer):
            if part is not None:
                part.stop()
        last_act()  # first: the observer may do anything
        # Its transactions keep the session for 64*T1 (17.1.3 of RFC 6026), not the call above it.
        observer, self.observer = self.observer, NOBODY
        observer.on_ended(end)

    def release(self) -> None:
        """Let go of the session: nothing more will come of it."""
        self.stop_answer()
        self.host.forget(self)
        # No circle of references is left for the garbage collector.
        self.incoming = self.outgoing = self._changes = self._timer = None

    def send_bye(self, code: Code) -> None:
        """Send the BYE; whatever is said to it, the session is over (15.1.1)."""
        self._bye_after_ack = None
        self.stop_answer()
        dialog = self.usage.dialog
        self.client.send(
            dialog,
            dialog.request("BYE", headers=[reason_header(code)]),
            self._on_bye_response,
            lambda _code: self.release(),
        )

    def _bye(self, code: Code) -> None:
        if self._answer is not None:
            self._bye_after_ack = code  # 15: the callee waits for the ACK
        else:
            self.send_bye(code)

    def _on_bye_response(self, response: Response) -> None:
        if response.status >= 200:
            self.release()

    def _leave(self, code: Code) -> None:
        """Give up an INVITE of ours that is still open; else there is nothing to say."""
        if self.awaits_answer and self.outgoing is not None:
            self.outgoing.withdraw(code)
        else:
            self.release()


InDialogHandler = Callable[[InviteSession, ServerTransaction, Dialog], None]
