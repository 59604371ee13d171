"""The endpoint on real loopback sockets."""

import asyncio

import pytest
import uvloop

from cti.sip.endpoint import ServerTransaction, SipEndpoint
from cti.sip.messages.message import Request, Response
from cti.sip.transports.transport import Hop, TransportName
from demo.ports import free_port
from domain.failures import Code, PlatformError
from tests.sip_core.messages import ack, answer, request
from tests.sip_core.network import QUICK, WAIT_S, Make, Outcome, Peer, accept_all, counted


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_request_and_response(make: Make, transport: TransportName, host: str) -> None:
    client, _ = await make(transport, host)
    server, hop = await make(transport, host)
    seen = accept_all(server)
    outcome = Outcome()
    sent = outcome.start(client, request(via=False), hop)
    response = await outcome.next()
    assert isinstance(response, Response)
    assert response.status == 200
    assert response.headers.get("Server") == "test"
    assert response.top_via.branch == sent.request.top_via.branch
    got = (await seen.get()).request
    assert got.headers.get("Max-Forwards") == "70"
    assert got.headers.get("User-Agent") == "test"
    assert got.top_via.host == host
    assert got.top_via.port == client.local_address(transport)[1]


def test_uvloop() -> None:
    async def main() -> None:
        for transport in ("udp", "tcp"):
            client = SipEndpoint(user_agent="a")
            server = SipEndpoint(user_agent="b")
            await client.listen(transport, "127.0.0.1", 0)
            address = await server.listen(transport, "127.0.0.1", 0)
            accept_all(server)
            outcome = Outcome()
            name: TransportName = "tcp" if transport == "tcp" else "udp"
            outcome.start(client, request(via=False), Hop(name, *address))
            assert await outcome.status() == 200
            await client.aclose()
            await server.aclose()

    uvloop.run(main())


async def test_rport_and_received(make: Make, peer: Peer) -> None:
    server, hop = await make()
    seen = accept_all(server)
    asked = request(sent_by="gw.carrier.example:9")
    via = str(asked.top_via.with_params(rport=None))
    asked.headers.set("Via", via)
    peer.send(asked, hop)
    stamped = (await peer.response()).top_via
    assert (stamped.params["received"], stamped.params["rport"]) == ("127.0.0.1", str(peer.port))
    assert (await seen.get()).hop == Hop("udp", "127.0.0.1", peer.port, 1)


async def test_without_rport_the_response_goes_to_the_port_of_the_via(
    make: Make, peer: Peer
) -> None:
    server, hop = await make()
    accept_all(server)
    other = Peer()
    other.send(request(sent_by=f"127.0.0.1:{peer.port}"), hop)
    response = await peer.response()
    assert "received" not in response.top_via.params
    other.socket.close()


async def test_only_the_first_of_several_vias_is_stamped(make: Make, peer: Peer) -> None:
    server, hop = await make()
    accept_all(server)
    asked = request()
    first, second = (f"SIP/2.0/UDP 192.0.2.{n};branch=z9hG4bK{n}" for n in (1, 2))
    asked.headers.set("Via", f"{first};rport, {second}")
    peer.send(asked, hop)
    vias = (await peer.response()).headers.get_all("Via")
    assert "received=127.0.0.1" in vias[0]
    assert vias[1:] == [second]


async def test_a_repeated_request_is_answered_from_memory(make: Make, peer: Peer) -> None:
    server, hop = await make()
    seen = accept_all(server)
    asked = request(sent_by=f"127.0.0.1:{peer.port}")
    before = counted("sip_retransmissions_total", direction="in")
    peer.send(asked, hop)
    first = await peer.receive()
    peer.send(asked, hop)
    assert await peer.receive() == first
    assert seen.qsize() == 1
    assert counted("sip_retransmissions_total", direction="in") == before + 1


async def test_no_answer_times_out(make: Make, peer: Peer) -> None:
    client, _ = await make(timers=QUICK)
    outcome = Outcome()
    outcome.start(client, request(via=False), Hop("udp", "127.0.0.1", peer.port))
    first = await peer.receive()
    assert await peer.receive() == first
    assert await outcome.next() is Code.SIP_TIMEOUT
    assert client.transaction_count == 0


async def test_a_lost_response_is_asked_for_again(make: Make, peer: Peer) -> None:
    client, _ = await make(timers=QUICK)
    outcome = Outcome()
    outcome.start(client, request(via=False), Hop("udp", "127.0.0.1", peer.port))
    await peer.receive()
    asked = await peer.request()
    peer.send(answer(asked, 200), Hop("udp", *client.local_address("udp")))
    assert await outcome.status() == 200


async def test_responses_of_strangers_are_dropped(make: Make, peer: Peer) -> None:
    client, hop = await make()
    outcome = Outcome()
    sent = outcome.start(client, request(via=False), Hop("udp", "127.0.0.1", peer.port))
    asked = await peer.request()
    before = counted("sip_stray_responses_total")
    for wrong in (
        {"branch": "z9hG4bKother"},
        {"sent_by": "192.0.2.200", "branch": sent.request.top_via.branch},
    ):
        peer.send(answer(request(**wrong), 404), hop)  # type: ignore[arg-type]
    peer.send(answer(asked, 200), hop)
    assert await outcome.status() == 200
    assert counted("sip_stray_responses_total") == before + 2


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_cancel(make: Make, transport: TransportName) -> None:
    client, _ = await make(transport)
    server, hop = await make(transport)
    cancelled = asyncio.Event()

    def on_request(transaction: ServerTransaction) -> None:
        def on_cancel() -> None:
            cancelled.set()
            transaction.respond(answer(transaction.request, 487))

        transaction.on_cancel = on_cancel
        transaction.respond(answer(transaction.request, 180))

    server.on_request = on_request
    outcome = Outcome()
    call = outcome.start(client, request("INVITE", via=False), hop)
    call.cancel()
    assert [await outcome.status() for _ in range(2)] == [180, 487]
    await asyncio.wait_for(cancelled.wait(), WAIT_S)


async def test_cancel_is_answered_200_with_the_tag_of_the_invite_or_481(
    make: Make, peer: Peer
) -> None:
    server, hop = await make()
    server.on_request = lambda t: t.respond(answer(t.request, 180))
    own = f"127.0.0.1:{peer.port}"
    peer.send(request("CANCEL", sent_by=own), hop)
    assert (await peer.response()).status == 481
    peer.send(request("INVITE", sent_by=own, branch="z9hG4bKc"), hop)
    assert (await peer.response()).status == 180
    peer.send(request("CANCEL", sent_by=own, branch="z9hG4bKc"), hop)
    response = await peer.response()
    assert (response.status, response.cseq[1], response.to.tag) == (200, "CANCEL", "callee")


@pytest.mark.parametrize("branch", ["z9hG4bKmodern", "oldstyle", ""])
async def test_the_ack_of_a_refusal_ends_in_the_transaction(
    make: Make, peer: Peer, branch: str
) -> None:
    server, hop = await make()
    accept_all(server, 486)
    strays: list[Request] = []
    server.on_ack = lambda message, _: strays.append(message)
    invite = request("INVITE", sent_by=f"127.0.0.1:{peer.port}", branch=branch)
    if not branch:
        invite.headers.set("Via", f"SIP/2.0/UDP 127.0.0.1:{peer.port}")
    peer.send(invite, hop)
    refusal = await peer.response()
    peer.send(ack(invite, refusal), hop)
    # What follows in order shows that the ACK was taken and nothing came back.
    accept_all(server, 200)
    peer.send(request(sent_by=f"127.0.0.1:{peer.port}", branch="z9hG4bKnext"), hop)
    assert (await peer.response()).cseq[1] == "OPTIONS"
    assert not strays


@pytest.mark.parametrize("branch", ["z9hG4bKfresh", "z9hG4bKtest"])
async def test_the_ack_of_a_2xx_goes_to_the_user(make: Make, peer: Peer, branch: str) -> None:
    server, hop = await make()
    accept_all(server)
    acks: asyncio.Queue[Request] = asyncio.Queue()
    server.on_ack = lambda message, _: acks.put_nowait(message)
    own = f"127.0.0.1:{peer.port}"
    peer.send(request("INVITE", sent_by=own), hop)
    await peer.receive()
    peer.send(ack(request("INVITE", sent_by=own, branch=branch)), hop)
    assert (await asyncio.wait_for(acks.get(), WAIT_S)).method == "ACK"


async def test_send_ack(make: Make, peer: Peer) -> None:
    client, _ = await make()
    message = ack(request("INVITE", via=False))
    client.send_ack(message, Hop("udp", "127.0.0.1", peer.port))
    got = await peer.request()
    assert got.method == "ACK"
    assert got.top_via.port == client.local_address("udp")[1]


async def test_a_missing_ack_is_reported(make: Make, peer: Peer) -> None:
    server, hop = await make(timers=QUICK)
    failures: asyncio.Queue[Code] = asyncio.Queue()

    def on_request(transaction: ServerTransaction) -> None:
        transaction.on_failure = failures.put_nowait
        transaction.respond(answer(transaction.request, 486))

    server.on_request = on_request
    peer.send(request("INVITE", sent_by=f"127.0.0.1:{peer.port}"), hop)
    assert await asyncio.wait_for(failures.get(), WAIT_S) is Code.ACK_MISSING
    assert server.transaction_count == 0


@pytest.mark.parametrize(
    ("old", "new", "status", "kind"),
    [
        (b" SIP/2.0\r\n", b" SIP/3.0\r\n", 505, "version"),
        (b"CSeq: 1 OPTIONS", b"CSeq: 1 REGISTER", 400, "header_value"),
        (b"Content-Length: 0", b"Content-Length: 10", 400, "content_length"),
        (b"sip:95598@grid.example SIP", b"sip:@ SIP", 400, "uri"),
    ],
)
async def test_malformed_requests_are_answered(
    make: Make, peer: Peer, old: bytes, new: bytes, status: int, kind: str
) -> None:
    _, hop = await make()
    before = counted("sip_malformed_total", reason=kind)
    data = request(sent_by=f"127.0.0.1:{peer.port}").to_bytes()
    peer.send(data.replace(old, new, 1), hop)
    response = await peer.response()
    assert response.status == status
    assert response.to.tag
    assert counted("sip_malformed_total", reason=kind) == before + 1


async def test_noise_is_dropped(make: Make, peer: Peer) -> None:
    server, hop = await make()
    accept_all(server)
    before = counted("sip_malformed_total", reason="not_sip")
    stun = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
    for noise in (b"", b"\r\n\r\n", b"\0", bytes(4), stun):
        peer.send(noise, hop)
    peer.send(b"hello, is this SIP?", hop)
    peer.send(answer(request(), 200).to_bytes().replace(b"SIP/2.0 200", b"SIP/2.0 2000"), hop)
    peer.send(request(sent_by=f"127.0.0.1:{peer.port}"), hop)
    assert (await peer.response()).status == 200
    assert counted("sip_malformed_total", reason="not_sip") == before + 1


async def test_an_exception_of_the_user_becomes_a_500(make: Make, peer: Peer) -> None:
    server, hop = await make()

    def on_request(_: ServerTransaction) -> None:
        raise LookupError("a fault of the program")

    server.on_request = on_request
    before = counted("sip_internal_errors_total")
    peer.send(request(sent_by=f"127.0.0.1:{peer.port}"), hop)
    assert (await peer.response()).status == 500
    assert counted("sip_internal_errors_total") == before + 1


async def test_too_many_transactions_are_refused(make: Make, peer: Peer) -> None:
    server, hop = await make(max_transactions=1)
    accept_all(server)
    own = f"127.0.0.1:{peer.port}"
    statuses = []
    for number in range(2):
        peer.send(request(sent_by=own, branch=f"z9hG4bK{number}"), hop)
        statuses.append((await peer.response()).status)
    assert statuses == [200, 503]


async def test_nobody_takes_requests_by_default(make: Make, peer: Peer) -> None:
    _, hop = await make()
    peer.send(request(sent_by=f"127.0.0.1:{peer.port}"), hop)
    assert (await peer.response()).status == 501


async def test_what_cannot_be_sent_fails_later_and_never_raises(make: Make) -> None:
    client, _ = await make("udp")
    for hop in (
        Hop("tcp", "127.0.0.1", free_port()),
        Hop("udp", "a.name.example", 5060),
        Hop("udp", "::1", 5060),
        Hop("tcp", "a.name.example", 5060),
        Hop("udp", "255.255.255.255", 5060),  # the system forbids it at once
    ):
        outcome = Outcome()
        outcome.start(client, request(via=False), hop)
        assert outcome.queue.empty()
        assert await outcome.next() is Code.SIP_TRANSPORT
        client.send_ack(ack(request("INVITE", via=False)), hop)
    assert client.transaction_count == 0


async def test_closing_tells_all_who_wait(make: Make, peer: Peer) -> None:
    client, _ = await make()
    outcome = Outcome()
    outcome.start(client, request(via=False), Hop("udp", "127.0.0.1", peer.port))
    await client.aclose()
    assert await outcome.next() is Code.SIP_TRANSPORT
    assert client.transaction_count == 0


async def test_listen_says_what_is_wrong(make: Make) -> None:
    endpoint, hop = await make()
    for transport, host, port in (
        ("udp", hop.host, hop.port),
        ("udp", "0.0.0.0", 0),
        ("tls", "127.0.0.1", 0),
        ("udp", "localhost", 0),
    ):
        with pytest.raises(PlatformError) as caught:
            await endpoint.listen(transport, host, port)
        assert caught.value.code is Code.CONFIG_INVALID


async def test_the_advertised_host_is_for_other_machines() -> None:
    endpoint = SipEndpoint(user_agent="test", advertised_host="203.0.113.5")
    _, port = await endpoint.listen("udp", "0.0.0.0", 0)
    await endpoint.listen("tcp", "127.0.0.1", 0)
    assert endpoint.local_address("udp") == ("203.0.113.5", port)
    assert endpoint.local_address("tcp")[0] == "127.0.0.1"
    await endpoint.listen("udp", "::1", 0)
    assert endpoint.local_address("udp", Hop("udp", "::1", 9))[0] == "::1"
    with pytest.raises(PlatformError):  # an IPv4 address stands for no IPv6 one
        await endpoint.listen("tcp", "::", 0)
    await endpoint.listen("tcp", "::1", 0, advertised_host="pbx.example")
    assert endpoint.local_address("tcp", Hop("tcp", "::1", 9))[0] == "pbx.example"
    await endpoint.aclose()
