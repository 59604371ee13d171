"""Who is heard by those who listen to a call from outside, and when it ends for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from cti.call import Call, DialTarget
from cti.calls.inbound_call import InboundCall
from cti.calls.listening import MOST_WAITING_PIECES, Listening
from cti.calls.parties import Part
from cti.media import TapAudio, TapEnded
from cti.sdp import Direction
from domain.failures import Code, PlatformError
from domain.ids import CallId, TenantId
from tests.call_control.conftest import TENANT, Bench, answered
from tests.call_control.exchange import Exchange, Transferor, exchange_on, held
from tests.call_control.party import Party, PartyCall
from tests.call_control.platform import until
from tests.call_control.talking import serve
from tests.fakes.media import FakeMedia
from tests.fakes.session import FakeSession


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with exchange_on(tmp_path, FakeMedia()) as running:
        yield running


@pytest.fixture
async def carrier(exchange: Exchange) -> AsyncIterator[Party]:
    party = await exchange.carrier()
    yield party
    await party.endpoint.aclose()


def listen(running: Bench | Exchange) -> Listening:
    (arrived,) = (e for e in running.sink.events if e.HasField("call_arrived"))
    return running.control.listen(TENANT, CallId(arrived.call_id))


def sides(exchange: Exchange) -> list[list[int]]:
    """The ports of the parties that the only tap hears, as numbers of their descriptions."""
    media = cast("FakeMedia", exchange.media)
    ((left, right),) = media.taps.values()
    connected = ([media.ports[port].connected for port in side] for side in (left, right))
    return [[each.remote_port for each in side if each is not None] for side in connected]


def number(call: PartyCall) -> int:
    return int(call.sdp.split(b"m=audio ")[1].split()[0])


async def test_who_is_heard_follows_the_call(exchange: Exchange, carrier: Party) -> None:
    _, agent, caller, phone = await serve(exchange, carrier)
    expert = await exchange.phone("1002")
    listening = listen(exchange)
    assert sides(exchange) == [[number(caller)], [number(phone)]]
    assert phone.session is not None
    phone.session.reinvite(held(phone, Direction.SENDONLY))
    await until(lambda: sides(exchange) == [[number(caller)], []])
    Transferor(agent, phone).refer("sip:1002@cti95598")
    ringing = await expert.next_call()
    ringing.answer()
    await until(lambda: sides(exchange) == [[number(caller)], [number(ringing)]])
    ringing.hang_up()
    await caller.until_ended()
    assert await listening.next() is None
    assert listening.cause == Code.FLOW_ENDED
    assert cast("FakeMedia", exchange.media).taps == {}


async def test_a_caller_alone_is_heard_at_once(bench: Bench) -> None:
    session = bench.invite()
    listening = listen(bench)
    (port,) = bench.media.ports
    assert list(bench.media.taps.values()) == [((port,), ())]
    session.hang_up()
    await bench.settle()
    assert await listening.next() is None
    assert listening.cause == Code.CALLER_ABANDONED
    with pytest.raises(PlatformError) as refused:
        listen(bench)
    assert refused.value.code == Code.CALL_UNKNOWN


async def test_an_announcement_before_the_answer_is_heard(exchange: Exchange) -> None:
    phone, carrier = await exchange.phone("1001"), await exchange.carrier()
    carrier.rings_by_itself = False
    exchange.trunks.carriers = [carrier]
    call = phone.dial("13900001111")
    rung = await carrier.next_call()
    listen(exchange)
    assert sides(exchange)[1] == []
    rung.ring(with_media=True)
    await until(lambda: exchange.are_talking(call, rung))
    assert sides(exchange)[1] == [number(rung)]
    rung.answer()
    await until(lambda: sides(exchange) == [[number(call)], [number(rung)]])
    call.hang_up()
    await until(lambda: exchange.control.calls == 0)


async def test_who_joins_is_heard_and_the_flow_after_it_alone(
    exchange: Exchange, carrier: Party
) -> None:
    async def body(call: Call) -> None:
        leg = await call.dial(DialTarget("1001", call.info.caller), timeout_ms=5000)
        await call.bridge(leg)
        await call.collect(first_digit_timeout_ms=60_000)

    exchange.handler = answered(body)
    agent, expert = await exchange.phone("1001"), await exchange.phone("1002")
    caller = carrier.call("95598", exchange.hop)
    phone = await agent.next_call()
    phone.answer()
    await until(lambda: exchange.are_talking(caller, phone))
    listen(exchange)
    ((call, _),) = exchange.control._calls.values()
    assert call.conversation is not None
    dialling = asyncio.create_task(call.dial(DialTarget("1002", call.info.caller), timeout_ms=5000))
    joins = await expert.next_call()
    joins.answer()
    leg = await dialling
    call.conversation.join(leg.port, Part.CONSULTANT)
    assert sides(exchange) == [[number(caller)], [number(phone), number(joins)]]
    call.conversation.leave(leg.port)
    assert sides(exchange) == [[number(caller)], [number(phone)]]
    leg.hang_up()
    phone.hang_up()
    await until(lambda: sides(exchange) == [[number(caller)], []])
    caller.hang_up()
    await until(lambda: exchange.control.calls == 0)


async def test_what_is_not_recorded_is_not_heard_from_outside(
    exchange: Exchange, carrier: Party
) -> None:
    _, _, caller, phone = await serve(exchange, carrier)
    listen(exchange)
    ((call, _),) = exchange.control._calls.values()
    assert isinstance(call, InboundCall)
    assert call.conversation is not None
    call.conversation.pause_recording()
    assert sides(exchange) == [[], []]
    assert phone.session is not None
    phone.session.reinvite(held(phone, Direction.SENDONLY))
    await until(lambda: exchange.hears(caller))
    assert sides(exchange) == [[], []]
    call.conversation.resume_recording()
    assert sides(exchange) == [[number(caller)], []]
    phone.hang_up()
    await caller.until_ended()


async def test_a_slow_subscriber_loses_the_oldest_audio_and_is_told(bench: Bench) -> None:
    bench.invite()
    listening = listen(bench)
    (tap,) = bench.media.taps
    for index in range(MOST_WAITING_PIECES + 15):
        bench.media.on_event(TapAudio(tap, index * 200, bytes(3200), bytes(3200)))
    first = await listening.next()
    assert first is not None
    assert (first.start_ms, first.dropped_ms) == (3000, 3000)
    for _ in range(MOST_WAITING_PIECES - 1):
        assert await listening.next() is not None
    bench.media.on_event(TapAudio(tap, 8400, bytes(1600), bytes(1600)))  # the engine had dropped
    piece = await listening.next()
    assert piece is not None
    assert (piece.start_ms, piece.dropped_ms) == (8400, 3400)
    bench.media.on_event(TapEnded(tap, 8600, 300))
    assert await listening.next() is None
    assert (listening.taken_ms, listening.dropped_ms) == (8600, 3500)
    assert listening.cause == Code.MEDIA_UNAVAILABLE


async def test_a_subscriber_that_leaves_ends_its_tap_only(bench: Bench) -> None:
    bench.invite()
    leaves, stays = listen(bench), listen(bench)
    leaves.close()
    leaves.close()
    assert await leaves.next() is None
    assert len(bench.media.taps) == 1
    assert not stays.is_stopped
    assert bench.control.calls == 1


async def test_calls_of_others_are_unknown_and_listeners_are_few(bench: Bench) -> None:
    bench.handler = answered(bench.handler)
    bench.invite(FakeSession())
    (arrived,) = (e for e in bench.sink.events if e.HasField("call_arrived"))
    for tenant, call in ((TenantId("other"), arrived.call_id), (TENANT, "none")):
        with pytest.raises(PlatformError) as refused:
            bench.control.listen(tenant, CallId(call))
        assert refused.value.code == Code.CALL_UNKNOWN
    listeners = [listen(bench) for _ in range(8)]
    with pytest.raises(PlatformError) as refused:
        listen(bench)
    assert refused.value.code == Code.OVERLOADED
    listeners[0].close()
    assert not listen(bench).is_stopped
