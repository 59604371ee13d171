"""Media agreed before the call is answered: what a 200 without a description leaves in force."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cti.call import Call, DialTarget
from cti.shared.contacts import Binding
from cti.sip.messages.message import Request, Response
from cti.sip.transports.transport import Hop
from domain.failures import Code, PlatformError
from domain.ids import TenantId
from tests.call_control.conftest import Bench, answered
from tests.call_control.exchange import Exchange, Phone, exchange_on
from tests.call_control.party import Party, PartyCall
from tests.call_control.platform import until
from tests.fakes.descriptions import build_offer
from tests.fakes.media import FakeMedia
from tests.fakes.session import FakeSession


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with exchange_on(tmp_path, FakeMedia()) as running:
        yield running


@pytest.fixture
async def one(exchange: Exchange) -> Phone:
    return await exchange.phone("1001")


class Heard:
    """What the platform is sent."""

    def __init__(self, exchange: Exchange) -> None:
        self.messages: list[Request | Response] = []
        self._deliver = exchange.endpoint.on_message
        exchange.endpoint.on_message = self.take  # type: ignore[method-assign]

    def take(self, message: Request | Response, source: Hop) -> None:
        self.messages.append(message)
        self._deliver(message, source)

    def described(self, status: int, hop: Hop) -> list[bool]:
        """Whether the responses to INVITEs of this status carried a description."""
        contact = f"{hop.host}:{hop.port}"
        return [
            bool(each.body)
            for each in self.messages
            if isinstance(each, Response)
            and each.status == status
            and each.cseq[1] == "INVITE"
            and contact in (each.headers.get("Contact") or "")
        ]


async def rung_with_media(carrier: Party, exchange: Exchange, call: PartyCall) -> PartyCall:
    rung = await carrier.next_call()
    await ring_with_media(rung)
    await until(lambda: exchange.are_talking(call, rung))
    return rung


async def ring_with_media(rung: PartyCall) -> None:
    rung.ring(with_media=True)
    session = rung.session
    assert session is not None
    await until(lambda: not session.awaits_prack)


async def carrier_of(exchange: Exchange) -> Party:
    carrier = await exchange.carrier()
    carrier.rings_by_itself = False
    exchange.trunks.carriers = [carrier]
    return carrier


async def settled(exchange: Exchange) -> None:
    await until(lambda: exchange.control.calls == 0)


async def test_a_reliable_183_is_the_answer(exchange: Exchange, one: Phone) -> None:
    carrier, heard = await carrier_of(exchange), Heard(exchange)
    call = one.dial("13900001111")
    rung = await rung_with_media(carrier, exchange, call)
    rung.answer()
    await call.until_answered()
    await until(lambda: "bridged" in exchange.sink.names)
    assert heard.described(183, carrier.hop) == [True]
    assert heard.described(200, carrier.hop) == [False]
    assert exchange.are_talking(call, rung)
    call.hang_up()
    await rung.until_ended()
    await settled(exchange)


async def test_an_update_before_the_answer_counts(exchange: Exchange, one: Phone) -> None:
    carrier, heard = await carrier_of(exchange), Heard(exchange)
    call = one.dial("13900001111")
    rung = await rung_with_media(carrier, exchange, call)
    assert rung.session is not None
    rung.sdp = build_offer("127.0.0.1", 46998, session_id=7, version=2)
    rung.session.reinvite(rung.sdp)
    await until(lambda: exchange.are_talking(call, rung))
    rung.answer()
    await call.until_answered()
    await until(lambda: "bridged" in exchange.sink.names)
    assert heard.described(200, carrier.hop) == [False]
    assert exchange.talks_to(call) == b"46998"
    call.hang_up()
    await rung.until_ended()
    await settled(exchange)


async def test_a_caller_moves_its_media_before_the_answer(exchange: Exchange, one: Phone) -> None:
    carrier = await carrier_of(exchange)
    call = one.dial("13900001111")
    rung = await rung_with_media(carrier, exchange, call)
    assert call.session is not None
    call.sdp = build_offer("127.0.0.1", 46998, session_id=7, version=2)
    call.session.reinvite(call.sdp)
    await until(lambda: exchange.talks_to(rung) == b"46998")
    rung.answer()
    await call.until_answered()
    await until(lambda: "bridged" in exchange.sink.names)
    assert exchange.are_talking(call, rung)
    rung.hang_up()
    await call.until_ended()
    await settled(exchange)


async def test_of_several_phones_that_describe_themselves_early_the_one_that_answers_is_heard(
    exchange: Exchange, one: Phone
) -> None:
    desk, mobile = await exchange.phone("1002"), await exchange.phone("1003")

    async def lookup(tenant: TenantId, user: str) -> list[Binding]:
        return [(await Exchange.lookup(exchange, tenant, each.user))[0] for each in (desk, mobile)]

    exchange.lookup = lookup  # type: ignore[method-assign]
    desk.rings_by_itself = mobile.rings_by_itself = False
    call = one.dial("1002")
    first, second = await desk.next_call(), await mobile.next_call()
    for rung in (first, second):
        await ring_with_media(rung)
    assert first.session is not None
    first.session.reinvite(build_offer("127.0.0.1", 46998, session_id=7, version=2))
    await until(lambda: first.reoffers_refused)
    second.answer()
    await call.until_answered()
    await until(lambda: exchange.are_talking(call, second))
    await first.until_ended()
    call.hang_up()
    await settled(exchange)


async def forked(bench: Bench) -> tuple[FakeSession, list[Code]]:
    """Ring a phone behind a proxy that forks; its two forks both change their media."""
    outcome: list[Code] = []

    async def body(call: Call) -> None:
        try:
            leg = await call.dial(DialTarget("1001", call.info.caller), timeout_ms=5000)
        except PlatformError as error:
            outcome.append(error.code)
            return
        await call.bridge(leg)

    bench.handler = answered(body)
    bench.contacts.by_user["1001"] = ["sip:1001@192.0.2.7:5060"]
    bench.invite()
    await bench.until(lambda: bench.user_agent.sessions)
    (phone,) = bench.user_agent.sessions
    for tag, port in (("desk", 46000), ("mobile", 46002)):
        phone.remote_tag = tag
        offer = build_offer("127.0.0.1", port, session_id=1, version=1)
        assert isinstance(phone.observer.on_reoffer(offer), bytes)
    return phone, outcome


async def test_the_fork_whose_media_are_in_use_answers(bench: Bench) -> None:
    phone, _ = await forked(bench)
    phone.answer(b"")
    await bench.until(lambda: "bridged" in bench.sink.names)
    phone.hang_up()
    await bench.settle()


async def test_a_fork_whose_media_are_not_in_use_answers(bench: Bench) -> None:
    phone, outcome = await forked(bench)
    phone.remote_tag = "desk"
    phone.answer(b"")
    await bench.settle()
    assert phone.ended_with is Code.SDP_MALFORMED
    assert outcome == [Code.FAR_END_REFUSED]
