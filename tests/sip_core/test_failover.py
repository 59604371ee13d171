"""One server after the other, and the proxy that everything goes through."""

import asyncio
import socket

import pytest

from cti.sip.endpoint import ServerTransaction, SipEndpoint
from cti.sip.failover import FailoverRequest
from cti.sip.message import Request, Response
from cti.sip.outbound_proxy import OutboundProxy
from cti.sip.transport import Hop
from cti.sip.uri import SipUri
from domain.failures import Code
from tests.sip_core.messages import answer, request
from tests.sip_core.network import Make, Outcome, Peer, accept_all


class Tries(Outcome):
    def try_all(
        self, endpoint: SipEndpoint, hops: list[Hop], method: str = "OPTIONS", **options: float
    ) -> FailoverRequest:
        return FailoverRequest(
            endpoint,
            request(method, via=False),
            hops,
            on_response=self.queue.put_nowait,
            on_failure=self.queue.put_nowait,
            **options,
        )


def dead_hop() -> Hop:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return Hop("udp", *probe.getsockname())


@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
async def test_the_dead_and_the_busy_are_passed_by(make: Make, method: str) -> None:
    client, _ = await make()
    busy, busy_hop = await make()
    turned_away = accept_all(busy, 503)
    good, good_hop = await make()
    served = accept_all(good)
    tries = Tries()
    sent = tries.try_all(client, [dead_hop(), busy_hop, good_hop], method)
    assert await tries.status() == 200
    assert sent.hop == good_hop
    first, second = (await turned_away.get()).request, (await served.get()).request
    assert first.top_via.branch != second.top_via.branch
    assert first.cseq == second.cseq
    assert len(second.headers.get_all("Via")) == 1


async def test_the_silent_are_given_up_in_time(make: Make, peer: Peer) -> None:
    client, _ = await make()
    good, good_hop = await make()
    accept_all(good)
    tries = Tries()
    silent = Hop("udp", "127.0.0.1", peer.port)
    tries.try_all(client, [silent, good_hop], answer_within_s=0.05)
    assert await tries.status() == 200
    # What the silent one says now is not passed on.
    peer.send(answer(await peer.request(), 404), Hop("udp", *client.local_address("udp")))
    again = Tries()
    again.try_all(client, [good_hop])
    assert await again.status() == 200
    assert tries.queue.empty()


async def test_when_none_is_left_the_last_outcome_counts(make: Make) -> None:
    client, _ = await make()
    busy, busy_hop = await make()
    accept_all(busy, 503)
    tries = Tries()
    tries.try_all(client, [dead_hop(), busy_hop])
    assert await tries.status() == 503
    tries.try_all(client, [busy_hop, dead_hop()])
    assert await tries.next() is Code.SIP_TRANSPORT
    with pytest.raises(ValueError, match="no hop"):
        tries.try_all(client, [])


async def test_who_has_begun_to_serve_is_not_left(make: Make) -> None:
    client, _ = await make()
    ringing, hop = await make()

    def on_request(transaction: ServerTransaction) -> None:
        transaction.respond(answer(transaction.request, 180))
        transaction.respond(answer(transaction.request, 503))

    ringing.on_request = on_request
    tries = Tries()
    tries.try_all(client, [hop, dead_hop()], "INVITE")
    assert [await tries.status() for _ in range(2)] == [180, 503]


async def test_what_was_given_up_is_not_tried_elsewhere(make: Make) -> None:
    client, _ = await make()
    server, hop = await make()
    waiting: asyncio.Queue[ServerTransaction] = asyncio.Queue()
    server.on_request = waiting.put_nowait
    tries = Tries()
    sent = tries.try_all(client, [hop, dead_hop()], "INVITE")
    sent.cancel()
    (await waiting.get()).respond(answer(sent.request, 503))
    assert await tries.status() == 503


# The outbound proxy


async def asked_of(proxy: OutboundProxy, make: Make, message: Request, hop: Hop) -> Response | Code:
    client, _ = await make()
    client.outbound_proxy = proxy
    outcome = Outcome()
    outcome.start(client, message, hop)
    return await outcome.next()


async def test_new_requests_go_through_the_proxy(make: Make) -> None:
    server, hop = await make()
    seen = accept_all(server)
    proxy = OutboundProxy(SipUri.parse(f"sip:127.0.0.1:{hop.port};lr"), [hop])
    assert await asked_of(proxy, make, request(via=False), dead_hop()) is not Code.SIP_TRANSPORT
    route = (await seen.get()).request.headers.get("Route")
    assert route == f"<sip:127.0.0.1:{hop.port};lr>"


async def test_requests_that_know_their_way_do_not(make: Make) -> None:
    server, hop = await make()
    seen = accept_all(server)
    proxy = OutboundProxy(SipUri.parse("sip:127.0.0.1:9;lr"), [dead_hop()])
    inside = request("BYE", via=False)
    inside.headers.set("To", "<sip:x@grid.example>;tag=theirs")
    routed = request(via=False)
    routed.headers.set("Route", "<sip:other;lr>")
    for message, way in (
        (inside, hop),
        (routed, hop),
        (request(via=False), Hop("udp", hop.host, hop.port, 1)),
    ):
        assert isinstance(await asked_of(proxy, make, message, way), Response)
        assert "127.0.0.1:9" not in str((await seen.get()).request.headers)


async def test_another_of_its_servers_is_used_when_one_fails(make: Make) -> None:
    server, hop = await make()
    accept_all(server)
    client, _ = await make()
    client.outbound_proxy = OutboundProxy(SipUri.parse("sip:proxy.test"), [dead_hop(), hop])
    outcome = Outcome()
    outcome.start(client, request(via=False), dead_hop())
    assert await outcome.next() is Code.SIP_TRANSPORT
    outcome.start(client, request(via=False), dead_hop())
    assert await outcome.status() == 200


async def test_nothing_passes_a_proxy_by_that_is_not_known_yet(make: Make) -> None:
    server, hop = await make()
    seen = accept_all(server)
    proxy = OutboundProxy(SipUri.parse("sip:proxy.test;lr"))
    assert await asked_of(proxy, make, request(via=False), hop) is Code.SIP_TRANSPORT
    proxy.update([hop])
    assert isinstance(await asked_of(proxy, make, request(via=False), dead_hop()), Response)
    assert seen.qsize() == 1
