"""Call control on real SIP over UDP: caller, platform and phones in one loop, media faked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cti.admission import Admission
from cti.call import Call, DialTarget, HangUpParty, RingingLeg
from domain.failures import Code
from tests.call_control.conftest import answered
from tests.call_control.party import Party
from tests.call_control.platform import Platform, until
from tests.fakes.media import FakeMedia
from tests.fakes.turn import turn

CLIP = Path("clip.wav")


@pytest.fixture
async def platform(admission: Admission, tmp_path: Path) -> AsyncIterator[Platform]:
    media = FakeMedia()
    platform = await Platform(admission, tmp_path, media).listen()
    yield platform
    await platform.control.aclose()
    await until(lambda: platform.user_agent.session_count == 0)
    assert not media.ports
    assert not media.recordings
    await platform.endpoint.aclose()


@pytest.fixture
async def carrier() -> AsyncIterator[Party]:
    party = await Party().listen()
    yield party
    await party.endpoint.aclose()


@pytest.fixture
async def phones() -> AsyncIterator[list[Party]]:
    parties = [await Party().listen() for _ in range(2)]
    yield parties
    for party in parties:
        await party.endpoint.aclose()


async def test_greeting_then_goodbye(platform: Platform, carrier: Party) -> None:
    async def body(call: Call) -> None:
        await call.play([CLIP])

    platform.handler = answered(body)
    call = carrier.call("95598", platform.hop)
    assert b"m=audio" in await call.until_answered()
    end = await call.until_ended()
    assert end.by_peer
    await until(lambda: platform.sink.names[-1] == "call_ended")


async def test_unknown_access_code(platform: Platform, carrier: Party) -> None:
    end = await carrier.call("10086", platform.hop).until_ended()
    assert end.status == 404
    assert platform.sink.names == ["call_arrived", "call_refused"]


async def test_caller_cancels(platform: Platform, carrier: Party) -> None:
    call = carrier.call("95598", platform.hop)
    await until(lambda: platform.control.calls == 1)
    call.hang_up()
    await until(lambda: platform.control.calls == 0)
    assert platform.sink.cause("call_ended") == Code.CALLER_ABANDONED


async def test_phone_answered_from_the_toolbar(
    platform: Platform, carrier: Party, phones: list[Party]
) -> None:
    legs: list[RingingLeg] = []
    ends: list[HangUpParty] = []

    async def body(call: Call) -> None:
        target = DialTarget("1001", call.info.caller, "电费")
        leg = await call.dial(target, timeout_ms=5000, on_ringing=legs.append)
        ends.append((await call.bridge(leg, record_party="1001")).by)

    platform.register(phones[0])
    platform.handler = answered(body)
    caller = carrier.call("95598", platform.hop)
    phone = await phones[0].next_call()
    assert phone.session is not None
    request = phone.session.request
    assert request.from_.display == "电费"
    wire = request.to_bytes()
    assert caller.session is not None
    assert caller.session.call_id.encode() not in wire
    assert b"carrier.example" not in wire
    assert str(carrier.hop.port).encode() not in wire
    await until(lambda: platform.user_agent.session_count == 2)
    # The NOTIFY needs the dialog that the phone's 180 makes.
    async with asyncio.timeout(5):
        while not await legs[0].answer_remotely():
            await turn()
    await until(lambda: "bridged" in platform.sink.names)
    phone.hang_up()
    await caller.until_ended()
    assert ends == [HangUpParty.FAR_END]
    await until(lambda: platform.sink.names[-1] == "call_ended")


async def test_two_phones_answer_at_once(
    platform: Platform, carrier: Party, phones: list[Party]
) -> None:
    async def body(call: Call) -> None:
        leg = await call.dial(DialTarget("1001", call.info.caller), timeout_ms=5000)
        await call.bridge(leg)

    for phone in phones:
        phone.answers_at_once = True
    platform.register(*phones)
    platform.handler = answered(body)
    caller = carrier.call("95598", platform.hop)
    await until(lambda: "bridged" in platform.sink.names)
    calls = [await phone.next_call() for phone in phones]
    await until(lambda: sum(call.ended.done() for call in calls) == 1)
    (winner,) = (call for call in calls if not call.ended.done())
    caller.hang_up()
    await winner.until_ended()
    await until(lambda: platform.sink.names[-1] == "call_ended")
    assert platform.sink.names.count("leg_ended") == 1


async def test_busy_unreachable_and_declined_phones(
    platform: Platform, carrier: Party, phones: list[Party]
) -> None:
    async def body(call: Call) -> None:
        await call.dial(DialTarget("1001", call.info.caller), timeout_ms=5000)

    platform.register(phones[0])
    platform.handler = answered(body)
    for code in (Code.BUSY, Code.DECLINED):
        platform.sink.events.clear()
        caller = carrier.call("95598", platform.hop)
        phone = await phones[0].next_call()
        phone.hang_up(code)
        await caller.until_ended()
        await until(lambda: platform.sink.names[-1] == "call_ended")
        assert platform.sink.cause("leg_ended") == code
        assert platform.sink.cause("call_ended") == code


async def test_caller_hangs_up_while_it_rings(
    platform: Platform, carrier: Party, phones: list[Party]
) -> None:
    async def body(call: Call) -> None:
        await call.dial(DialTarget("1001", call.info.caller), timeout_ms=5000)

    platform.register(*phones)
    platform.handler = answered(body)
    caller = carrier.call("95598", platform.hop)
    calls = [await phone.next_call() for phone in phones]
    caller.hang_up()
    for call in calls:
        assert (await call.until_ended()).status == 487
    await until(lambda: platform.sink.names[-1] == "call_ended")


async def test_closing_says_goodbye_to_everyone(
    platform: Platform, carrier: Party, phones: list[Party]
) -> None:
    async def body(call: Call) -> None:
        leg = await call.dial(DialTarget("1001", call.info.caller), timeout_ms=5000)
        await call.bridge(leg, record_party="1001")

    phones[0].answers_at_once = True
    platform.register(phones[0])
    platform.handler = answered(body)
    caller = carrier.call("95598", platform.hop)
    phone = await phones[0].next_call()
    await until(lambda: "bridged" in platform.sink.names)
    await platform.control.aclose()
    assert platform.control.calls == 0
    await caller.until_ended()
    await phone.until_ended()
