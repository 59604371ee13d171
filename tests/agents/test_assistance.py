"""What agents and supervisors command in a conversation, from the toolbar's side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis

from agents.live_agent import LiveAgent
from agents.service import AgentService
from agents.settings import AgentSettings
from agents.state import AgentState
from cti.call import Supervision
from cti95598.agents.v1 import agents_pb2 as pb
from cti95598.agents.v1.agents_pb2_grpc import AgentServiceStub
from domain.failures import Code
from domain.ids import AgentId
from tests.agents.conftest import Centre, refusal
from tests.agents.test_service import Toolbar, figures
from tests.fakes.call import FakeCall
from tests.routing.redis_process import until

pytestmark = pytest.mark.stores

ANN = AgentId("1001")


@pytest.fixture
async def centre(redis: Redis) -> AsyncIterator[Centre]:
    """Agents 1001 and 1002, and their supervisor 1009."""
    agents = [
        AgentSettings(id=number, phone=number, queues=("billing",), role=role)
        for number, role in (("1001", "agent"), ("1002", "agent"), ("1009", "supervisor"))
    ]
    centre = Centre(redis, agents=agents)
    await centre.acd.start()
    yield centre
    await centre.aclose()


async def talking(centre: Centre) -> tuple[LiveAgent, FakeCall]:
    live = await centre.sign_in("1001")
    call = centre.caller()
    phone = centre.phones["1001"]
    await asyncio.wait_for(phone.rang.wait(), 5)
    phone.answer()
    await asyncio.wait_for(phone.bridged.wait(), 5)
    return live, call


def state_of(live: LiveAgent) -> AgentState:
    return live.state


def answering(centre: Centre, number: str) -> None:
    centre.phones[number].manual = False


async def supervising(centre: Centre) -> LiveAgent:
    answering(centre, "1009")
    return await centre.sign_in("1009", ready=False)


def supervisions(centre: Centre) -> list[tuple[str, str]]:
    return [
        (name.removeprefix("supervision_"), getattr(event, name).mode)
        for event in centre.events
        if (name := event.WhichOneof("body") or "").startswith("supervision_")
    ]


async def test_the_agents_state_follows_the_conversation(centre: Centre) -> None:
    live, _ = await talking(centre)
    answering(centre, "1002")
    live.handling.talk.hold()
    assert state_of(live) is AgentState.HELD
    with refusal(Code.STATE_FORBIDS):
        live.sign_out()
    live.not_ready("小休")
    assert state_of(live) is AgentState.HELD
    live.handling.talk.retrieve()
    assert state_of(live) is AgentState.TALKING
    await centre.desk.consult(live, agent="1002")
    assert state_of(live) is AgentState.CONSULTING
    assert centre.phones["1002"].targets[0].purpose == "consult"
    live.handling.talk.three_party()
    assert state_of(live) is AgentState.CONFERENCE
    live.handling.talk.complete()
    assert live.state is AgentState.AFTER_CALL_WORK
    with refusal(Code.NO_CALL):
        assert live.handling
    states = [change.to_state for change in centre.events.all("agent_state_changed")]
    assert states[-5:] == ["held", "talking", "consulting", "conference", "after_call_work"]
    centre.phones["1001"].hang_up()
    await centre.finish()
    assert live.state is AgentState.AFTER_CALL_WORK


async def test_an_expert_who_does_not_answer_leaves_the_caller_on_hold(centre: Centre) -> None:
    live, call = await talking(centre)
    answering(centre, "1002")
    centre.phones["1002"].result = Code.BUSY
    with refusal(Code.BUSY):
        await centre.desk.consult(live, phone="1002")
    assert live.state is AgentState.HELD
    live.handling.talk.retrieve()
    call.caller_hangs_up()
    await until(lambda: live.state is AgentState.AFTER_CALL_WORK)


@pytest.mark.parametrize(
    "expert",
    [{"agent": "4711"}, {"phone": "10 02"}, {"number": "139x"}, {"agent": "1001"}, {}],
)
async def test_experts_that_there_are_not(centre: Centre, expert: dict[str, str]) -> None:
    live, _ = await talking(centre)
    with refusal(Code.EXPERT_UNKNOWN):
        await centre.desk.consult(live, **expert)
    assert live.state is AgentState.TALKING


async def test_an_outside_number_goes_over_the_trunks(centre: Centre) -> None:
    live, call = await talking(centre)
    phone = call.phones["13900001111"] = type(centre.phones["1001"])()
    await centre.desk.consult(live, number="13900001111")
    assert phone.targets[0].outside


async def test_commands_need_a_conversation(centre: Centre) -> None:
    live = await centre.sign_in("1001")
    with refusal(Code.NO_CALL):
        await centre.desk.consult(live, agent="1002")


async def test_a_supervisor_changes_its_part_without_being_rung_again(centre: Centre) -> None:
    live, call = await talking(centre)
    supervisor = await supervising(centre)
    for mode in (Supervision.LISTEN, Supervision.WHISPER, Supervision.BARGE, Supervision.BARGE):
        await centre.desk.supervisors.supervise(supervisor, ANN, mode)
    assert len(centre.phones["1009"].targets) == 1
    assert centre.phones["1009"].targets[0].purpose == "supervisor"
    with refusal(Code.STATE_FORBIDS):
        await centre.desk.ready(supervisor)
    centre.desk.supervisors.stop(supervisor)
    await until(lambda: supervisor.helping is None)
    with refusal(Code.STATE_FORBIDS):
        centre.desk.supervisors.stop(supervisor)
    assert live.state is AgentState.TALKING
    assert supervisions(centre) == [
        (step, mode) for mode in ("listen", "whisper", "barge") for step in ("started", "ended")
    ]
    told = centre.events.last("supervision_ended")
    assert (told.supervisor, told.agent) == ("1009", "1001")
    await centre.desk.ready(supervisor)
    call.caller_hangs_up()


async def test_who_may_supervise_whom_and_when(centre: Centre) -> None:
    supervisor = await supervising(centre)
    supervise = centre.desk.supervisors.supervise
    with refusal(Code.NOT_SIGNED_IN):
        await supervise(supervisor, ANN, Supervision.LISTEN)
    other = await centre.sign_in("1002", ready=False)
    with refusal(Code.NO_CALL):
        await supervise(supervisor, AgentId("1002"), Supervision.LISTEN)
    await talking(centre)
    with refusal(Code.RIGHT_MISSING):
        await supervise(other, ANN, Supervision.BARGE)
    with refusal(Code.RIGHT_MISSING):
        await centre.desk.supervisors.intercept(other, ANN)
    await centre.desk.ready(supervisor)
    with refusal(Code.NOT_READY_FIRST):
        await supervise(supervisor, ANN, Supervision.LISTEN)
    supervisor.not_ready("")
    centre.phones["1009"].result = Code.DECLINED
    with refusal(Code.DECLINED):
        await supervise(supervisor, ANN, Supervision.LISTEN)
    assert supervisor.helping is None
    assert supervisions(centre) == []


async def test_a_supervisor_who_stops_or_signs_out_is_rung_no_more(centre: Centre) -> None:
    await talking(centre)
    supervisor = await supervising(centre)
    phone = centre.phones["1009"]
    phone.manual = True
    stop: Callable[[], None] = partial(centre.desk.supervisors.stop, supervisor)
    for leave in (stop, supervisor.sign_out):
        phone.rang.clear()
        ringing = asyncio.create_task(
            centre.desk.supervisors.supervise(supervisor, ANN, Supervision.LISTEN)
        )
        await asyncio.wait_for(phone.rang.wait(), 5)
        leave()
        with refusal(Code.NO_CALL):
            await ringing
        assert phone.leg is not None
        assert phone.leg.code is not None
        assert supervisor.helping is None


@pytest.mark.parametrize("is_in", [False, True])
async def test_an_intercepting_supervisor_becomes_the_agent(centre: Centre, is_in: bool) -> None:
    live, _ = await talking(centre)
    supervisor = await supervising(centre)
    supervisor.not_ready("巡视")
    if is_in:
        await centre.desk.supervisors.supervise(supervisor, ANN, Supervision.WHISPER)
    await centre.desk.supervisors.intercept(supervisor, ANN)
    assert live.state is AgentState.AFTER_CALL_WORK
    assert state_of(supervisor) is AgentState.TALKING
    with refusal(Code.STATE_FORBIDS):
        centre.desk.supervisors.stop(supervisor)
    supervisor.handling.talk.hold()
    assert state_of(supervisor) is AgentState.HELD
    assert live.state is AgentState.AFTER_CALL_WORK
    supervisor.hang_up()
    await centre.finish()
    assert supervisor.state is AgentState.AFTER_CALL_WORK
    assert centre.results[0].agent == "1009"
    first = "whisper" if is_in else "listen"
    assert supervisions(centre) == [
        (step, mode) for mode in (first, "intercept") for step in ("started", "ended")
    ]
    supervisor._work_done()
    assert (supervisor.state, supervisor._machine.reason) == (AgentState.NOT_READY, "巡视")
    assert supervisor.helping is None


async def test_the_end_of_the_call_ends_the_supervision(centre: Centre) -> None:
    _, call = await talking(centre)
    supervisor = await supervising(centre)
    await centre.desk.supervisors.supervise(supervisor, ANN, Supervision.LISTEN)
    call.caller_hangs_up()
    await until(lambda: supervisor.helping is None)
    assert supervisor.state is AgentState.NOT_READY


async def test_the_toolbars_commands(centre: Centre) -> None:
    server = grpc.aio.server()
    AgentService(centre.desk, figures).add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    live, _ = await talking(centre)
    answering(centre, "1002")
    answering(centre, "1009")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        agent, supervisor = (Toolbar(AgentServiceStub(channel)) for _ in range(2))
        agent.metadata = (("authorization", f"Bearer {live.token}"),)
        over = await centre.sign_in("1009", ready=False)
        supervisor.metadata = (("authorization", f"Bearer {over.token}"),)

        async def done(toolbar: Toolbar, command: str, state: Any, **fields: Any) -> None:
            result = await toolbar.do(command, **fields)
            assert (result.accepted, result.code, result.state) == (True, "", state), command

        await done(agent, "Hold", pb.AGENT_STATE_HELD)
        assert (await agent.do("Hold")).code == Code.STATE_FORBIDS
        await done(agent, "Retrieve", pb.AGENT_STATE_TALKING)
        for command in ("PauseRecording", "ResumeRecording"):
            await done(agent, command, pb.AGENT_STATE_TALKING)
        await done(agent, "Consult", pb.AGENT_STATE_CONSULTING, agent="1002")
        await done(agent, "CancelConsult", pb.AGENT_STATE_TALKING)
        await done(agent, "Consult", pb.AGENT_STATE_CONSULTING, phone="1002")
        await done(agent, "ThreeParty", pb.AGENT_STATE_CONFERENCE)
        for command in ("Listen", "Whisper", "Barge"):
            await done(supervisor, command, pb.AGENT_STATE_NOT_READY, agent="1001")
            assert (await agent.do(command, agent="1001")).code == Code.RIGHT_MISSING
        await done(supervisor, "StopSupervising", pb.AGENT_STATE_NOT_READY)
        await until(lambda: over.helping is None)
        await done(supervisor, "Intercept", pb.AGENT_STATE_TALKING, agent="1001")
        refused = await agent.do("CompleteTransfer")
        assert refused.code == Code.NO_CALL
        assert refused.state == pb.AGENT_STATE_AFTER_CALL_WORK
    await server.stop(None)
