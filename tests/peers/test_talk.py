"""Caller and agent on every peer: who hears whom is proved by tones at each end and on disk."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cti import audio
from cti95598.agents.v1 import agents_pb2 as pb
from loadtest.rtp_capture import write_capture
from tests.peers.baresip import Baresip
from tests.peers.bench import Bench, Toolbar, dual_channel, hears
from tests.peers.linphone import Linphone
from tests.peers.sipp import Sipp
from tests.peers.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]

CALLER_HZ, AGENT_HZ = 440, 1000

needs_raw_sockets = pytest.mark.skipif(
    os.geteuid() != 0, reason="sipp replays captured packets as root only"
)


async def conversation_recorded(bench: Bench, toolbar: Toolbar, begun: float) -> None:
    """Wait until the agent talks and three seconds of it are on disk."""
    await toolbar.reached(pb.AGENT_STATE_TALKING, 20)
    await wait_until(bench.recording_begun(begun), 15, "three seconds of recording")


async def check_recording(bench: Bench, caller: str, agent: str) -> None:
    report = await bench.record_of(caller)
    assert report.record["agent"] == agent
    assert report.record["queue"] == "general"
    assert report.record["packets_lost"] == 0
    left, right = dual_channel(report)
    hears(left, CALLER_HZ, not_hertz=AGENT_HZ)
    hears(right, AGENT_HZ, not_hertz=CALLER_HZ)


async def test_our_phones(bench: Bench, tones: dict[int, Path]) -> None:
    number, begun = bench.caller_number(), time.time()
    async with (
        bench.phone("1001", register=True) as phone,
        bench.toolbar("1001") as toolbar,
        bench.phone(number) as caller,
    ):
        phone.record_to = bench.directory("agent") / "heard.wav"
        heard = bench.directory("caller") / "heard.wav"
        call = caller.dial(bench.platform.access_url("96000"), bench.platform.sip, record=heard)
        await call.wait_answered(5)
        await call.wait_pause(10)
        await call.press("1")
        answered = await phone.next_call(10)
        popped = await toolbar.reached(pb.AGENT_STATE_RINGING)
        assert popped.call.caller == number
        assert list(popped.call.path) == ["welcome", "wait"]
        assert (await toolbar.client.answer()).accepted
        await answered.wait_answered(5)
        call.play(tones[CALLER_HZ], loop=True)
        answered.play(tones[AGENT_HZ], loop=True)
        await conversation_recorded(bench, toolbar, begun)
        assert (await toolbar.client.hang_up()).accepted
        await answered.wait_closed(5)
        call.stop_play()
        await call.press("4")
        end = await call.wait_ended(20)
        assert end.by_peer
        await call.wait_closed(5)
        hears(call.heard(), AGENT_HZ, not_hertz=CALLER_HZ, at_least_ms=2500)
        hears(answered.heard(), CALLER_HZ, not_hertz=AGENT_HZ, at_least_ms=2500)
    await check_recording(bench, number, "1001")
    report = await bench.record_of(number)
    assert report.record["rating"] == 4
    assert [row["flow_node"] for row in report.steps] == ["welcome", "wait", "rate", "bye"]


@needs_raw_sockets
async def test_sipp_calls_our_phone(bench: Bench, tones: dict[int, Path]) -> None:
    number, begun = bench.caller_number(), time.time()
    directory = bench.directory("sipp-caller")
    directory.mkdir(parents=True)
    write_capture(
        directory / "caller.pcap", frequency_hz=CALLER_HZ, duration_ms=14_000, keys={1000: "1"}
    )
    sipp = Sipp(directory)
    try:
        async with (
            bench.phone("1002", register=True, auto_answer=True) as phone,
            bench.toolbar("1002") as toolbar,
        ):
            phone.record_to = bench.directory("agent") / "heard.wav"
            await sipp.start("caller", bench.server, service="96000", pause_ms=8000, caller=number)
            answered = await phone.next_call(10)
            answered.play(tones[AGENT_HZ], loop=True)
            await conversation_recorded(bench, toolbar, begun)
            await sipp.succeeded("caller")
            await answered.wait_closed(5)
            hears(answered.heard(), CALLER_HZ, not_hertz=AGENT_HZ, at_least_ms=2500)
    finally:
        await sipp.stop()
    await check_recording(bench, number, "1002")
    report = await bench.record_of(number)
    assert report.record["cause"] == "caller_hung_up"


@needs_raw_sockets
async def test_sipp_is_an_agents_phone(bench: Bench, tones: dict[int, Path]) -> None:
    number, begun = bench.caller_number(), time.time()
    directory = bench.directory("sipp-agent")
    directory.mkdir(parents=True)
    write_capture(directory / "agent.pcap", frequency_hz=AGENT_HZ, duration_ms=14_000, keys={})
    registering = Sipp(directory)
    ringing = Sipp(directory, local_port=registering.local_port)
    try:
        await registering.start(
            "register",
            bench.server,
            service="1003",
            au="1003",
            ap=bench.phone_password("1003"),
        )
        await registering.succeeded("register")
        await ringing.start("agent", "", service="1003", pause_ms=300)
        async with bench.toolbar("1003") as toolbar, bench.phone(number) as caller:
            heard = bench.directory("caller") / "heard.wav"
            call = caller.dial(bench.platform.access_url("96000"), bench.platform.sip, record=heard)
            await call.wait_answered(5)
            await call.press("1")
            await toolbar.reached(pb.AGENT_STATE_TALKING)
            call.play(tones[CALLER_HZ], loop=True)
            await conversation_recorded(bench, toolbar, begun)
            # sipp cannot record; the platform's right channel proves what it sent, its RTP
            # counts what it was sent.
            call.hang_up()
            await call.wait_closed(5)
            hears(call.heard(), AGENT_HZ, not_hertz=CALLER_HZ, at_least_ms=2500)
            await ringing.succeeded("agent")
    finally:
        await registering.stop()
        await ringing.stop()
    await check_recording(bench, number, "1003")
    report = await bench.record_of(number)
    (leg,) = report.legs
    assert leg["packets_sent"] > 100


async def test_baresip_calls_linphone(bench: Bench, tones: dict[int, Path]) -> None:
    number, begun = bench.caller_number(), time.time()
    caller = Baresip(bench.directory("baresip"), user=number, voice=tones[CALLER_HZ])
    agent = Linphone(bench.directory("linphone"), user="1004", voice=tones[AGENT_HZ])
    try:
        await agent.start(
            bench.server,
            password=bench.phone_password("1004"),
            realm=bench.realm,
            auto_answer=True,
        )
        await caller.start()
        async with bench.toolbar("1004") as toolbar:
            caller.command("dial", bench.platform.access_url("96000"))
            await caller.event("CALL_ESTABLISHED")
            caller.command("sndcode", "1")
            await agent.in_call()
            await conversation_recorded(bench, toolbar, begun)
            agent.type("terminate")
            await toolbar.reached(pb.AGENT_STATE_AFTER_CALL_WORK)
            await caller.event("CALL_CLOSED")
    finally:
        await caller.stop()
        await agent.stop()
    hears(caller.heard(), AGENT_HZ, not_hertz=CALLER_HZ, at_least_ms=2000)
    hears(agent.heard(), CALLER_HZ, not_hertz=AGENT_HZ, at_least_ms=2000)
    await check_recording(bench, number, "1004")


async def test_linphone_calls_baresip(bench: Bench, tones: dict[int, Path]) -> None:
    number, begun = bench.caller_number(), time.time()
    caller = Linphone(bench.directory("linphone"), user=number, voice=tones[CALLER_HZ])
    agent = Baresip(bench.directory("baresip"), user="1005", voice=tones[AGENT_HZ])
    try:
        await agent.start(bench.server, password=bench.phone_password("1005"), auto_answer=True)
        await agent.registered()
        await caller.start()
        async with bench.toolbar("1005") as toolbar:
            await caller.dial(bench.platform.access_url("96000"))
            caller.type("1")
            await agent.event("CALL_ESTABLISHED")
            await conversation_recorded(bench, toolbar, begun)
            agent.command("hangup")
            await toolbar.reached(pb.AGENT_STATE_AFTER_CALL_WORK)
            caller.type("terminate")
            await caller.printed("ended")
    finally:
        await caller.stop()
        await agent.stop()
    hears(caller.heard(), AGENT_HZ, not_hertz=CALLER_HZ, at_least_ms=2000)
    hears(agent.heard(), CALLER_HZ, not_hertz=AGENT_HZ, at_least_ms=2000)
    await check_recording(bench, number, "1005")


async def test_music_is_heard_while_no_agent_is_there(bench: Bench) -> None:
    async with bench.phone(bench.caller_number()) as caller:
        heard = bench.directory("caller") / "heard.wav"
        call = caller.dial(bench.platform.access_url("96000"), bench.platform.sip, record=heard)
        await call.wait_answered(5)
        await call.press("1")
        await call.wait_heard(
            lambda sound: any(span.duration_ms > 2500 for span in audio.sound_spans(sound)), 10
        )
        call.hang_up()
        await call.wait_closed(5)
