"""How a client answers 401 and 407: the same request again, with credentials (RFC 3261 22.2)."""

from __future__ import annotations

from cti.sip.authentication.digest import Credentials, authorization
from cti.sip.messages.message import Request, Response

_HEADERS = {
    401: ("WWW-Authenticate", "Authorization"),
    407: ("Proxy-Authenticate", "Proxy-Authorization"),
}
MAX_ATTEMPTS = 3
"""The request, once more for the challenge, and once more for a stale nonce."""


def authorized_again(
    request: Request, response: Response, credentials: Credentials | None, *, cseq: int
) -> Request | None:
    """Return the request to send after a challenge; None when it cannot or should not be met."""
    names = _HEADERS.get(response.status)
    if names is None or credentials is None:
        return None
    challenge, answer = names
    values = response.headers.get_all(challenge)
    refused_before = answer in request.headers
    if refused_before and not any("stale=true" in each.lower() for each in values):
        return None  # 22.3: the same credentials would be refused again
    value = authorization(values, method=request.method, uri=request.uri, credentials=credentials)
    if value is None:
        return None
    again = request.copy()
    again.headers.remove("Via")
    again.headers.set("CSeq", f"{cseq} {request.method}")
    again.headers.set(answer, value)
    return again
