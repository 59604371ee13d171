"""Which bodies of SIP messages are session descriptions (RFC 3261 13.2.1, 20.11, 20.15)."""

from __future__ import annotations

from cti.sip.message import Request, Response

SDP_TYPE = "application/sdp"


def describes(message: Request | Response) -> bool:
    """Whether the body can be taken: absent, SDP, or something the sender calls optional."""
    if not message.body or _is_optional(message):
        return True
    return _is_sdp(message) and not _is_encoded(message)


def description_of(message: Request | Response) -> bytes:
    """Return the SDP, empty when there is none."""
    if not message.body or not _is_sdp(message) or _is_encoded(message):
        return b""
    return message.body


def _is_sdp(message: Request | Response) -> bool:
    kind = message.headers.get("Content-Type")
    return kind is not None and (
        kind == SDP_TYPE or kind.partition(";")[0].strip().lower() == SDP_TYPE
    )


def _is_encoded(message: Request | Response) -> bool:
    encodings = message.headers.rows("Content-Encoding")
    return any(each.strip().lower() not in {"", "identity"} for each in encodings)


def _is_optional(message: Request | Response) -> bool:
    disposition = message.headers.get("Content-Disposition") or ""
    return "handling=optional" in disposition.replace(" ", "").lower()
