"""The torture test messages of RFC 4475, each with the outcome its section asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import cti.sip.via_stamps
from cti.sip.messages.message import Malformed, Request, Response, SipSyntaxError, parse_message
from cti.sip.messages.uri import NameAddr, SipUri
from cti.sip.transports.transport import Hop
from domain.failures import Code
from loadtest.memory_endpoint import MemoryEndpoint
from tests.sip_core.messages import request
from tests.sip_core.torture import WAIT_S, WIRE, Case, Message, Stack, read_response

FILES = WIRE / "rfc4475"


def target(message: Message) -> SipUri:
    assert isinstance(message, Request)
    assert isinstance(message.target, SipUri)
    return message.target


def uri(address: NameAddr | str) -> SipUri:
    parsed = (NameAddr.parse(address) if isinstance(address, str) else address).uri
    assert isinstance(parsed, SipUri)
    return parsed


def contacts(message: Message) -> list[NameAddr]:
    return [NameAddr.parse(each) for each in message.headers.get_all("Contact")]


REQUESTS: dict[str, Case] = {
    "wsinv": Case(
        "3.1.1.1",
        481,  # its To tag is that of no dialog here (RFC 3261 12.2.2)
        checks=(
            lambda m: target(m).params == {"unknownparam": None},
            lambda m: (m.to.tag, m.from_.tag) == ("1918181833n", "98asjd8"),
            lambda m: m.from_.display == 'J Rosenberg \\"',
            lambda m: m.headers.get("Max-Forwards") == "0068",
            lambda m: m.cseq == (9, "INVITE"),
            lambda m: (m.top_via.host, m.top_via.branch) == ("192.0.2.2", "390skdjuw"),
            lambda m: len(m.headers.get_all("Via")) == 3,
            lambda m: m.headers.get("Subject") == "",
            lambda m: (
                (m.headers.get("NewFangledHeader") or "").split()
                == ["newfangled", "value", "continued", "newfangled", "value"]
            ),
            lambda m: m.headers.get("UnknownHeaderWithUnusualValue") == ";;,,;;,;",
            lambda m: uri(m.headers.get("Route") or "").params["unknown-no-value"] is None,
            lambda m: (
                contacts(m)[0].params == {"newparam": "newvalue", "secondparam": None, "q": "0.33"}
            ),
            lambda m: contacts(m)[0].display == 'Quoted string ""',
        ),
    ),
    "intmeth": Case(
        "3.1.1.2",
        501,
        checks=(
            lambda m: m.cseq[1] == "!interesting-Method0123456789_*+`.%indeed'~",
            lambda m: (
                target(m).user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
                and target(m).password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
            ),
            lambda m: m.top_via.branch == "z9hG4bK-.!%66*_+`'~",
            lambda m: m.to.display == "BEL:\x07 NUL:\ufffd DEL:\x7f",
            lambda m: m.from_.display == "token1~` token2'+_ token3*%!.-",
            lambda m: m.from_.params["fromparam''~+*_!.-%"] == '"работающий"',
            lambda m: m.from_.tag == "_token~1'+`*%!-.",
            lambda m: m.call_id == "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{",
            lambda m: m.headers.get("extensionHeader-!.%*+_`'~") == "\ufeff大停電",
        ),
    ),
    "esc01": Case(
        "3.1.1.3",
        200,
        checks=(
            lambda m: (target(m).user, target(m).host) == ("sips:user@example.com", "example.net"),
            lambda m: uri(m.to).user == "user",
            lambda m: uri(m.from_).user == "I%20have%20spaces",  # a space stays escaped
            lambda m: uri(contacts(m)[0]).user == "caller",
            lambda m: uri(contacts(m)[0]).params["lr"] is None,
            # It means "value%41": unescaped once, and never to "valueA".
            lambda m: uri(contacts(m)[0]).params["name"] == "v%61lue%25%34%31",
        ),
    ),
    "escnull": Case(
        "3.1.1.4",
        401,
        checks=(
            lambda m: uri(m.to).user == "null-%00-null",
            lambda m: uri(contacts(m)[0]) != uri(contacts(m)[1]),
        ),
        registered=200,
    ),
    "esc02": Case(
        "3.1.1.5",
        501,
        checks=(
            lambda m: m.cseq[1] == "RE%47IST%45R",
            lambda m: m.to.display == m.from_.display == "%Z%45",
            lambda m: m.top_via.branch == "z9hG4bK209%fzsnel234",
            lambda m: len(contacts(m)) == 2,
        ),
    ),
    "lwsdisp": Case("3.1.1.6", 200, checks=(lambda m: m.from_.display == "caller",)),
    "longreq": Case(
        "3.1.1.7",
        200,
        checks=(
            lambda m: len(m.headers.get_all("Via")) == 34,
            lambda m: m.top_via.branch == "",
            lambda m: m.from_.tag == "12" + "982" * 50 + "424",
            lambda m: len(m.to.display) == 103,
            lambda m: m.headers.get(f"Unknown-{'Long' * 20}-Name") is not None,
        ),
    ),
    "dblreq": Case(
        "3.1.1.8",
        401,
        checks=(lambda m: (m.cseq, m.body) == ((8, "REGISTER"), b""),),
        registered=200,
    ),
    "semiuri": Case(
        "3.1.1.9",
        200,
        checks=(
            lambda m: target(m).user == "user;par=u@example.net",
            lambda m: len(m.headers.get_all("Accept")) == 6,
        ),
    ),
    "transports": Case(
        "3.1.1.10",
        200,
        checks=(
            lambda m: m.top_via.transport == "UDP",
            lambda m: len(m.headers.get_all("Via")) == 5,
        ),
    ),
    "mpart01": Case(
        "3.1.1.11",
        405,
        checks=(lambda m: len(m.body) == 553 and b"\0" in m.body,),
    ),
    "badinv01": Case("3.1.2.1", 400, Malformed.HEADER_VALUE),
    "clerr": Case("3.1.2.2", 400, Malformed.CONTENT_LENGTH),
    "ncl": Case("3.1.2.3", 400, Malformed.CONTENT_LENGTH),
    "scalar02": Case("3.1.2.4", 400, Malformed.HEADER_VALUE),
    "quotbal": Case("3.1.2.6", 400, Malformed.HEADER_VALUE),
    "ltgtruri": Case("3.1.2.7", 400, Malformed.URI),
    "lwsruri": Case("3.1.2.8", 400, Malformed.START_LINE),
    "lwsstart": Case("3.1.2.9", 400, Malformed.START_LINE),
    "trws": Case("3.1.2.10", 400, Malformed.START_LINE),
    "escruri": Case("3.1.2.11", 400, Malformed.URI),
    # The section leaves open whether to refuse it; the Date of a request means nothing to us.
    "baddate": Case("3.1.2.12", 200),
    "regbadct": Case("3.1.2.13", 401, registered=400),
    # Refused or read without the spaces: the section allows both.
    "badaspec": Case("3.1.2.14", 200, checks=(lambda m: uri(m.to).user == "t.watson",)),
    "baddn": Case("3.1.2.15", 400, Malformed.HEADER_VALUE),
    "badvers": Case("3.1.2.16", 505, Malformed.VERSION),
    "mismatch01": Case("3.1.2.17", 400, Malformed.HEADER_VALUE),
    "mismatch02": Case("3.1.2.18", 400, Malformed.HEADER_VALUE),
    "badbranch": Case("3.2.1", 200, checks=(lambda m: m.top_via.branch == "z9hG4bK",)),
    "insuf": Case("3.3.1", 400, Malformed.HEADER_MISSING),
    "unkscm": Case("3.3.2", 416),
    "novelsc": Case("3.3.3", 416),
    "unksm2": Case("3.3.4", 400),
    "bext01": Case("3.3.5", 420),
    "invut": Case("3.3.6", 415),
    "regaut01": Case("3.3.7", 401, registered=200),
    "multi01": Case("3.3.8", 400, Malformed.HEADER_REPEATED),
    "mcl01": Case("3.3.9", 400, Malformed.HEADER_REPEATED),
    "zeromf": Case("3.3.11", 200),
    "cparam01": Case(
        "3.3.12",
        401,
        checks=(
            lambda m: contacts(m)[0].params == {"unknownparam": None},
            lambda m: uri(contacts(m)[0]).params == {},
        ),
        registered=200,
    ),
    "cparam02": Case(
        "3.3.13",
        401,
        checks=(
            lambda m: contacts(m)[0].params == {},
            lambda m: uri(contacts(m)[0]).params == {"unknownparam": None},
        ),
        registered=200,
    ),
    "regescrt": Case(
        "3.3.14",
        401,
        checks=(lambda m: uri(contacts(m)[0]).headers == "Route=%3Csip:sip.example.com%3E",),
        # Requests to the phone would carry headers of its choice; see docs/deviations.md.
        registered=400,
    ),
    "sdp01": Case("3.3.15", 406),
    # RFC 3261 lets a server refuse what has no Contact; see docs/deviations.md.
    "inv2543": Case("3.4.1", 400, checks=(lambda m: m.from_.tag is None,)),
}

# Responses: what the client that waits for them hears of.
RESPONSES: dict[str, Case] = {
    "unreason": Case(
        "3.1.1.12",
        200,
        checks=(
            lambda m: (
                isinstance(m, Response)
                and m.reason == "= 2**3 * 5**2 но сто девяносто девять - простое"
            ),
        ),
    ),
    "noreason": Case(
        "3.1.1.13", 100, checks=(lambda m: isinstance(m, Response) and m.reason == "",)
    ),
    "scalarlg": Case("3.1.2.5", None, Malformed.HEADER_VALUE),
    "bigcode": Case("3.1.2.19", None, Malformed.START_LINE),
    "bcast": Case("3.3.10", None),
}


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    built = Stack()
    yield built
    await built.aclose()


def test_every_message_has_its_outcome() -> None:
    assert {file.stem for file in FILES.glob("*.sip")} == REQUESTS.keys() | RESPONSES.keys()


@pytest.mark.parametrize("name", [*REQUESTS, *RESPONSES])
def test_parser(name: str) -> None:
    case = {**REQUESTS, **RESPONSES}[name]
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


@pytest.mark.parametrize("name", REQUESTS)
async def test_user_agent(stack: Stack, name: str) -> None:
    case = REQUESTS[name]
    response = await stack.answer_to((FILES / f"{name}.sip").read_bytes())
    assert response.status == case.status
    assert stack.sent.empty()
    assert len(stack.calls) == (case.status == 200 and response.cseq[1] == "INVITE")


@pytest.mark.parametrize("name", REQUESTS)
async def test_user_agent_over_a_stream(stack: Stack, name: str) -> None:
    data = (FILES / f"{name}.sip").read_bytes()
    for at in range(0, len(data), 7):
        if not stack.endpoint.take_stream(data[at : at + 7], "198.51.100.7", 2):
            break
    if name == "clerr":  # the rest of its body may still come (RFC 3261 18.3)
        assert stack.sent.empty()
        return
    response = read_response(await asyncio.wait_for(stack.sent.get(), WAIT_S))
    assert response.status == REQUESTS[name].status


@pytest.mark.parametrize("name", [name for name, case in REQUESTS.items() if case.registered])
async def test_registrar(stack: Stack, name: str) -> None:
    message = parse_message((FILES / f"{name}.sip").read_bytes())
    assert isinstance(message, Request)
    response = await stack.answer_to_signed(message)
    assert response.status == REQUESTS[name].registered


@pytest.mark.parametrize("name", RESPONSES)
async def test_client(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = RESPONSES[name]
    data = (FILES / f"{name}.sip").read_bytes()
    via, method = _expected_by_client(data)
    monkeypatch.setattr(cti.sip.via_stamps, "new_branch", lambda: via[1])
    endpoint = MemoryEndpoint(lambda _data, _hop: None, address=(via[0], 5060))
    heard: asyncio.Queue[Response | Code] = asyncio.Queue()
    endpoint.send_request(
        request(method, via=False),
        Hop("udp", "198.51.100.7", 5060),
        on_response=heard.put_nowait,
        on_failure=heard.put_nowait,
    )
    endpoint.take_datagram(data, "198.51.100.7", 5060)
    if case.status is None:
        assert heard.empty()
    else:
        response = await asyncio.wait_for(heard.get(), WAIT_S)
        assert isinstance(response, Response)
        assert response.status == case.status
    await endpoint.aclose()


def _expected_by_client(data: bytes) -> tuple[tuple[str, str], str]:
    """Return host and branch of the first Via, and the method, of a response that may be broken."""
    lines = data.decode().split("\r\n")
    via = next(line for line in lines if line.startswith("Via:"))
    cseq = next(line for line in lines if line.startswith("CSeq:"))
    host = via.split()[-1].partition(";")[0]
    return (host, via.partition("branch=")[2].partition(";")[0]), cseq.split()[-1]


async def test_what_a_refusal_says(stack: Stack) -> None:
    async def answer(name: str) -> Response:
        return await stack.answer_to((FILES / f"{name}.sip").read_bytes())

    unsupported = (await answer("bext01")).headers.get_all("Unsupported")
    assert unsupported == ["nothingSupportsThis", "nothingSupportsThisEither"]
    assert (await answer("invut")).headers.get("Accept") == "application/sdp"
    assert "INVITE" in (await answer("esc02")).headers.get_all("Allow")
    # What is missing or broken is echoed as far as it is there.
    assert "Call-ID" not in (await answer("insuf")).headers
    assert (await answer("multi01")).headers.rows("From") == ["sip:caller@example.com;tag=3413415"]
