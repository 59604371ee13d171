"""SIP statuses and Q.850 causes on one side, the error catalogue on the other."""

from __future__ import annotations

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


def code_of_status(status: int) -> Code:
    """Return what a final response other than 2xx means to us."""
    return _CODES.get(status, Code.FAR_END_REFUSED)


def refusal_status(code: Code) -> int:
    """Return the status that refuses a call for this reason."""
    status = CATALOGUE[code].sip_status
    # A normal ending carries no refusal of its own; it still cannot leave an INVITE open.
    return status if status >= 300 else 480


def reason_header(code: Code) -> tuple[str, str]:
    """Return the Reason header of a CANCEL, BYE or refusal (RFC 3326)."""
    return "Reason", f"Q.850;cause={CATALOGUE[code].q850_cause}"
