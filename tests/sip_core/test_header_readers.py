"""Those who read single headers, given messages that parse and are odd all the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest

from cti.identity import identity_of
from cti.sip.authentication.digest import Credentials, authorization, parse_digest
from cti.sip.edge import Edge
from cti.sip.events.refer_to import refer_to_of, referred_by_of
from cti.sip.events.replaces import replaces_of
from cti.sip.location.server_location import hop_of_address
from cti.sip.messages.message import Request, Response, SipSyntaxError, parse_message, response_to
from cti.sip.messages.session_description import answer_refusal, body_refusal, description_of
from cti.sip.messages.uri import NameAddr, SipUri
from cti.sip.registration.register_request import contact_key
from cti.sip.sessions.causes import code_of_response, q850_cause_in, reason_text, retry_after_s
from cti.sip.sessions.redirects import targets_of
from cti.sip.sessions.session_policy import SessionPolicy
from cti.sip.sessions.session_timer import has_timer, interval_refusal
from cti.sip.transports.transport import Hop
from loadtest.fuzz_peer import Peer
from loadtest.memory_endpoint import ADDRESS, MemoryEndpoint
from tests.sip_core.messages import request
from tests.sip_core.network import counted
from tests.sip_core.torture import WIRE

_POLICY = SessionPolicy()


def read_uri(request: Request) -> None:
    for value in request.headers.get_all("Contact"):
        uri = NameAddr.parse(value).uri
        if isinstance(uri, SipUri):
            contact_key(uri)
            hop_of_address(uri)


def read_challenges(response: Response) -> None:
    for name in ("WWW-Authenticate", "Proxy-Authenticate"):
        authorization(
            response.headers.get_all(name),
            method="INVITE",
            uri="sip:b",
            credentials=Credentials("a", "b"),
        )


OF_REQUESTS: list[Callable[[Request], object]] = [
    identity_of,
    refer_to_of,
    referred_by_of,
    replaces_of,
    read_uri,
    answer_refusal,
    body_refusal,
    lambda request: interval_refusal(request, _POLICY),
    lambda request: has_timer(request, _POLICY),
    lambda request: [parse_digest(each) for each in request.headers.get_all("Authorization")],
    lambda request: response_to(request, 500).to_bytes(),
]
OF_RESPONSES: list[Callable[[Response], object]] = [
    targets_of,
    code_of_response,
    retry_after_s,
    read_challenges,
    description_of,
    lambda response: q850_cause_in(reason_text(response)),
    lambda response: has_timer(response, _POLICY),
]


@pytest.mark.parametrize("seed", range(4))
def test_only_syntax_errors_come_of_odd_messages(seed: int) -> None:
    corpus = [file.read_bytes() for file in sorted(WIRE.rglob("*.sip"))]
    peer = Peer(Random(seed), corpus)
    read = 0
    for _ in range(3_000):
        try:
            message = parse_message(peer.next())
        except SipSyntaxError:
            continue
        if isinstance(message, Request):
            for of_request in OF_REQUESTS:
                with suppress(SipSyntaxError):
                    of_request(message)
            with suppress(SipSyntaxError):
                peer.hear(response_to(message, 200, headers=[("RSeq", "1")]).to_bytes())
        else:
            for of_response in OF_RESPONSES:
                with suppress(SipSyntaxError):
                    of_response(message)
        peer.hear(b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a@b>;tag=1\r\n"
                  b"To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n")  # fmt: skip
        read += 1
    assert read > 1_500


async def test_a_route_that_nobody_can_read_is_refused() -> None:
    sent: list[bytes] = []
    endpoint = MemoryEndpoint(lambda data, _hop: sent.append(data))
    endpoint.edge = Edge(endpoint, is_node=lambda _hop: True)
    errors = counted("sip_internal_errors_total")
    asked = request()
    asked.headers.add("Route", '<sip:192.0.2.1;lr>, "')
    endpoint.take_datagram(asked.to_bytes(), "192.0.2.1", 5060)
    assert [each.partition(b" Q")[0] for each in sent] == [b"SIP/2.0 400"]
    assert counted("sip_internal_errors_total") == errors
    await endpoint.aclose()


async def test_a_response_for_an_unknown_transport_goes_nowhere() -> None:
    sent: list[bytes] = []
    endpoint = MemoryEndpoint(lambda data, _hop: sent.append(data))
    endpoint.edge = edge = Edge(endpoint, is_node=lambda _hop: True)
    edge.take_from("udp", *ADDRESS)
    errors = counted("sip_internal_errors_total")
    asked = request(transport="UTP")
    asked.headers.add("Route", edge.route_of(Hop("udp", "198.51.100.7", 5060)))
    endpoint.take_datagram(asked.to_bytes(), "192.0.2.1", 5060)
    passed_on = parse_message(sent.pop())
    assert isinstance(passed_on, Request)
    endpoint.take_datagram(response_to(passed_on, 200).to_bytes(), "198.51.100.7", 5060)
    assert not sent
    assert counted("sip_internal_errors_total") == errors
    await endpoint.aclose()
