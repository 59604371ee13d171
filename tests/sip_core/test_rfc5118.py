"""The IPv6 torture messages of RFC 5118, each with the outcome its section asks for.

The Content-Length of the three messages with a body counts the CR LFs that SIP has and the RFC's
own archive has not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cti.sip.messages.message import Malformed, Request, SipSyntaxError, parse_message
from cti.sip.messages.uri import NameAddr, SipUri, Via
from tests.sip_core.torture import WIRE, Case, Message, Stack

FILES = WIRE / "rfc5118"


def target(message: Message) -> SipUri:
    assert isinstance(message, Request)
    assert isinstance(message.target, SipUri)
    return message.target


def contact(message: Message) -> SipUri:
    uri = NameAddr.parse(message.headers.get("Contact") or "").uri
    assert isinstance(uri, SipUri)
    return uri


def vias(message: Message) -> list[tuple[str, str, int | None]]:
    values = [Via.parse(each) for each in message.headers.get_all("Via")]
    return [(each.transport, each.host, each.port) for each in values]


CASES: dict[str, Case] = {
    "ipv6-good": Case(
        "4.1",
        401,
        checks=(
            lambda m: (target(m).host, target(m).port) == ("2001:db8::10", None),
            lambda m: vias(m) == [("UDP", "2001:db8::9:1", None)],
            lambda m: contact(m).host == "2001:db8::1",
        ),
        registered=200,
    ),
    "ipv6-bad": Case("4.2", 400, Malformed.URI),
    "port-ambiguous": Case(
        "4.3",
        401,
        checks=(lambda m: (target(m).host, target(m).port) == ("2001:db8::10:5070", None),),
        registered=200,
    ),
    "port-unambiguous": Case(
        "4.4",
        401,
        checks=(lambda m: (target(m).host, target(m).port) == ("2001:db8::10", 5070),),
        registered=200,
    ),
    "via-received-param-with-delim": Case(
        "4.5", 481, checks=(lambda m: m.top_via.params["received"] == "[2001:db8::9:255]",)
    ),
    "via-received-param-no-delim": Case(
        "4.5", 200, checks=(lambda m: m.top_via.params["received"] == "2001:db8::9:255",)
    ),
    "ipv6-in-sdp": Case("4.6", 200, checks=(lambda m: b"c=IN IP6 2001:db8::20\r\n" in m.body,)),
    "mult-ip-in-header": Case(
        "4.7",
        481,
        checks=(
            lambda m: (
                vias(m)
                == [
                    ("UDP", "2001:db8::9:1", 6050),
                    ("UDP", "192.0.2.1", None),
                    ("TCP", "2001:db8::9:255", None),
                ]
            ),
        ),
    ),
    "mult-ip-in-sdp": Case("4.8", 200, checks=(lambda m: m.body.count(b"c=IN IP") == 2,)),
    "ipv4-mapped-ipv6": Case(
        "4.9",
        200,
        checks=(
            lambda m: vias(m)[0] == ("UDP", "::ffff:192.0.2.10", 19823),
            lambda m: contact(m).host == "::ffff:192.0.2.2",
        ),
    ),
    "ipv6-bug-abnf-3-colons": Case(
        "4.10", 200, checks=(lambda m: target(m).host == "2001:db8::192.0.2.1",)
    ),
    "ipv6-correct-abnf-2-colons": Case(
        "4.10", 200, checks=(lambda m: target(m).host == "2001:db8::192.0.2.1",)
    ),
}


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    built = Stack()
    yield built
    await built.aclose()


def test_every_message_has_its_outcome() -> None:
    assert {file.stem for file in FILES.glob("*.sip")} == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_parser(name: str) -> None:
    case = CASES[name]
    data = (FILES / f"{name}.sip").read_bytes()
    if case.fault is not None:
        with pytest.raises(SipSyntaxError) as caught:
            parse_message(data)
        assert caught.value.kind is case.fault
        return
    message = parse_message(data)
    for number, check in enumerate(case.checks):
        assert check(message), f"check {number}"
    written = message.to_bytes()
    assert parse_message(written).to_bytes() == written


@pytest.mark.parametrize("name", CASES)
async def test_user_agent(stack: Stack, name: str) -> None:
    case = CASES[name]
    response = await stack.answer_to((FILES / f"{name}.sip").read_bytes())
    assert response.status == case.status
    if case.registered is not None:
        message = parse_message((FILES / f"{name}.sip").read_bytes())
        assert isinstance(message, Request)
        assert (await stack.answer_to_signed(message)).status == case.registered
