"""The edge is no relay: not for strangers, not with forged tokens, not to anywhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cti.shared.nodes import hop_of_route
from cti.sip.edge import Edge
from cti.sip.endpoint import SipEndpoint
from cti.sip.messages.message import Request, Response, response_to
from cti.sip.transports.transport import Hop
from tests.sip_session.peer import FAST, RawPeer


class Bench:
    """An edge between a node and a phone, both of them raw peers."""

    def __init__(self) -> None:
        self.endpoint = SipEndpoint(user_agent="edge", timers=FAST)
        self.edge = self.endpoint.edge = Edge(self.endpoint, is_node=self._is_node)
        self.node: RawPeer
        self.phone: RawPeer
        self.stranger: RawPeer
        self.route = ""

    def _is_node(self, hop: Hop) -> bool:
        return (hop.host, hop.port) == (self.node.host, self.node.port)

    async def start(self) -> None:
        address = await self.endpoint.listen("udp", "127.0.0.1", 0)
        self.edge.take_from("udp", *address)
        self.node, self.phone, self.stranger = [await RawPeer.create(address) for _ in range(3)]
        self.route = self.edge.route_of(Hop("udp", self.phone.host, self.phone.port, 1))

    async def aclose(self) -> None:
        for peer in (self.node, self.phone, self.stranger):
            peer.close()
        await self.endpoint.aclose()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.start()
    yield bench
    await bench.aclose()


def options(peer: RawPeer, *routes: str, uri: str = "sip:1001@10.0.0.1") -> Request:
    request = peer.request("OPTIONS", uri=uri)
    for route in routes:
        request.headers.add("Route", route)
    return request


async def test_a_node_reaches_the_phone_and_its_answer_returns(bench: Bench) -> None:
    bench.node.send(options(bench.node, bench.route))
    request = await bench.phone.next()
    assert isinstance(request, Request)
    assert request.uri == "sip:1001@10.0.0.1"
    assert "Route" not in request.headers
    assert request.headers.get_all("Record-Route") == [bench.route]
    assert request.headers.get("Max-Forwards") == "69"
    bench.phone.send(response_to(request, 200))
    response = await bench.node.expect_status(200)
    assert len(response.headers.get_all("Via")) == 1


async def test_a_phone_reaches_nodes_only(bench: Bench) -> None:
    to_node = f"sip:95598@{bench.node.host}:{bench.node.port}"
    bench.phone.send(options(bench.phone, bench.route, uri=to_node))
    request = await bench.node.next()
    assert isinstance(request, Request)
    bench.node.send(response_to(request, 200))
    await bench.phone.expect_status(200)
    to_stranger = f"sip:x@{bench.stranger.host}:{bench.stranger.port}"
    bench.phone.send(options(bench.phone, bench.route, uri=to_stranger))
    await bench.phone.expect_status(403)
    bench.phone.send(options(bench.phone, bench.route, f"<{to_stranger};lr>", uri=to_node))
    await bench.phone.expect_status(403)
    assert bench.stranger.inbox.empty()


async def test_a_stranger_with_a_phones_token_is_refused(bench: Bench) -> None:
    bench.stranger.send(options(bench.stranger, bench.route))
    await bench.stranger.expect_status(403)
    assert bench.phone.inbox.empty()


@pytest.mark.parametrize("change", ["cut", "other", "text"])
async def test_a_forged_token_is_a_failed_flow(bench: Bench, change: str) -> None:
    user, at, rest = bench.route.partition("@")
    other = Edge(bench.endpoint, is_node=bench._is_node)
    other.take_from("udp", "127.0.0.1", 5060)
    forged = {
        "cut": f"{user[:-3]}{at}{rest}",
        "other": other.route_of(Hop("udp", bench.phone.host, bench.phone.port, 1)),
        "text": "<sip:flow-é!@127.0.0.1;lr>",
    }[change]
    bench.node.send(options(bench.node, forged))
    await bench.node.expect_status(430)
    assert bench.phone.inbox.empty()


async def test_a_loop_ends(bench: Bench) -> None:
    request = options(bench.node, bench.route)
    request.headers.set("Max-Forwards", "0")
    bench.node.send(request)
    await bench.node.expect_status(483)


async def test_a_response_that_nobody_asked_for_goes_nowhere(bench: Bench) -> None:
    bench.node.send(options(bench.node, bench.route))
    request = await bench.phone.next()
    assert isinstance(request, Request)
    honest = response_to(request, 200)
    vias = honest.headers.get_all("Via")
    elsewhere = f"SIP/2.0/UDP {bench.stranger.host}:{bench.stranger.port};branch=z9hG4bKx"
    branch = Edge.branch_prefix
    for forged in (
        [vias[0], elsewhere],
        [vias[0]],
        [f"SIP/2.0/UDP 127.0.0.1;branch={branch}", elsewhere],
        [f"SIP/2.0/UDP 127.0.0.1;branch={branch}1-00", elsewhere],
        [f"SIP/2.0/UDP 127.0.0.1;branch={bench.edge.new_branch()}", vias[1]],
    ):
        response = Response(200, "OK", honest.headers.copy())
        response.headers.remove("Via")
        for via in forged:
            response.headers.add("Via", via)
        bench.phone.send(response)
    bench.phone.send(honest)
    await bench.node.expect_status(200)
    assert bench.stranger.inbox.empty()
    assert bench.node.inbox.empty()


def test_where_routes_of_nodes_lead() -> None:
    assert hop_of_route("<sip:x@192.0.2.1;transport=TCP;lr>") == Hop("tcp", "192.0.2.1", 5060)
    assert hop_of_route("<sip:x@[::1]:5070;lr>") == Hop("udp", "::1", 5070)
    assert hop_of_route("<tel:1>") is None
    assert hop_of_route('"') is None
