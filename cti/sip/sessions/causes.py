"""SIP statuses and Q.850 causes on one side, the error catalogue on the other."""

from __future__ import annotations

from cti.sip.messages.message import Request, Response
from cti.sip.messages.syntax import SipSyntaxError, split_outside
from domain.failures import CATALOGUE, Code

_CODES = {
    401: Code.AUTHENTICATION_FAILED,
    407: Code.AUTHENTICATION_FAILED,
    408: Code.SIP_TIMEOUT,
    430: Code.PHONE_UNREACHABLE,
    480: Code.NO_ANSWER,
    486: Code.BUSY,
    487: Code.CALLER_ABANDONED,
    488: Code.NO_COMMON_CODEC,
    600: Code.BUSY,
    603: Code.DECLINED,
    606: Code.NO_COMMON_CODEC,
}
# Causes that say more than the status gateways send with them (RFC 3398 8.2.6.1).
_CODES_OF_CAUSES = {
    17: Code.BUSY,
    18: Code.NO_ANSWER,
    19: Code.NO_ANSWER,
    21: Code.DECLINED,
}
_ANSWERED_ELSEWHERE = 26  # Q.850: non-selected user clearing


def code_of_status(status: int) -> Code:
    """Return what a final response other than 2xx means to us."""
    return Code.MOVED if 300 <= status < 400 else _CODES.get(status, Code.FAR_END_REFUSED)


def code_of_response(response: Response) -> Code:
    """Return what a refusal means; a status that says little is told apart by its Reason."""
    code = code_of_status(response.status)
    if code is not Code.FAR_END_REFUSED:
        return code
    return _CODES_OF_CAUSES.get(q850_cause_in(reason_text(response)), code)


def refusal_status(code: Code) -> int:
    """Return the status that refuses a call for this reason."""
    status = CATALOGUE[code].sip_status
    # A normal ending carries no refusal of its own; it still cannot leave an INVITE open.
    return status if status >= 300 else 480


def reason_header(code: Code) -> tuple[str, str]:
    """Return the Reason header of a CANCEL, BYE or refusal (RFC 3326)."""
    return "Reason", f"Q.850;cause={CATALOGUE[code].q850_cause}"


def refusal_headers(code: Code, offer: bytes = b"") -> list[tuple[str, str]]:
    """Return Reason, and beside a 488 the Warning that says what about the offer (20.43)."""
    headers = [reason_header(code)]
    if refusal_status(code) == 488:
        warning = (
            '305 - "Incompatible media format"'
            if b"m=audio" in offer
            else '304 - "Media type not available"'
        )
        headers.append(("Warning", warning))
    return headers


def reason_text(message: Request | Response) -> str:
    """Return the Reason headers as written."""
    return ", ".join(message.headers.rows("Reason"))


def q850_cause_in(text: str) -> int:
    """Return the cause that Reason headers tell (RFC 3326), 0 without one; Q.850 before SIP."""
    if "cause" not in text.lower():
        return 0
    try:
        values = split_outside(text, ",")
    except SipSyntaxError:
        return 0
    causes = dict(map(_cause_of, reversed(values)))
    if 0 < causes.get("q.850", 0) < 128:
        return causes["q.850"]
    status = causes.get("sip", 0)
    if 200 <= status < 300:
        return _ANSWERED_ELSEWHERE
    return CATALOGUE[code_of_status(status)].q850_cause if 300 <= status < 700 else 0


def _cause_of(value: str) -> tuple[str, int]:
    protocol, *params = value.split(";")
    for param in params:
        name, _, text = param.partition("=")
        text = text.strip()
        if name.strip().lower() == "cause" and text.isascii() and text.isdigit() and len(text) < 4:
            return protocol.strip().lower(), int(text)
    return protocol.strip().lower(), 0


def retry_after_s(response: Response) -> int:
    """Return the seconds of Retry-After (20.33), 0 without one that can be read."""
    text = (response.headers.get("Retry-After") or "").partition("(")[0].partition(";")[0].strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
