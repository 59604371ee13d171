"""Which bodies of SIP messages are session descriptions (RFC 3261 13.2.1, 20.11, 20.15)."""

from __future__ import annotations

from cti.sip.messages.message import Request, Response, response_to

SDP_TYPE = "application/sdp"


def body_refusal(request: Request) -> Response | None:
    """Refuse a body that is neither SDP nor something the sender calls optional (8.2.3)."""
    if not request.body or _is_optional(request):
        return None
    if not _is_sdp(request):
        return response_to(request, 415, headers=[("Accept", SDP_TYPE)])
    if _is_encoded(request):
        headers = [("Accept", SDP_TYPE), ("Accept-Encoding", "identity")]
        return response_to(request, 415, headers=headers)
    return None


def answer_refusal(request: Request) -> Response | None:
    """Refuse an INVITE whose Accept leaves no room for our SDP (20.1, RFC 4475 3.3.15)."""
    if request.headers.first_row("Accept") is None:
        return None
    for each in request.headers.get_all("Accept"):
        if each.partition(";")[0].strip().lower() in {SDP_TYPE, "application/*", "*/*"}:
            return None
    return response_to(request, 406)


def description_of(message: Request | Response) -> bytes:
    """Return the SDP, empty when there is none."""
    if not message.body or not _is_sdp(message) or _is_encoded(message):
        return b""
    return message.body


def _is_sdp(message: Request | Response) -> bool:
    kind = message.headers.first_row("Content-Type")
    return kind is not None and (
        kind == SDP_TYPE or kind.partition(";")[0].strip().lower() == SDP_TYPE
    )


def _is_encoded(message: Request | Response) -> bool:
    if message.headers.first_row("Content-Encoding") is None:
        return False
    encodings = message.headers.rows("Content-Encoding")
    return any(each.strip().lower() not in {"", "identity"} for each in encodings)


def _is_optional(message: Request | Response) -> bool:
    disposition = message.headers.first_row("Content-Disposition") or ""
    return "handling=optional" in disposition.replace(" ", "").lower()
