"""What the transports have in common, and what each does when its peer is not there."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvloop

from cti.sip.endpoint import ServerTransaction, SipEndpoint
from cti.sip.messages.message import Request, Response
from cti.sip.transports.connection import Connection
from cti.sip.transports.large_requests import LargeRequests
from cti.sip.transports.pings import PingDue, Pings
from cti.sip.transports.pool import ConnectionPool
from cti.sip.transports.tls_files import Tls
from cti.sip.transports.transport import ConnectionLimits, Hop, TransportName
from cti.sip.via_stamps import quoted_request, stamp_via
from demo.ports import free_port
from domain.failures import Code
from tests.sip_core.messages import ack, answer, request
from tests.sip_core.network import QUICK, WAIT_S, Make, Outcome, Peer, accept_all

LOOPS = [asyncio.run, uvloop.run]
Runner = Callable[..., object]


@pytest.mark.parametrize("run", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_a_call_and_a_question_both_ways(
    transport: TransportName, host: str, run: Runner, own_tls: Tls
) -> None:
    async def main() -> None:
        client = SipEndpoint(user_agent="a", tls=own_tls)
        server = SipEndpoint(user_agent="b", tls=own_tls)
        here = Hop(transport, *await client.listen(transport, host, 0))
        there = Hop(transport, *await server.listen(transport, host, 0))
        for one, other, hop in ((client, server, there), (server, client, here)):
            acks: asyncio.Queue[Request] = asyncio.Queue()
            other.on_ack = lambda message, _, acks=acks: acks.put_nowait(message)  # type: ignore[misc]
            accept_all(other)
            for method in ("OPTIONS", "INVITE"):
                outcome = Outcome()
                outcome.start(one, request(method, via=False), hop)
                response = await outcome.next()
                assert isinstance(response, Response)
                assert response.status == 200
                assert response.top_via.transport == transport.upper()
                assert response.top_via.host == host
            one.send_ack(ack(request("INVITE", via=False)), hop)
            assert (await asyncio.wait_for(acks.get(), WAIT_S)).method == "ACK"
        await client.aclose()
        await server.aclose()

    run(main())


# Peers that are not there


@pytest.mark.parametrize("run", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_udp_peer_that_is_gone_fails_at_once_and_others_are_still_heard(
    host: str, run: Runner
) -> None:
    async def main() -> None:
        client = SipEndpoint(user_agent="a")
        await client.listen("udp", host, 0)
        server = SipEndpoint(user_agent="b")
        alive = Hop("udp", *await server.listen("udp", host, 0))
        accept_all(server)
        dead = Hop("udp", host, free_port())
        for _ in range(3):
            outcomes = [Outcome() for _ in range(5)]
            for outcome in outcomes:
                outcome.start(client, request("INVITE", via=False), dead)
            good = Outcome()
            good.start(client, request(via=False), alive)
            # Their timers would say SIP_TIMEOUT, and far too late for this test.
            assert [await each.next() for each in outcomes] == [Code.SIP_TRANSPORT] * 5
            assert await good.status() == 200
        await client.aclose()
        await server.aclose()

    run(main())


async def test_a_report_about_somebody_elses_branch_is_ignored(make: Make, peer: Peer) -> None:
    client, _ = await make()
    outcome = Outcome()
    sent = outcome.start(client, request(via=False), Hop("udp", "127.0.0.1", peer.port))
    asked = await peer.request()
    client.on_unreachable(request(branch="z9hG4bKforged").to_bytes())
    client.on_unreachable(b"\xff" * 40)
    client.on_unreachable(b"")
    client.on_unreachable(answer(asked, 200).to_bytes())
    peer.send(answer(asked, 200), Hop("udp", *client.local_address("udp")))
    assert await outcome.status() == 200
    quoted = quoted_request(sent.request.to_bytes()[:200])
    assert quoted is not None
    assert quoted[0].branch == sent.request.top_via.branch


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_a_refused_connection_is_told_at_once(make: Make, transport: TransportName) -> None:
    client, _ = await make(transport)
    outcome = Outcome()
    hop = Hop(transport, "127.0.0.1", free_port())
    outcome.start(client, request(via=False), hop)
    assert await asyncio.wait_for(outcome.next(), 1.0) is Code.SIP_TRANSPORT


async def test_a_server_that_never_finishes_its_handshake(make: Make) -> None:
    client, _ = await make("tls", limits=ConnectionLimits(connect_s=0.1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outcome = Outcome()
        outcome.start(client, request(via=False), Hop("tls", *silent.getsockname()))
        assert await asyncio.wait_for(outcome.next(), 2.0) is Code.SIP_TRANSPORT


# Requests too large for UDP


def large(method: str = "OPTIONS") -> Request:
    built = request(method, via=False)
    built.headers.set("X-Large", "x" * 1300)
    return built


async def both(make: Make) -> tuple[SipEndpoint, Hop]:
    endpoint, hop = await make("udp")
    await endpoint.listen("tcp", hop.host, hop.port)
    return endpoint, hop


async def test_a_large_request_goes_by_tcp(make: Make) -> None:
    client, _ = await both(make)
    server, hop = await both(make)
    seen = accept_all(server)
    for message in (large(), request(via=False)):
        outcome = Outcome()
        outcome.start(client, message, hop)
        assert await outcome.status() == 200
    first, second = seen.get_nowait(), seen.get_nowait()
    assert (first.hop.transport, second.hop.transport) == ("tcp", "udp")
    assert first.request.top_via.transport == "TCP"


async def test_a_large_request_goes_by_udp_where_there_is_no_tcp(make: Make) -> None:
    client, _ = await both(make)
    server, hop = await make("udp")
    seen = accept_all(server)
    for _ in range(2):
        outcome = Outcome()
        user = outcome.start(client, large(), hop)
        assert await outcome.status() == 200
        assert user.hop == hop
        assert (await seen.get()).request.top_via.transport == "UDP"
    assert client.transaction_count == 2  # absorbing retransmissions, nothing else


async def test_a_call_given_up_while_tcp_was_tried_is_cancelled(make: Make) -> None:
    client, _ = await both(make)
    server, hop = await make("udp")

    def on_request(transaction: ServerTransaction) -> None:
        transaction.on_cancel = lambda: transaction.respond(answer(transaction.request, 487))
        transaction.respond(answer(transaction.request, 180))

    server.on_request = on_request
    outcome = Outcome()
    outcome.start(client, large("INVITE"), hop).cancel()
    assert [await outcome.status() for _ in range(2)] == [180, 487]


async def test_a_connection_lost_with_a_large_request_is_no_reason_to_send_it_again(
    make: Make,
) -> None:
    client, _ = await both(make)
    server, hop = await both(make)
    seen: asyncio.Queue[ServerTransaction] = asyncio.Queue()
    server.on_request = seen.put_nowait
    outcome = Outcome()
    outcome.start(client, large(), hop)
    source = (await asyncio.wait_for(seen.get(), WAIT_S)).hop
    server._transports._pool._connections[source.connection].abort()
    assert await outcome.next() is Code.SIP_TRANSPORT
    assert seen.empty()


async def test_a_peer_that_answers_nothing_on_tcp_gets_it_by_udp(
    make: Make, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cti.sip.endpoint.CONNECT_S", 0.05)
    client, _ = await both(make)
    with socket.socket() as full:
        full.bind(("127.0.0.1", peer.port))
        full.listen(0)
        fillers = []
        for _ in range(3):  # a queue that is full answers no SYN
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", peer.port))
            fillers.append(filler)
        outcome = Outcome()
        outcome.start(client, large(), Hop("udp", "127.0.0.1", peer.port))
        asked = await peer.request()
        assert asked.top_via.transport == "UDP"
        peer.send(answer(asked, 200), Hop("udp", *client.local_address("udp")))
        assert await outcome.status() == 200
        for filler in fillers:
            filler.close()


def test_who_took_no_tcp_is_tried_again_after_a_while() -> None:
    memory = LargeRequests()
    hop = Hop("udp", "192.0.2.1", 5060, 7)
    assert memory.stream_hop(hop, 0) == Hop("tcp", "192.0.2.1", 5060)
    memory.refused(hop, 0)
    assert memory.stream_hop(hop, 599) is None
    assert memory.stream_hop(hop, 600) is not None
    for port in range(1, 5000):
        memory.refused(Hop("udp", "192.0.2.2", port), 1)
    assert memory.stream_hop(hop, 2) is not None  # forgotten, not grown


# Deadlines and pings


def test_pings_are_spread_and_a_pong_is_wanted_of_who_can() -> None:
    limits = ConnectionLimits()
    firsts = []
    for _ in range(50):
        pings = Pings(limits, 0.0)
        at_s = next(at for at in range(200) if pings.due(at) is PingDue.SEND)
        firsts.append(at_s)
        assert pings.due(at_s + 11) is PingDue.NOTHING  # it never sent a pong
    assert min(firsts) >= 95
    assert max(firsts) <= 120
    assert len(set(firsts)) > 5
    pings = Pings(limits, 0.0)
    assert pings.due(120.0) is PingDue.SEND
    pings.heard(pong=True)
    assert pings.due(131.0) is PingDue.NOTHING
    assert pings.due(240.1) is PingDue.SEND
    assert pings.due(250.0) is PingDue.NOTHING
    assert pings.due(250.2) is PingDue.DEAD


async def test_a_peer_that_stops_to_answer_pings_is_given_up(make: Make) -> None:
    limits = ConnectionLimits(ping_s=0.05, pong_s=0.4)
    client, _ = await make("tcp", limits=limits)
    pings = 0
    closed: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal pings
        await reader.readuntil(b"\r\n\r\n")
        while await reader.read(4) == b"\r\n\r\n":
            pings += 1
            if pings <= 3:
                writer.write(b"\r\n")
        closed.set_result(b"")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    hop = Hop("tcp", *server.sockets[0].getsockname())
    outcome = Outcome()
    outcome.start(client, request(via=False), hop)
    assert await outcome.next() is Code.SIP_TRANSPORT
    await asyncio.wait_for(closed, WAIT_S)
    assert pings == 4
    server.close()


class Idle:
    """A connection as a sweep sees it."""

    def __init__(self, number: int) -> None:
        self.connection = number
        self.hop = Hop("tcp", f"192.0.2.{number % 9}", number)
        self.looked_at = 0
        self.is_dripping = False

    def is_overdue(self, now_s: float) -> bool:
        self.looked_at += 1
        return False


async def test_thousands_of_idle_connections_cost_a_sweep_nothing() -> None:
    pool = ConnectionPool(cast("Any", None), ConnectionLimits())
    idle = [Idle(number) for number in range(5000)]
    for each in idle:
        connection = cast("Connection", each)
        assert pool.admit(connection)
        pool.watch(connection, owing=False)
    pool.watch(cast("Connection", idle[7]), owing=True)
    now_s, hour_s = 1000.0, 3600.0
    sweeps = int(hour_s / pool.sweep_period_s)
    for _ in range(sweeps):
        now_s += pool.sweep_period_s
        pool.sweep(now_s)
    assert idle[7].looked_at == sweeps
    assert idle[8].looked_at <= 9
    assert pool.sweep_period_s >= 1


# Via


@pytest.mark.parametrize(
    ("via", "source", "stamped", "back"),
    [
        (
            "UDP [2001:DB8:0::9]:5070",
            Hop("udp", "2001:db8::9", 6000, 3),
            "UDP [2001:DB8:0::9]:5070",
            Hop("udp", "2001:db8::9", 5070, 3),
        ),
        (
            "UDP [2001:db8::9];rport",
            Hop("udp", "2001:db8::7", 6000, 3),
            "UDP [2001:db8::9];rport=6000;received=2001:db8::7",
            Hop("udp", "2001:db8::7", 6000, 3),
        ),
        (
            "UDP gw.example",
            Hop("udp", "fe80::1%eth0", 6000, 3),
            "UDP gw.example;received=fe80::1",
            Hop("udp", "fe80::1%eth0", 5060, 3),
        ),
        (
            "UDP 192.168.1.9:5060",
            Hop("udp", "192.0.2.1", 6000, 3),
            "UDP 192.168.1.9:5060;received=192.0.2.1;rport=6000",
            Hop("udp", "192.0.2.1", 6000, 3),
        ),
        (
            "TLS gw.example;rport",
            Hop("tls", "192.0.2.1", 6000, 3),
            "TLS gw.example;rport=6000;received=192.0.2.1",
            Hop("tls", "192.0.2.1", 5061, 3, "gw.example"),
        ),
    ],
)
def test_the_way_back(via: str, source: Hop, stamped: str, back: Hop) -> None:
    asked = request(via=False)
    asked.headers.prepend("Via", f"SIP/2.0/{via}")
    assert stamp_via(asked, source) == back
    assert asked.headers.get("Via") == f"SIP/2.0/{stamped}"


async def test_an_idle_server_transaction_is_left_when_nobody_listens_any_more(make: Make) -> None:
    """An ICMP error about a response is no reason to fail anything: Timer J ends it."""
    server, hop = await make(timers=QUICK)
    accept_all(server)
    peer = Peer()
    peer.send(request(sent_by=f"127.0.0.1:{peer.port}"), hop)
    peer.socket.close()
    other = Peer()
    other.send(request(sent_by=f"127.0.0.1:{other.port}", branch="z9hG4bKother"), hop)
    assert (await other.response()).status == 200
    other.socket.close()
