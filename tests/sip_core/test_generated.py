"""Every message of the grammar is understood, and written back so that it means the same."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cti.sip.messages.headers import SINGLE
from cti.sip.messages.message import (
    Malformed,
    Request,
    Response,
    SipSyntaxError,
    parse_message,
    response_to,
)
from cti.sip.messages.uri import NameAddr, SipUri, Via
from tests.sip_core.generated import Made, requests, sip_uris, token

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)


def parsed(data: bytes) -> Request:
    message = parse_message(data)
    assert isinstance(message, Request)
    return message


@given(requests())
@settings(max_examples=200, deadline=None, suppress_health_check=SLOW)
def test_a_generated_request_means_what_it_says(made: Made) -> None:
    message = parsed(made.data)
    assert (message.method, message.uri, message.body) == (made.method, made.uri, made.body)
    assert message.cseq == (made.number, made.method)
    assert message.call_id == made.call_id
    assert message.from_.display.encode(message.encoding) == made.from_display
    assert (message.from_.tag, message.to.tag) == (made.from_tag, made.to_tag)
    assert [Via.parse(each).branch for each in message.headers.get_all("Via")] == made.vias
    contacts = message.headers.get_all("Contact")
    assert [NameAddr.parse(each).uri_text for each in contacts] == made.contacts
    assert message.headers.get_all("Supported") == made.options
    assert int(message.headers.get("Max-Forwards") or "") == made.forwards
    assert (message.headers.get("X-Unknown") or "").encode(message.encoding) == made.unknown


@given(requests())
@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
def test_what_is_written_reads_the_same(made: Made) -> None:
    message = parsed(made.data)
    written = message.to_bytes()
    again = parsed(written)
    assert again.to_bytes() == written
    for each in (message, again):
        each.headers.remove("Content-Length")
    assert again == message


@given(requests())
@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
def test_a_response_to_it_is_one_for_its_sender(made: Made) -> None:
    asked = parsed(made.data)
    answer = parse_message(response_to(asked, 200, to_tag="ours").to_bytes())
    assert isinstance(answer, Response)
    assert answer.top_via == asked.top_via
    assert (answer.call_id, answer.cseq, answer.from_) == (asked.call_id, asked.cseq, asked.from_)
    assert answer.to.tag == (made.to_tag or "ours")


@given(requests(), st.sampled_from(sorted(SINGLE)), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
def test_a_second_value_of_a_single_header_is_refused(
    made: Made, name: str, data: st.DataObject
) -> None:
    message = parsed(made.data)
    line = f"{name}: {message.headers.first_row(name) or 'text/plain'}\r\n".encode(message.encoding)
    if name == "Content-Type":
        line += line
    head, gap, body = message.to_bytes().partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    at = data.draw(st.integers(1, len(lines)))
    doubled = b"\r\n".join([*lines[:at], line.rstrip(b"\r\n"), *lines[at:]]) + gap + body
    with pytest.raises(SipSyntaxError) as caught:
        parse_message(doubled)
    assert (caught.value.kind, caught.value.status) == (Malformed.HEADER_REPEATED, 400)
    assert (caught.value.partial is None) == (made.method == "ACK")


@given(sip_uris())
def test_a_uri_is_written_so_that_it_means_the_same(text: str) -> None:
    uri = SipUri.parse(text)
    assert SipUri.parse(str(uri)) == uri
    assert str(SipUri.parse(str(uri))) == str(uri)


@given(token, token)
def test_names_and_hosts_have_no_case(name: str, value: str) -> None:
    one = SipUri.parse(f"sip:a@Example.COM;{name.upper()}={value}")
    assert one == SipUri.parse(f"SIP:a@example.com;{name.lower()}={value}")
    assert SipUri.parse("sip:A@b") != SipUri.parse("sip:a@b")
