"""Requests and responses the tests of this room send around."""

from cti.sip.messages.message import Request, Response, response_to

CALLER = "<sip:13900000000@carrier.example>;tag=caller"
HOTLINE = "<sip:95598@grid.example>"


def request(
    method: str = "OPTIONS",
    *,
    branch: str = "z9hG4bKtest",
    sent_by: str = "192.0.2.1:5060",
    transport: str = "UDP",
    call_id: str = "call-1",
    number: int = 1,
    via: bool = True,
) -> Request:
    built = Request(
        method,
        "sip:95598@grid.example",
        [("From", CALLER), ("To", HOTLINE), ("Call-ID", call_id), ("CSeq", f"{number} {method}")],
    )
    if via:
        built.headers.prepend("Via", f"SIP/2.0/{transport} {sent_by};branch={branch}")
    return built


def ack(invite: Request, response: Response | None = None) -> Request:
    built = Request("ACK", invite.uri)
    built.headers.copy_from(invite.headers, "Via", "From", "To", "Call-ID")
    if response is not None:
        built.headers.copy_from(response.headers, "To")
    built.headers.set("CSeq", f"{invite.cseq[0]} ACK")
    return built


def answer(to: Request, status: int) -> Response:
    return response_to(to, status, to_tag=None if status == 100 else "callee")
