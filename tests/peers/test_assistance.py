"""A caller, an agent who asks an expert, and a supervisor who takes over, on the whole platform."""

from __future__ import annotations

from pathlib import Path

import pytest

from cti.audio import tone_spans
from cti95598.agents.v1 import agents_pb2 as pb
from tests.peers.bench import Bench

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]

OFFICE_HZ, EXPERT_HZ = 440, 1000


async def test_consultation_and_interception(bench: Bench, tones: dict[int, Path]) -> None:
    number = bench.caller_number()
    async with (
        bench.phone("1001", register=True, auto_answer=True) as desk,
        bench.phone("1002", register=True, auto_answer=True) as expert,
        bench.phone("1005", register=True, auto_answer=True) as office,
        bench.toolbar("1001") as agent,
        bench.toolbar("1005", ready=False) as supervisor,
        bench.phone(number) as caller,
    ):
        heard = bench.directory("caller") / "heard.wav"
        call = caller.dial(bench.platform.access_url("96000"), bench.platform.sip, record=heard)
        await call.wait_answered(5)
        await call.wait_pause(10)
        await call.press("1")
        talking = await desk.next_call(10)
        await agent.reached(pb.AGENT_STATE_TALKING)

        async def done(answer: pb.Result, state: pb.AgentState.ValueType) -> None:
            assert (answer.code, answer.state) == ("", state)

        toolbar, over = agent.client, supervisor.client
        await done(await toolbar.hold(), pb.AGENT_STATE_HELD)
        await done(await toolbar.consult(agent="1002"), pb.AGENT_STATE_CONSULTING)
        asked = await expert.next_call(5)
        await done(await toolbar.three_party(), pb.AGENT_STATE_CONFERENCE)
        asked.play(tones[EXPERT_HZ], loop=True)
        await call.wait_heard(lambda sound: bool(tone_spans(sound, EXPERT_HZ)), 5)
        await done(await toolbar.cancel_consult(), pb.AGENT_STATE_TALKING)
        await asked.wait_closed(5)

        assert (await toolbar.listen("1005")).code == "right_missing"
        await done(await over.whisper("1001"), pb.AGENT_STATE_NOT_READY)
        helping = await office.next_call(5)
        assert (await over.ready()).code == "state_forbids"
        await done(await over.barge("1001"), pb.AGENT_STATE_NOT_READY)
        await done(await over.intercept("1001"), pb.AGENT_STATE_TALKING)
        await talking.wait_closed(5)
        await agent.reached(pb.AGENT_STATE_AFTER_CALL_WORK)
        helping.play(tones[OFFICE_HZ], loop=True)
        await call.wait_heard(lambda sound: bool(tone_spans(sound, OFFICE_HZ)), 5)
        assert (await over.hang_up()).accepted
        await supervisor.reached(pb.AGENT_STATE_AFTER_CALL_WORK)
        await helping.wait_closed(5)
        call.hang_up()
        await call.wait_closed(5)
    report = await bench.record_of(number)
    assert report.record["agent"] == "1005"
    assert supervisor.events[-1].state in {pb.AGENT_STATE_NOT_READY, pb.AGENT_STATE_SIGNED_OUT}
