"""What a session does with each request inside its dialog (RFC 3261 12.2.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cti.sip.endpoint import ServerTransaction
from cti.sip.messages.message import Request, Response, response_to
from cti.sip.messages.session_description import SDP_TYPE
from cti.sip.sessions.offer_answer import InviteUsage

if TYPE_CHECKING:
    from cti.sip.sessions.session import InviteSession

TALK_EVENT = "talk"
_INFO_TYPES = ("application/dtmf-relay", "application/dtmf")


def _on_bye(session: InviteSession, server: ServerTransaction, _usage: InviteUsage) -> None:
    server.respond(response_to(server.request, 200))
    session.hung_up(server.request)


def _on_change(session: InviteSession, server: ServerTransaction, usage: InviteUsage) -> None:
    session.changes.receive(server, usage)


def _on_prack(session: InviteSession, server: ServerTransaction, usage: InviteUsage) -> None:
    if session.incoming is not None:
        session.incoming.receive_prack(server, usage)
    else:
        server.respond(response_to(server.request, 481))


def _on_info(session: InviteSession, server: ServerTransaction, _usage: InviteUsage) -> None:
    request = server.request
    refusal = _info_refusal(request)
    server.respond(refusal or response_to(request, 200))
    if refusal is None and request.body:
        session.observer.on_info(request.headers.get("Content-Type") or "", request.body)


def _info_refusal(request: Request) -> Response | None:
    """Inspect an INFO: keys are taken, and an empty one that only asks whether we live."""
    if (request.headers.get("Info-Package") or "").strip():
        # RFC 6086 4.2.2: no package was offered; an empty Recv-Info says so.
        return response_to(request, 469, headers=[("Recv-Info", "")])
    kind = (request.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if request.body and kind not in _INFO_TYPES:
        return response_to(request, 415, headers=[("Accept", ", ".join(_INFO_TYPES))])
    return None


def _on_notify(session: InviteSession, server: ServerTransaction, usage: InviteUsage) -> None:
    event = (server.request.headers.get("Event") or "").partition(";")[0].strip().lower()
    if event == TALK_EVENT:
        server.respond(response_to(server.request, 200))
        session.observer.on_talk()
    elif (other := session.host.in_dialog.get("NOTIFY")) is not None:
        other(session, server, usage.dialog)
    else:
        headers = [("Allow-Events", TALK_EVENT)]
        server.respond(response_to(server.request, 489, headers=headers))


def _on_options(session: InviteSession, server: ServerTransaction, _usage: InviteUsage) -> None:
    headers = (*session.host.capabilities, ("Accept", SDP_TYPE))
    server.respond(response_to(server.request, 200, headers=headers))


HANDLERS: dict[str, Callable[[InviteSession, ServerTransaction, InviteUsage], None]] = {
    "BYE": _on_bye,
    "INFO": _on_info,
    "INVITE": _on_change,
    "NOTIFY": _on_notify,
    "OPTIONS": _on_options,
    "PRACK": _on_prack,
    "UPDATE": _on_change,
}
"""The methods of the INVITE usage; others are served by modules of their own."""
