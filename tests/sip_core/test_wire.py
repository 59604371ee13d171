"""Messages as files: what odd but valid ones mean, and how broken ones are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cti.sip.messages.message import Malformed, Request, Response, SipSyntaxError, parse_message
from cti.sip.messages.uri import NameAddr, SipUri

WIRE = Path(__file__).parent / "wire"

Check = Callable[[Request | Response], bool]


def uri(value: NameAddr) -> SipUri:
    assert isinstance(value.uri, SipUri)
    return value.uri


def target(message: Request | Response) -> SipUri:
    assert isinstance(message, Request)
    assert isinstance(message.target, SipUri)
    return message.target


VALID: dict[str, list[Check]] = {
    "tortuous": [
        lambda m: m.from_.display == 'Wang \\"Fang',
        lambda m: (m.from_.tag, m.to.tag) == ("f88", "t77"),
        lambda m: m.cseq == (9, "INVITE"),
        lambda m: (
            (m.top_via.host, m.top_via.port, m.top_via.branch)
            == ("gw.carrier.example", 4000, "z9hG4bKtort")
        ),
        lambda m: len(m.headers.get_all("via")) == 3,
        lambda m: (
            [NameAddr.parse(c).display for c in m.headers.get_all("Contact")]
            == ['Quoted , "one"', ""]
        ),
        lambda m: m.headers.get("X-New-Thing") == "one ;two ;;;three four",
        lambda m: m.body == b"v=0\r\n",
    ],
    "compact_forms": [
        lambda m: m.call_id == "compact@carrier.example",
        lambda m: m.from_.tag == "f2",
        lambda m: m.headers.get_all("Supported") == ["timer", "100rel"],
        lambda m: m.headers.get("Subject") == "bill",
        lambda m: b"\r\nCall-ID: compact@" in m.to_bytes(),
    ],
    "utf8_display": [
        lambda m: m.from_.display == "国网客服 95598",
        lambda m: m.to.display == "客服中心",
    ],
    "gbk_display": [
        lambda m: m.from_.tag == "f4",
        lambda m: "电力".encode("gbk") in m.to_bytes(),
    ],
    "quoted_separators": [
        lambda m: m.from_.display == 'Li, Wei; "room 3" <hall>',
        lambda m: len(m.headers.get_all("Contact")) == 2,
    ],
    "ipv6": [
        lambda m: (target(m).host, target(m).port) == ("2001:db8::9", 5070),
        lambda m: target(m).params == {"transport": "tcp"},
        lambda m: (m.top_via.host, m.top_via.port) == ("2001:db8::1", 5064),
        lambda m: uri(m.from_).host == "2001:db8::1",
    ],
    "escaped_user": [
        lambda m: target(m).user == "95598",
        lambda m: uri(m.from_).user == "#200*",
        lambda m: str(uri(m.from_)) == "sip:%23200*@carrier.example",
        lambda m: uri(m.to).user == "nul%00null",
        lambda m: str(uri(m.to)) == "sip:nul%00null@grid.example",
    ],
    "semicolon_user": [
        lambda m: target(m).user == "95598;phone-context=cn",
        lambda m: target(m).params == {"user": "phone"},
    ],
    "unusual_method": [lambda m: m.cseq == (7, "!odd*Method_%20`'")],
    "lf_only": [lambda m: m.call_id == "w1@carrier.example"],
    "nul_in_quoted_pair": [lambda m: m.to.display == "bell \x07 nul \ufffd"],
    "nul_in_quoted_pair_gbk": [lambda m: m.to.uri_text == "\\\xbf sip:95598@grid.example"],
    "short_content_length": [lambda m: m.body == b"abc"],
    "no_content_length": [lambda m: m.body.decode() == "正文"],
    "tel_uri": [
        lambda m: isinstance(m, Request) and m.target == "tel:+8695598",
        lambda m: m.from_.uri == "tel:+8613900000000;phone-context=cn",
        lambda m: m.from_.tag == "f8",
    ],
    "unknown_scheme": [lambda m: isinstance(m, Request) and m.target == "pigeon:loft/95598"],
    "leading_line_breaks": [lambda m: m.cseq[1] == "OPTIONS"],
    "no_branch": [lambda m: m.top_via.branch == ""],
    "long_values": [lambda m: len(uri(m.from_).user) == 500],
    "many_vias": [
        lambda m: len(m.headers.get_all("Via")) == 40,
        lambda m: m.top_via.host == "hop0.example",
    ],
    "response_without_reason": [lambda m: isinstance(m, Response) and m.reason == ""],
    "response_utf8_reason": [lambda m: isinstance(m, Response) and m.reason == "用户忙"],
    "response_unknown_status": [lambda m: isinstance(m, Response) and m.status == 477],
    "lower_case_version": [lambda m: isinstance(m, Request)],
}

# Why each is refused, and the status of the answer; None: dropped.
INVALID: dict[str, tuple[Malformed, int | None]] = {
    "bad_version": (Malformed.VERSION, 505),
    "bad_http": (Malformed.NOT_SIP, None),
    "bad_random": (Malformed.NOT_SIP, None),
    "bad_missing_call_id": (Malformed.HEADER_MISSING, 400),
    "bad_missing_from": (Malformed.HEADER_MISSING, 400),
    "bad_missing_via": (Malformed.HEADER_MISSING, None),
    "bad_cseq_method": (Malformed.HEADER_VALUE, 400),
    "bad_cseq_number": (Malformed.HEADER_VALUE, 400),
    "bad_cseq_range": (Malformed.HEADER_VALUE, 400),
    "bad_content_length_negative": (Malformed.CONTENT_LENGTH, 400),
    "bad_content_length_beyond": (Malformed.CONTENT_LENGTH, 400),
    "bad_content_length_twice": (Malformed.HEADER_REPEATED, 400),
    "bad_two_call_ids": (Malformed.HEADER_REPEATED, 400),
    "bad_two_from": (Malformed.HEADER_REPEATED, 400),
    "bad_space_in_uri": (Malformed.START_LINE, 400),
    "bad_trailing_space": (Malformed.START_LINE, 400),
    "bad_angle_uri": (Malformed.URI, 400),
    "bad_uri_host": (Malformed.URI, 400),
    "bad_uri_two_ats": (Malformed.URI, 400),
    "bad_uri_port": (Malformed.URI, 400),
    "bad_unclosed_quote": (Malformed.HEADER_VALUE, 400),
    "bad_from_without_uri": (Malformed.HEADER_VALUE, 400),
    "bad_tag_without_value": (Malformed.HEADER_VALUE, 400),
    "bad_empty_tag": (Malformed.HEADER_VALUE, 400),
    "bad_header_line": (Malformed.HEADER_LINE, 400),
    "bad_header_name": (Malformed.HEADER_LINE, 400),
    "bad_nul": (Malformed.NOT_SIP, None),
    "bad_via": (Malformed.HEADER_VALUE, 400),
    "bad_via_version": (Malformed.HEADER_VALUE, 400),
    "bad_two_tags": (Malformed.HEADER_VALUE, 400),
    "bad_max_forwards": (Malformed.HEADER_VALUE, 400),
    "bad_no_empty_line": (Malformed.HEADER_LINE, 400),
    "bad_status_long": (Malformed.START_LINE, None),
    "bad_status_range": (Malformed.START_LINE, None),
    "bad_response_version": (Malformed.VERSION, None),
    "bad_response_missing_to": (Malformed.HEADER_MISSING, None),
    "bad_too_many_headers": (Malformed.HEADER_LINE, 400),
    "bad_long_line": (Malformed.TOO_LARGE, 513),
    "bad_empty_call_id": (Malformed.HEADER_VALUE, 400),
    "bad_only_start_line": (Malformed.HEADER_MISSING, None),
    "bad_ack": (Malformed.HEADER_VALUE, None),
}


def test_every_file_has_its_expectation() -> None:
    assert {file.stem for file in WIRE.glob("*.sip")} == VALID.keys() | INVALID.keys()


@pytest.mark.parametrize("name", VALID)
def test_valid(name: str) -> None:
    message = parse_message((WIRE / f"{name}.sip").read_bytes())
    for number, check in enumerate(VALID[name]):
        assert check(message), f"check {number}"
    again = parse_message(message.to_bytes())
    again.headers.remove("Content-Length")
    message.headers.remove("Content-Length")
    assert again == message


@pytest.mark.parametrize("name", INVALID)
def test_invalid(name: str) -> None:
    with pytest.raises(SipSyntaxError) as caught:
        parse_message((WIRE / f"{name}.sip").read_bytes())
    kind, status = INVALID[name]
    error = caught.value
    assert (error.kind, error.status if error.partial else None) == (kind, status)
