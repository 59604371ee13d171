"""Phones of others transfer callers, each in its own way; tones prove who talks to whom after."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cti import audio
from cti95598.agents.v1 import agents_pb2 as pb
from tests.peers.baresip import Baresip
from tests.peers.bench import Bench, hears
from tests.peers.linphone import Linphone

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]

CALLER_HZ, AGENT_HZ = 440, 1000


def tone(hertz: int) -> Callable[[audio.Sound], bool]:
    """More than a second of it."""
    return lambda sound: sum(one.duration_ms for one in audio.tone_spans(sound, hertz)) > 1000


async def test_baresip_transfers_blind(bench: Bench, tones: dict[int, Path]) -> None:
    number = bench.caller_number()
    agent = Baresip(bench.directory("baresip"), user="1005", voice=tones[CALLER_HZ])
    try:
        await agent.start(bench.server, password=bench.phone_password("1005"), auto_answer=True)
        await agent.registered()
        async with (
            bench.phone("1002", register=True, auto_answer=True) as expert,
            bench.toolbar("1005") as toolbar,
            bench.phone(number) as caller,
        ):
            heard = bench.directory("caller") / "heard.wav"
            expert.record_to = bench.directory("expert") / "heard.wav"
            call = caller.dial(bench.platform.access_url("96000"), bench.platform.sip, record=heard)
            await call.wait_answered(5)
            await call.press("1")
            await toolbar.reached(pb.AGENT_STATE_TALKING)
            agent.command("transfer", f"sip:1002@{bench.server}")
            taken = await expert.next_call(10)
            taken.play(tones[AGENT_HZ], loop=True)
            call.play(tones[CALLER_HZ], loop=True)
            await agent.event("CALL_CLOSED")
            await toolbar.reached(pb.AGENT_STATE_AFTER_CALL_WORK)
            await taken.wait_heard(tone(CALLER_HZ), 10)
            await call.wait_heard(tone(AGENT_HZ), 10)
            taken.hang_up()
            await taken.wait_closed(5)
            call.hang_up()
            await call.wait_closed(5)
            hears(taken.heard(), CALLER_HZ, not_hertz=AGENT_HZ)
    finally:
        await agent.stop()
    report = await bench.record_of(number)
    assert report.record["agent"] == "1005"
    assert [leg["purpose"] for leg in report.legs] == ["agent", "transfer"]
    assert len(report.recordings) == 1  # the conversation is one, whoever talks in it


async def test_linphone_asks_the_expert_first(bench: Bench, tones: dict[int, Path]) -> None:
    number = bench.caller_number()
    agent = Linphone(bench.directory("linphone"), user="1004", voice=tones[CALLER_HZ])
    try:
        await agent.start(
            bench.server,
            password=bench.phone_password("1004"),
            realm=bench.realm,
            auto_answer=True,
        )
        async with (
            bench.phone("1002", register=True, auto_answer=True) as expert,
            bench.toolbar("1004") as toolbar,
            bench.phone(number) as caller,
        ):
            heard = bench.directory("caller") / "heard.wav"
            expert.record_to = bench.directory("expert") / "heard.wav"
            call = caller.dial(bench.platform.access_url("96000"), bench.platform.sip, record=heard)
            await call.wait_answered(5)
            await call.press("1")
            await toolbar.reached(pb.AGENT_STATE_TALKING)
            await agent.in_call()
            agent.type("pause")
            agent.type(f"call sip:1002@{bench.server}")
            taken = await expert.next_call(10)
            taken.play(tones[AGENT_HZ], loop=True)
            call.play(tones[CALLER_HZ], loop=True)
            await agent.printed("Call 2 with .* connected")
            first = await call_number(agent, f"sip:{number}@")
            second = await call_number(agent, "sip:1002@")
            agent.type(f"transfer {first} --to-call {second}")
            await toolbar.reached(pb.AGENT_STATE_AFTER_CALL_WORK)
            await call.wait_heard(tone(AGENT_HZ), 10)
            await taken.wait_heard(tone(CALLER_HZ), 10)
            taken.hang_up()
            await taken.wait_closed(5)
            call.hang_up()
            await call.wait_closed(5)
    finally:
        await agent.stop()
    report = await bench.record_of(number)
    assert report.record["agent"] == "1004"
    assert len(report.recordings) == 1  # the conversation is one, whoever talks in it


async def call_number(phone: Linphone, party: str) -> str:
    """Linphone's own number of its call with a party."""
    phone.type("calls")
    line = await phone.printed(rf"\d+\s*\|.*{re.escape(party)}")
    found = re.search(r"(\d+)\s*\|", line)
    assert found is not None
    return found[1]
