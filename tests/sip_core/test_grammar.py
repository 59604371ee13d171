"""URIs, addresses, Via, headers and the writer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cti.sip.messages.headers import Headers, canonical_name
from cti.sip.messages.message import (
    Request,
    Response,
    SipSyntaxError,
    new_tag,
    parse_message,
    response_to,
)
from cti.sip.messages.syntax import quote, split_outside, unquote
from cti.sip.messages.uri import NameAddr, SipUri, Via, parse_uri, without_headers
from tests.sip_core.messages import request


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("sip:95598@grid.example", SipUri("sip", "95598", "grid.example")),
        ("SIP:Bo@GRID.example:5070", SipUri("sip", "Bo", "grid.example", 5070)),
        ("sips:grid.example;lr", SipUri("sips", "", "grid.example", None, {"lr": None})),
        ("sip:a:secret@b", SipUri("sip", "a", "b", password="secret")),
        (
            "sip:a@b;maddr=1.2.3.4;Transport=TCP?Subject=x%20y&Priority=urgent",
            SipUri(
                "sip",
                "a",
                "b",
                None,
                {"maddr": "1.2.3.4", "transport": "TCP"},
                "Subject=x%20y&Priority=urgent",
            ),
        ),
        ("sip:%61%40b@c", SipUri("sip", "a@b", "c")),
        ("sip:a%ffb@c", SipUri("sip", "a%ffb", "c")),
        ("sip:%E5%AE%A2@c", SipUri("sip", "客", "c")),
        ("sip:[::1]:5060", SipUri("sip", "", "::1", 5060)),
        ("sip:a_b@host_name", SipUri("sip", "a_b", "host_name")),
    ],
)
def test_uri(text: str, uri: SipUri) -> None:
    assert SipUri.parse(text) == uri
    assert SipUri.parse(str(uri)) == uri


@pytest.mark.parametrize(
    "text",
    [
        "", "sip:", "tel:1", "sip:@b", "sip:a@", "sip:a@b@c", "sip:a b@c", "sip:a@b:x", "sip:a@b:0",
        "sip:a@b:65536", "sip:a@[::1", "sip:a@[zz]", "sip:a@b;x=1;X=2", "sip:a@b\r\nVia: x",
        "sip:a@b>", 'sip:"a"@b', "sip:a@b\u2028", "sip:a@[fe80::1%eth0]", "sip:a@b:१",
        "sip:a@[::1]x",
    ],
)  # fmt: skip
def test_broken_uri(text: str) -> None:
    with pytest.raises(SipSyntaxError):
        SipUri.parse(text)
    assert parse_uri(text) == text


@given(
    user=st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="%"), min_size=1),
    host=st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True),
    port=st.none() | st.integers(1, 65535),
)
def test_any_printable_user_survives(user: str, host: str, port: int | None) -> None:
    uri = SipUri("sip", user, host, port, {"lr": None})
    assert SipUri.parse(str(uri)) == uri


@pytest.mark.parametrize(
    ("text", "display", "uri", "tag"),
    [
        ("<sip:a@b>", "", "sip:a@b", None),
        ("sip:a@b;tag=1", "", "sip:a@b", "1"),
        ("Wang <sip:a@b;lr>;tag=2;x", "Wang", "sip:a@b;lr", "2"),
        ('"A \\"B\\"<x>;y"<sip:a@b>;TAG=3', 'A "B"<x>;y', "sip:a@b", "3"),
        ("two words<tel:110>", "two words", "tel:110", None),
        ("< sip:a@b >", "", "sip:a@b", None),
        ('"" <sip:a@b>;', "", "sip:a@b", None),
    ],
)
def test_name_addr(text: str, display: str, uri: str, tag: str | None) -> None:
    address = NameAddr.parse(text)
    assert (address.display, str(address.uri), address.tag) == (display, uri, tag)
    assert NameAddr.parse(str(address)) == address
    assert address.with_tag("new").tag == "new"


@pytest.mark.parametrize(
    "text", ["", "a", "<a>", '"a" sip:a@b', '"a', "<sip:a@b", "a, b <sip:a@b>", "<sip:a@b> x"]
)
def test_broken_name_addr(text: str) -> None:
    with pytest.raises(SipSyntaxError):
        NameAddr.parse(text)


def test_via() -> None:
    via = Via.parse("SIP/2.0/UDP [2001:DB8::1]:5061;branch=z9hG4bK1;rport")
    assert (via.transport, via.host, via.port, via.branch) == (
        "UDP",
        "2001:db8::1",
        5061,
        "z9hG4bK1",
    )
    assert str(via) == "SIP/2.0/UDP [2001:db8::1]:5061;branch=z9hG4bK1;rport"
    stamped = via.with_params(received="192.0.2.1", rport="9")
    assert str(stamped).endswith(";rport=9;received=192.0.2.1")
    assert Via.parse("SIP/2.0/TCP a").sent_by == Via.parse("SIP/2.0/TCP A:5060").sent_by


@given(st.text())
def test_quoting_is_reversible(text: str) -> None:
    assert unquote(quote(text)) == text
    assert split_outside(f"{quote(text)}, <a,b>", ",") == [quote(text), "<a,b>"]


def test_headers_without_regard_to_case_and_form() -> None:
    headers = Headers([("v", "one"), ("VIA", "two, three"), ("x-my-own", "a, b")])
    assert headers.get_all("Via") == ["one", "two", "three"]
    assert headers.get_all("X-My-Own") == ["a, b"]
    assert headers.get("V") == "one"
    assert headers.get("Route") is None
    assert headers.get_all("Route") == []
    assert "via" in headers
    headers.prepend("via", "zero")
    headers.replace_first("Via", "null")
    assert headers.get_all("Via")[0] == "null"
    headers.prepend("Route", "<sip:a;lr>")
    assert next(iter(headers.items())) == ("Route", "<sip:a;lr>")
    copy = headers.copy()
    headers.remove("Route")
    headers.set("To", "<sip:a@b>")
    assert "Route" in copy
    assert "To" not in copy
    assert [canonical_name(n) for n in ("CALL-id", "i", "cseq", "www-authenticate", "Foo-bAR")] == [
        "Call-ID", "Call-ID", "CSeq", "WWW-Authenticate", "Foo-Bar",
    ]  # fmt: skip


def test_replacing_the_first_of_a_shared_row_keeps_the_others() -> None:
    headers = Headers([("Via", "a, b"), ("Via", "c")])
    headers.replace_first("Via", "x")
    assert headers.get_all("Via") == ["x", "b", "c"]


@pytest.mark.parametrize("poison", ["a\r\nInjected: yes", "a\nb", "a\rb", "a\0b"])
def test_the_writer_refuses_injection(poison: str) -> None:
    headers = Headers()
    for put in (headers.add, headers.set, headers.prepend):
        with pytest.raises(ValueError, match="line break"):
            put("Subject", poison)
        with pytest.raises(ValueError, match="header name"):
            put(poison, "x")
    with pytest.raises(ValueError, match="Request-URI"):
        Request("INVITE", f"sip:{poison}")
    with pytest.raises(ValueError, match="token"):
        Request(poison, "sip:a@b")
    with pytest.raises(ValueError, match="reason"):
        Response(200, poison)
    with pytest.raises(ValueError, match="address"):
        NameAddr("sip:a@b", poison)
    with pytest.raises(ValueError, match="address"):
        NameAddr(f"sip:{poison}")


def test_a_response_echoes_what_it_must() -> None:
    asked = request("INVITE")
    asked.headers.add("Via", "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKlower")
    asked.headers.add("Timestamp", "54")
    trying = response_to(asked, 100)
    assert trying.to.tag is None
    assert trying.headers.get("Timestamp") == "54"
    ringing = response_to(asked, 180)
    assert ringing.headers.get_all("Via") == asked.headers.get_all("Via")
    assert ringing.to.tag
    assert response_to(asked, 404).to.tag == ringing.to.tag
    assert response_to(request("INVITE", number=2), 404).to.tag != ringing.to.tag
    assert response_to(asked, 200, to_tag="mine").to.tag == "mine"
    assert len({new_tag() for _ in range(100)}) == 100


def test_structured_headers_follow_their_text() -> None:
    message = request()
    assert message.from_.tag == "caller"
    message.headers.set("From", "<sip:x@y>;tag=other")
    assert message.from_.tag == "other"
    message.headers.remove("From")
    with pytest.raises(SipSyntaxError):
        _ = message.from_


def test_content_length_is_computed() -> None:
    message = request()
    message.headers.set("Content-Length", "999")
    message.body = "你好".encode()
    assert message.to_bytes().count(b"Content-Length") == 1
    again = parse_message(message.to_bytes())
    assert again.body.decode() == "你好"


@pytest.mark.parametrize(
    ("uri", "bare"),
    [
        ("sip:1001@a.example;lr?Subject=x&X=1", "sip:1001@a.example;lr"),
        ("sip:who?me@a.example", "sip:who?me@a.example"),
        ("sip:a.example?", "sip:a.example"),
        ("tel:+8695598?x", "tel:+8695598"),
    ],
)
def test_a_request_uri_has_no_headers(uri: str, bare: str) -> None:
    assert without_headers(uri) == bare
