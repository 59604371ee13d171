"""REFER in the dialog of a call: transfers, and what becomes of them (RFC 3515, 4488, 7647)."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from cti.sip.endpoint import ServerTransaction, SipEndpoint
from cti.sip.events.notifier import Notifier
from cti.sip.events.refer_to import refer_to_of, referred_by_of
from cti.sip.messages.message import REASON_PHRASES, Request, SipSyntaxError, response_to
from cti.sip.sessions.causes import reason_header, refusal_status
from cti.sip.sessions.dialog import Dialog
from cti.sip.sessions.session import InviteSession, SessionState
from cti.sip.user_agent import UserAgent
from domain.failures import Code

_SIPFRAG = "message/sipfrag;version=2.0"
_EXPIRES_S = 180
"""Longer than a new call rings."""
_EXTENSION = "norefersub"


class SessionReferral:
    """One REFER of a session, until the new call has its final status; a `Referral`.

    It outlives the session: a phone that hangs up after its 202 still hears how it went.
    """

    def __init__(
        self, endpoint: SipEndpoint, server: ServerTransaction, dialog: Dialog, *, event_id: str
    ) -> None:
        request = server.request
        asked = refer_to_of(request)
        self.target = asked.target
        self.replaces = None if asked.replaces is None else asked.replaces[:3]
        self.referred_by = referred_by_of(request)
        self.headers = asked.headers
        """Headers of the Refer-To that the new INVITE shall carry, such as User-To-User."""
        self.event_id = event_id
        self._server: ServerTransaction | None = server
        self._dialog = dialog
        self._silent = _is_silent(request)
        self._status = 100
        self._over = False
        self._notifier = Notifier(
            endpoint,
            dialog,
            event=f"refer;id={event_id}" if event_id else "refer",
            content_type=_SIPFRAG,
            state=self._sipfrag,
            on_over=self._on_over,
        )
        # A client gives a request up after 64*T1; it must have its answer well before (RFC 4320).
        self._deadline = asyncio.get_running_loop().call_later(
            endpoint.timers.timeout_s / 4, self.refuse, Code.INTERNAL
        )

    @property
    def is_over(self) -> bool:
        """Whether it was refused, or nothing more will be told of it."""
        return self._over

    @property
    def _is_accepted(self) -> bool:
        return self._server is None and not self._over

    def accept(self) -> None:
        """Answer 202 and tell that the transfer is tried; 200 alone for norefersub (RFC 4488)."""
        server = self._take_server()
        if server is None:
            return
        headers = [("Contact", self._dialog.contact)]
        if self._silent:
            headers.append(("Refer-Sub", "false"))
            self._over = True
        status = 200 if self._silent else 202
        server.respond(response_to(server.request, status, headers=headers))
        if not self._silent:
            self._notifier.activate(_EXPIRES_S)

    def refuse(self, code: Code) -> None:
        """Answer by the catalogue's status; nothing follows."""
        server = self._take_server()
        if server is not None:
            self._over = True
            headers = [reason_header(code)]
            server.respond(response_to(server.request, refusal_status(code), headers=headers))

    def progress(self, status: int) -> None:
        """Tell a provisional status of the new call; nothing before `accept`."""
        if self._is_accepted and status != self._status:
            self._status = status
            self._notifier.changed()

    def finish(self, status: int) -> None:
        """Tell the final status of the new call; ends the implicit subscription."""
        if self._is_accepted:
            self._status = status
            self._notifier.end("noresource")

    def resubscribe(self, server: ServerTransaction, expires_s: int) -> None:
        """Take a SUBSCRIBE that refreshes or ends the implicit subscription (RFC 3515 2.4.4)."""
        granted_s = min(expires_s, _EXPIRES_S)
        headers = [("Expires", str(granted_s)), ("Contact", self._dialog.contact)]
        server.respond(response_to(server.request, 200, headers=headers))
        if granted_s:
            self._notifier.activate(granted_s)
        else:
            self._notifier.end("timeout")

    def _take_server(self) -> ServerTransaction | None:
        self._deadline.cancel()
        server, self._server = self._server, None
        return server

    def _sipfrag(self, _sent: int) -> bytes:
        """Return the status line of the new call, and no header of it (RFC 3515 2.4.5)."""
        return f"SIP/2.0 {self._status} {REASON_PHRASES.get(self._status, '')}\r\n".encode()

    def _on_over(self) -> None:
        self._over = True


class _Referrals:
    """What a session was asked so far."""

    __slots__ = ("count", "latest")

    def __init__(self) -> None:
        self.count = 0
        self.latest: SessionReferral | None = None


class ReferService:
    """Serves REFER inside calls: observers of sessions get it as `on_refer`."""

    def __init__(self, user_agent: UserAgent) -> None:
        self._endpoint = user_agent.endpoint
        self._of_session: WeakKeyDictionary[InviteSession, _Referrals] = WeakKeyDictionary()
        user_agent.serve(
            "REFER",
            in_dialog=self._receive,
            out_of_dialog=_refuse_outside,
            event_packages=("refer",),
            extensions=(_EXTENSION,),
        )
        user_agent.serve("SUBSCRIBE", in_dialog=self._receive_subscribe)

    def _receive(self, session: InviteSession, server: ServerTransaction, dialog: Dialog) -> None:
        request = server.request
        asked = self._of_session.setdefault(session, _Referrals())
        asked.count += 1
        if session.state is not SessionState.CONFIRMED:
            server.respond(response_to(request, 403, "Answer The Call First"))
            return
        if asked.latest is not None and not asked.latest.is_over:
            server.respond(response_to(request, 491, "Another Transfer Is Under Way"))
            return
        # 2.4.6: the first REFER of a dialog needs no id, others have that of their CSeq.
        event_id = str(request.cseq[0]) if asked.count > 1 else ""
        try:
            referral = SessionReferral(self._endpoint, server, dialog, event_id=event_id)
        except SipSyntaxError as error:
            server.respond(response_to(request, error.status, error.reason))
            return
        asked.latest = referral
        session.observer.on_refer(referral)

    def _receive_subscribe(
        self, session: InviteSession, server: ServerTransaction, _dialog: Dialog
    ) -> None:
        request = server.request
        event = [each.strip() for each in (request.headers.get("Event") or "").split(";")]
        if event[0].lower() != "refer":
            # RFC 6665 4.5.1: other subscriptions have dialogs of their own.
            server.respond(response_to(request, 489, headers=[("Allow-Events", "refer")]))
            return
        event_id = next((each[3:] for each in event[1:] if each.lower().startswith("id=")), "")
        asked = self._of_session.get(session)
        referral = asked.latest if asked is not None else None
        if referral is None or referral.is_over or referral.event_id != event_id:
            server.respond(response_to(request, 481))
            return
        expires = (request.headers.get("Expires") or str(_EXPIRES_S)).strip()
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 10):
            server.respond(response_to(request, 400, "Malformed Expires"))
            return
        referral.resubscribe(server, int(expires))


def _is_silent(request: Request) -> bool:
    """Whether the sender wants no NOTIFYs (RFC 4488 4)."""
    value = request.headers.get("Refer-Sub") or ""
    return value.partition(";")[0].strip().lower() == "false"


def _refuse_outside(server: ServerTransaction) -> None:
    """Refuse what belongs to no call: anybody could make us call anybody (RFC 3515 5.1)."""
    status = 403 if server.request.to.tag is None else 481
    server.respond(response_to(server.request, status))
