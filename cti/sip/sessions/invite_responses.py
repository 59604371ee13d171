"""What the responses to our INVITEs bring: answers, and offers to be answered (RFC 3261 13.2.1).

The same for the first INVITE and for later ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cti.sip.messages.message import Request, Response
from cti.sip.messages.session_description import SDP_TYPE, description_of
from cti.sip.sessions.offer_answer import InviteUsage
from cti.sip.sessions.provisional import is_new, rack
from domain.failures import Code

if TYPE_CHECKING:
    from cti.sip.sessions.session import InviteSession


def take_provisional(
    session: InviteSession, usage: InviteUsage, request: Request, response: Response
) -> bytes | None:
    """Take a response above 100; acknowledge it when it is reliable (RFC 3262 4).

    Return the far end's answer to our offer, final or not; None when the response is not new.
    """
    is_reliable = is_new(usage, response)
    if is_reliable is False:
        return None
    sdp = description_of(response) if not usage.is_described else b""
    if is_reliable is None:
        if request.body:
            usage.preview = sdp or usage.preview
            return sdp
        return b""  # an offer has to come reliably
    reply: bytes | Code = b""
    if sdp and request.body:
        usage.exchange.take_answer(sdp)
        usage.is_described = True
    elif sdp:
        reply = _answer_to(session, usage, sdp)
        sdp = b""
    answer = reply if isinstance(reply, bytes) else b""
    prack = usage.dialog.request(
        "PRACK",
        headers=[rack(request, response)],
        body=answer,
        content_type=SDP_TYPE if answer else None,
    )
    session.client.send(usage.dialog, prack)
    if isinstance(reply, Code):
        session.end(reply)
    return sdp


def take_2xx(
    session: InviteSession,
    usage: InviteUsage,
    request: Request,
    response: Response,
    *,
    is_refresh: bool = False,
) -> None:
    """Acknowledge a 2xx and tell what it brings; a refresh that changes nothing is not told."""
    exchange = usage.exchange
    before = exchange.remote
    sdp = b""
    reply: bytes | Code = b""
    if usage.is_described:
        # It was answered by a reliable response; an UPDATE may have changed it since.
        sdp = exchange.remote if exchange.local == request.body else b""
    elif request.body:
        sdp = description_of(response) or usage.preview
        if sdp:
            exchange.take_answer(sdp)
        else:
            reply = Code.SDP_MALFORMED
    else:
        offer = description_of(response)
        reply = _answer_to(session, usage, offer) if offer else Code.SDP_MALFORMED
    session.send_ack(usage, request, reply if isinstance(reply, bytes) else b"")
    if isinstance(reply, Code):
        # 13.2.2.4: what cannot be answered is acknowledged all the same, then ended.
        session.fail(reply)
    elif not session.is_over:
        if not is_refresh or sdp != before:
            session.observer.on_answered(sdp)
        session.proceed()


def _answer_to(session: InviteSession, usage: InviteUsage, offer: bytes) -> bytes | Code:
    """Return our answer to the offer that a response brings."""
    session.usage = usage
    usage.is_described = True
    usage.exchange.take_offer(offer)
    answer = session.observer.on_reoffer(offer)
    if isinstance(answer, Code):
        usage.exchange.roll_back()
    else:
        usage.exchange.send_answer(answer)
    return answer
