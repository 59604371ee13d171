"""The fake call keeps the promises of `cti.call.Call` that flow tests rely on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cti.call import Call, Collected, CollectEnd, DialTarget, HangUpParty
from domain.failures import Code, PlatformError
from tests.fakes.call import HANG_UP, SILENCE, FakeCall, FakePhone

GREETING, MENU, MUSIC = Path("greeting.wav"), Path("menu.wav"), Path("music.wav")


def typed_as_call(call: Call) -> Call:
    return call


async def test_script_answers_one_collect_after_the_other() -> None:
    seen: list[Collected] = []

    async def handler(call: Call) -> None:
        await call.answer()
        await call.play([GREETING])
        seen.extend([await call.collect([MENU], max_digits=3) for _ in range(4)])

    call = FakeCall(["123", SILENCE, "4#"])
    await call.run(handler)
    assert [(one.digits, one.end) for one in seen] == [
        ("123", CollectEnd.COMPLETE),
        ("", CollectEnd.FIRST_DIGIT_TIMEOUT),
        ("4", CollectEnd.TERMINATOR),
        ("", CollectEnd.FIRST_DIGIT_TIMEOUT),
    ]
    assert call.heard == ["greeting.wav"] + ["menu.wav"] * 4
    assert call.ended is Code.FLOW_ENDED


async def test_hang_up_cancels_the_handler() -> None:
    tidied = False

    async def handler(call: Call) -> None:
        nonlocal tidied
        await call.answer()
        try:
            await call.collect([MENU])
        finally:
            tidied = True
        raise AssertionError

    call = FakeCall([HANG_UP])
    await call.run(handler)
    assert tidied
    assert call.ended is Code.CALLER_HUNG_UP


async def test_a_key_in_a_clip_stops_the_prompt_and_is_collected() -> None:
    async def handler(call: Call) -> None:
        assert await call.play([GREETING, MENU]) is False
        assert (await call.collect([MENU])).digits == "7"
        await call.hang_up(Code.QUEUE_TIMEOUT)

    call = FakeCall()
    call.on_clip("greeting.wav", "7")
    await call.run(handler)
    assert call.heard == ["greeting.wav"]
    assert call.ended is Code.QUEUE_TIMEOUT


async def test_phones() -> None:
    async def handler(call: Call) -> None:
        for user, code in (("9", Code.PHONE_NOT_REGISTERED), ("1", Code.BUSY)):
            with pytest.raises(PlatformError) as failure:
                await call.dial(DialTarget(user, "13812345678"), timeout_ms=1000)
            assert failure.value.code is code
        call.start_music([MUSIC])
        leg = await call.dial(DialTarget("2", "13812345678"), timeout_ms=1000)
        end = await call.bridge(leg, record_party="1001")
        assert end.by is HangUpParty.FAR_END
        assert end.talk_ms == 5000
        leg = await call.dial(DialTarget("3", "13812345678"), timeout_ms=1000)
        end = await call.bridge(leg)
        assert end.by is HangUpParty.FAR_END

    manual = FakePhone(manual=True)
    phones = {"1": FakePhone(Code.BUSY), "2": FakePhone(talk_ms=5000), "3": manual}
    call = FakeCall(phones=phones)
    typed_as_call(call)
    task = asyncio.create_task(call.run(handler))
    await asyncio.wait_for(manual.rang.wait(), 1)
    manual.answer()
    await asyncio.wait_for(manual.bridged.wait(), 1)
    manual.hang_up()
    await asyncio.wait_for(task, 1)
    assert call.ended is Code.FLOW_ENDED
    assert call.recorded_parties == ["1001"]
    assert call.music == []
