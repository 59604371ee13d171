"""What is refused from its bytes would have been refused alike on the long way."""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cti.sip.defence.early_refusal import EarlyRefusals, RefusedKeys
from cti.sip.messages.message import Request, Response, parse_message, response_to
from cti.sip.transactions.transaction import server_key
from cti.sip.transports.transport import Hop
from cti.sip.via_stamps import stamp_via
from loadtest.bench_sip import invite, with_via
from tests.sip_core.network import Make, Outcome, Peer, accept_all

WIRE = Path(__file__).parent / "wire"
SOURCE = Hop("udp", "127.0.0.1", 5080, 1)


def refused(data: bytes, source: Hop = SOURCE) -> tuple[Response, int] | None:
    """The refusal from the bytes, and the port that it goes to."""
    early = EarlyRefusals("ours")
    found = early.read(data, source)
    if found is None:
        return None
    response = parse_message(early.refusal(found, 7))
    assert isinstance(response, Response)
    return response, found.port


def same_as_the_long_way(data: bytes, source: Hop = SOURCE) -> bool:
    """Compare both ways; False where only the long one takes it."""
    answer = refused(data, source)
    if answer is None:
        return False
    response, port = answer
    request = parse_message(data)
    assert isinstance(request, Request)
    assert request.method == "INVITE"
    assert request.to.tag is None
    hop = stamp_via(request, source)
    found = EarlyRefusals("").read(data, source)
    assert found is not None
    assert found.key == server_key(request)
    assert (hop.host, hop.port) == (source.host, port)
    long_way = response_to(request, 503, headers=[("Retry-After", "7")])
    for name in ("From", "Call-ID", "CSeq", "Retry-After"):
        assert response.headers.get_all(name) == long_way.headers.get_all(name)
    assert response.headers.rows("Via") == long_way.headers.rows("Via")
    assert response.status == 503
    assert response.to.tag
    assert response.to.uri == request.to.uri
    return True


def test_an_invite_as_everybody_writes_it() -> None:
    request = with_via(invite(1), 1)
    assert same_as_the_long_way(request.to_bytes())
    request.headers.add("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKfar")
    assert same_as_the_long_way(request.to_bytes())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"INVITE sip", b"OPTIONS sip"),
        (b"To: <sip:95598@127.0.0.1>", b"To: <sip:95598@127.0.0.1>;tag=1"),
        (b"Call-ID", b"Resource-Priority: ets.0\r\nCall-ID"),
        (b"Call-ID", b"Replaces: x@y;to-tag=1;from-tag=2\r\nCall-ID"),
        (b"Call-ID", b"X-Source-Address: 192.0.2.1\r\nCall-ID"),
        (b"Call-ID", b" folded\r\nCall-ID"),
        (b"Call-ID", b"X-Ill: a\nCall-ID"),
        (b"Call-ID", b"From: <sip:b@c>;tag=2\r\nCall-ID"),
        (b"From", b"Form"),
        (b"z9hG4bK", b"old"),
        (b";rport", b";rport;maddr=192.0.2.9"),
        (b"UDP 127.0.0.1", b"UDP host.example"),
        (b"314159 INVITE", b"314159 ACK"),
        (b"\r\n\r\n", b"\r\n"),
    ],
)
def test_what_is_odd_goes_the_long_way(before: bytes, after: bytes) -> None:
    data = with_via(invite(1), 1).to_bytes()
    assert data.count(before) == 1 or before == b"From"
    assert refused(data.replace(before, after, 1)) is None


@given(
    st.integers(1, 65_535),
    st.integers(1, 65_535),
    st.sampled_from(["", ";rport"]),
    st.sampled_from(["", ":5080"]),
    st.sampled_from(["127.0.0.1", "10.1.2.3"]),
    st.booleans(),
)
def test_vias_of_all_kinds(
    number: int, port: int, rport: str, sent_port: str, host: str, short: bool
) -> None:
    request = invite(number)
    via = f"SIP/2.0/UDP {host}{sent_port};branch=z9hG4bK-{number:x}{rport}"
    request.headers.prepend("Via", via)
    data = request.to_bytes()
    if short:
        for name, letter in ((b"Via", b"v"), (b"From", b"f"), (b"To", b"t"), (b"Call-ID", b"i")):
            data = data.replace(b"\r\n" + name + b":", b"\r\n" + letter + b":")
    taken = same_as_the_long_way(data, Hop("udp", "127.0.0.1", port, 1))
    assert taken == (bool(rport) or host == "127.0.0.1")


@given(st.randoms(use_true_random=False))
def test_spoilt_messages_are_answered_alike_or_left_alone(chance: random.Random) -> None:
    data = bytearray(with_via(invite(1), 1).to_bytes())
    end = data.find(b"Call-ID")
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(end)
        data[at : at + chance.randint(0, 2)] = chance.choice([b"\r\n", b";", b"<", b" ", b"=", b""])
    answer = refused(bytes(data))
    if answer is not None:
        assert answer[0].status == 503
        assert b"\n" not in answer[0].to_bytes().replace(b"\r\n", b"")


class Busy:
    """A shedder that has no time at all, or all of it."""

    def __init__(self, *, trusts: bool = True, is_phone: bool = False) -> None:
        self.is_shedding = False
        self.asked = 0
        self.waits: list[float] = []
        self._trusts = trusts
        self._is_phone = is_phone

    def is_trusted(self, source: str) -> bool:
        return self._trusts and source == "127.0.0.1"

    def is_phone(self, source: str) -> bool:
        return self._is_phone and source == "127.0.0.1"

    def admits(self, _now_s: float, *, has_priority: bool = False) -> bool:
        self.asked += 1
        return has_priority or not self.is_shedding

    def retry_after_s(self) -> int:
        return 4

    def on_wait(self, wait_s: float) -> None:
        self.waits.append(wait_s)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    yield peer
    peer.socket.close()


def request(peer: Peer, number: int, *headers: tuple[str, str], method: str = "INVITE") -> Request:
    made = invite(number, method=method)
    for name, value in headers:
        made.headers.add(name, value)
    via = f"SIP/2.0/UDP 127.0.0.1:{peer.port};branch=z9hG4bK{number:08x};rport"
    made.headers.prepend("Via", via)
    return made


@pytest.mark.parametrize("trusts", [True, False])
async def test_only_new_calls_are_refused(make: Make, peer: Peer, trusts: bool) -> None:
    endpoint, hop = await make()
    seen = accept_all(endpoint, 183)
    busy = endpoint.shedder = Busy(trusts=trusts)
    peer.send(request(peer, 1), hop)
    assert (await peer.response()).status in {100, 183}
    busy.is_shedding = True
    peer.send(request(peer, 2), hop)
    while (response := await peer.response()).call_id != invite(2).call_id:
        pass
    assert response.status == 503
    assert response.headers.get("Retry-After") == "4"
    assert endpoint.transaction_count == 1
    ack = request(peer, 2, method="ACK")
    ack.headers.set("To", response.headers.first_row("To") or "")
    peer.send(ack, hop)
    peer.send(request(peer, 1), hop)  # again: its call was let in
    assert (await peer.response()).status == 183
    peer.send(request(peer, 3, method="OPTIONS"), hop)
    assert (await peer.response()).status == 183
    inside = request(peer, 4)
    inside.headers.set("To", "<sip:95598@127.0.0.1>;tag=there")
    peer.send(inside, hop)
    while (response := await peer.response()).call_id != inside.call_id:
        pass
    assert response.status == 183
    assert seen.qsize() == 3
    assert busy.asked == 2
    assert busy.waits
    assert all(0 <= wait < 5 for wait in busy.waits)


async def test_priority_counts_from_those_who_are_trusted(make: Make, peer: Peer) -> None:
    endpoint, hop = await make()
    accept_all(endpoint, 486)
    busy = endpoint.shedder = Busy(trusts=True)
    busy.is_shedding = True
    peer.send(request(peer, 1, ("Resource-Priority", "ets.0")), hop)
    assert (await peer.response()).status == 486
    other = endpoint.shedder = Busy(trusts=False)
    other.is_shedding = True
    peer.send(request(peer, 2, ("Resource-Priority", "ets.0")), hop)
    assert (await peer.response()).status == 503


@pytest.mark.parametrize("trusts", [True, False])
async def test_who_takes_the_place_of_another_in_a_call_is_no_new_caller(
    make: Make, peer: Peer, trusts: bool
) -> None:
    endpoint, hop = await make()
    accept_all(endpoint, 486)
    busy = endpoint.shedder = Busy(trusts=trusts)
    busy.is_shedding = True
    peer.send(request(peer, 1, ("Replaces", "a@b;to-tag=1;from-tag=2")), hop)
    assert (await peer.response()).status == 486


@pytest.mark.parametrize(("trusts", "status"), [(False, 486), (True, 503)])
async def test_phones_of_ours_are_served_before_strangers_and_trunks(
    make: Make, peer: Peer, trusts: bool, status: int
) -> None:
    """At an address that is a trunk's too, nobody knows a phone's calls from the trunk's."""
    endpoint, hop = await make()
    accept_all(endpoint, 486)
    busy = endpoint.shedder = Busy(trusts=trusts, is_phone=True)
    busy.is_shedding = True
    peer.send(request(peer, 1), hop)
    assert (await peer.response()).status == status


async def test_calls_over_streams_are_refused_too(make: Make) -> None:
    server, hop = await make("tcp")
    accept_all(server)
    busy = server.shedder = Busy()
    busy.is_shedding = True
    client, _ = await make("tcp")
    outcome = Outcome()
    outcome.start(client, invite(1), hop)
    assert await outcome.status() == 503


def test_the_wire_messages_of_the_torture_tests_too() -> None:
    for path in sorted(WIRE.glob("*.sip")):
        answer = refused(path.read_bytes())
        assert answer is None or parse_message(path.read_bytes()).call_id == answer[0].call_id


def test_a_flood_of_refusals_is_remembered_in_bounds() -> None:
    refused = RefusedKeys(most=10)
    for count in range(1, 1000):
        refused.add((f"z9hG4bK{count}", "192.0.2.1:5060", "INVITE"), now_s=50.0)
        assert len(refused) <= 20
        for latest in range(max(1, count - 9), count + 1):
            assert (f"z9hG4bK{latest}", "192.0.2.1:5060", "INVITE") in refused
    assert ("z9hG4bK1", "192.0.2.1:5060", "INVITE") not in refused


def test_a_refusal_is_remembered_for_seconds_and_not_for_ever() -> None:
    refused = RefusedKeys()
    one, two, three = ("a", "b", "INVITE"), ("c", "d", "INVITE"), ("e", "f", "INVITE")
    refused.add(one, now_s=100.0)
    refused.add(two, now_s=109.0)
    assert one in refused
    refused.add(three, now_s=118.0)
    assert one not in refused
    assert two in refused
    refused.add(one, now_s=200.0)
    assert three not in refused
    assert one in refused


def test_what_strangers_write_is_not_kept_with_a_refusal() -> None:
    refused = RefusedKeys()
    branch = "z9hG4bK" + 60_000 * "x"
    key = (branch, "192.0.2.1:5060", "INVITE")
    before = sys.getrefcount(branch)
    refused.add(key, now_s=1.0)
    assert key in refused
    assert sys.getrefcount(branch) == before
