"""The call is on one node, its agent is signed in at another; they share the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from agents import far_line
from agents.line import TalkCommand
from agents.live_agent import LiveAgent
from agents.state import AgentState
from domain.failures import Code
from ivr.queueing import QueueOutcome
from tests.agents.conftest import Centre, refusal
from tests.routing.redis_process import RedisProcess, subscribed, until

pytestmark = pytest.mark.stores


@pytest.fixture
async def other(redis_process: RedisProcess, centre: Centre, redis: Redis) -> AsyncIterator[Centre]:
    """Where the agents are; `centre` has the calls."""
    client = redis_process.client()
    other = Centre(client, node="node-2")
    await other.acd.start()
    for node in ("node-1", "node-2"):
        await subscribed(redis, node)
    yield other
    await other.aclose()
    await client.aclose()


async def test_a_call_is_shown_answered_and_ended_at_the_agents_node(
    centre: Centre, other: Centre
) -> None:
    live = await other.sign_in("1001")
    watching = live.watch()
    call = centre.caller()
    phone = centre.phones["1001"]
    await asyncio.wait_for(phone.rang.wait(), 5)
    await until(lambda: live._ringing is not None)
    await live.answer()
    await asyncio.wait_for(phone.bridged.wait(), 5)
    await until(lambda: live.state is AgentState.TALKING)
    live.hang_up()
    await centre.finish()
    assert phone.leg is not None
    assert phone.leg.code is Code.AGENT_HUNG_UP
    await until(lambda: live.state is AgentState.AFTER_CALL_WORK)
    assert centre.results[0].outcome is QueueOutcome.SERVED
    await watching.next()
    ringing = await watching.next()
    assert ringing is not None
    assert ringing.call is not None
    assert ringing.call.caller == call.info.caller
    assert not other.desk._far._agents
    assert not centre.desk._far._calls


async def test_the_next_call_finds_the_agent_ready_again(centre: Centre, other: Centre) -> None:
    live = await other.sign_in("1001")
    phone = centre.phones["1001"]
    phone.manual, phone.talk_ms = False, 1
    for _ in range(3):
        centre.caller()
        await until(lambda: live.state is AgentState.AFTER_CALL_WORK)
        await other.desk.ready(live)
    await centre.finish()
    assert [result.agent for result in centre.results] == ["1001"] * 3


async def test_an_agent_elsewhere_who_does_not_answer(centre: Centre, other: Centre) -> None:
    first = await other.sign_in("1001")
    call = centre.caller()
    await asyncio.wait_for(centre.phones["1001"].rang.wait(), 5)
    centre.phones["1001"].refuse(Code.NO_ANSWER)
    await until(lambda: first.state is AgentState.NOT_READY)
    await other.sign_in("1002")
    await asyncio.wait_for(centre.phones["1002"].rang.wait(), 5)
    call.caller_hangs_up()


async def test_a_caller_who_leaves_frees_the_agent_elsewhere(centre: Centre, other: Centre) -> None:
    live = await other.sign_in("1001")
    call = centre.caller()
    phone = centre.phones["1001"]
    await asyncio.wait_for(phone.rang.wait(), 5)
    call.caller_hangs_up()
    await until(lambda: live.state is AgentState.READY)
    phone.rang.clear()
    centre.caller()
    await asyncio.wait_for(phone.rang.wait(), 5)


async def test_an_agent_elsewhere_who_just_went_not_ready(centre: Centre, other: Centre) -> None:
    live = await other.sign_in("1001")
    live._machine.state = AgentState.NOT_READY  # the ACD has not heard of it
    call = centre.caller()
    await other.sign_in("1002")
    await asyncio.wait_for(centre.phones["1002"].rang.wait(), 5)
    call.caller_hangs_up()


async def test_hanging_up_a_call_whose_node_is_gone_ends_it(
    centre: Centre, other: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far_line, "_REPLY_S", 0.05)
    live = await other.sign_in("1001")
    centre.caller()
    phone = centre.phones["1001"]
    await asyncio.wait_for(phone.rang.wait(), 5)
    phone.answer()
    await until(lambda: live.state is AgentState.TALKING)
    centre.acd.on_post = lambda _message: None
    live.hang_up()
    await until(lambda: live.state is AgentState.AFTER_CALL_WORK)


async def test_an_unreachable_agents_node_is_passed_over(
    centre: Centre, other: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far_line, "_REPLY_S", 0.05)
    live = await other.sign_in("1001")
    other.acd.on_post = lambda _message: None
    call = centre.caller()
    await until(lambda: "call_queued" in centre.events.told())
    await centre.sign_in("1002")
    await asyncio.wait_for(centre.phones["1002"].rang.wait(), 5)
    assert live.state is AgentState.READY
    call.caller_hangs_up()


async def test_answering_elsewhere_needs_a_phone_that_can(centre: Centre, other: Centre) -> None:
    centre.phones["1001"].talks_remotely = False
    live = await other.sign_in("1001")
    centre.caller()
    await until(lambda: live._ringing is not None)
    with refusal(Code.PHONE_CANNOT_ANSWER_REMOTELY):
        await live.answer()


async def talking(centre: Centre, other: Centre) -> LiveAgent:
    """An agent of one node with a caller of the other."""
    live = await other.sign_in("1001")
    centre.caller()
    phone = centre.phones["1001"]
    await asyncio.wait_for(phone.rang.wait(), 5)
    phone.answer()
    await until(lambda: live.state is AgentState.TALKING)
    await until(lambda: live._far_talk is not None)
    return live


async def test_the_conversation_is_commanded_from_the_other_node(
    centre: Centre, other: Centre
) -> None:
    live = await talking(centre, other)
    await live.command(TalkCommand.HOLD)
    await until(lambda: live.state is AgentState.HELD)
    await live.command(TalkCommand.RETRIEVE)
    await until(lambda: live.state is AgentState.TALKING)
    centre.phones["1002"].manual = False
    await other.desk.consult(live, agent="1002")
    await until(lambda: live.state is AgentState.CONSULTING)
    assert centre.phones["1002"].targets[0].purpose == "consult"
    await live.command(TalkCommand.THREE_PARTY)
    await until(lambda: live.state is AgentState.CONFERENCE)
    await live.command(TalkCommand.COMPLETE)
    await until(lambda: live.state is AgentState.AFTER_CALL_WORK)
    with refusal(Code.NO_CALL):
        await live.command(TalkCommand.HOLD)


async def test_what_makes_no_sense_there_is_refused_here(centre: Centre, other: Centre) -> None:
    live = await talking(centre, other)
    with refusal(Code.STATE_FORBIDS):
        await live.command(TalkCommand.RETRIEVE)
    consulting = asyncio.create_task(other.desk.consult(live, agent="1002"))
    await asyncio.wait_for(centre.phones["1002"].rang.wait(), 5)
    centre.phones["1002"].refuse(Code.BUSY)
    with refusal(Code.BUSY):
        await consulting
    with refusal(Code.CALL_AT_OTHER_NODE):
        _ = live.handling  # which supervisors need
    live.hang_up()
    await centre.finish()


async def test_a_command_to_a_node_that_is_gone_is_refused(
    centre: Centre, other: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far_line, "_REPLY_S", 0.05)
    live = await talking(centre, other)
    centre.acd.on_post = lambda _message: None
    with refusal(Code.CALL_AT_OTHER_NODE):
        await live.command(TalkCommand.HOLD)
    assert live.state is AgentState.TALKING
    live.hang_up()
    await until(lambda: live.state is AgentState.AFTER_CALL_WORK)


async def test_hanging_up_twice_does_not_end_the_call_before_its_node_does(
    centre: Centre, other: Centre
) -> None:
    live = await talking(centre, other)
    take, asked = centre.acd.on_post, list[dict[str, Any]]()
    centre.acd.on_post = asked.append
    live.hang_up()
    live.hang_up()
    await until(lambda: bool(asked))
    assert live.state is AgentState.TALKING
    centre.acd.on_post = take
    take(asked[0])
    await until(lambda: live.state is AgentState.AFTER_CALL_WORK)
    await centre.finish()


async def test_a_consultation_that_is_given_up_rings_no_longer_at_the_other_node(
    centre: Centre, other: Centre
) -> None:
    live = await talking(centre, other)
    expert = centre.phones["1002"]
    consulting = asyncio.create_task(other.desk.consult(live, agent="1002"))
    await asyncio.wait_for(expert.rang.wait(), 5)
    consulting.cancel()
    await until(lambda: live.state is AgentState.HELD)
    # The next one is answered by its own reply, not by that of the one given up.
    expert.rang.clear()
    again = asyncio.create_task(other.desk.consult(live, agent="1002"))
    await asyncio.wait_for(expert.rang.wait(), 5)
    expert.answer()
    await again
    assert live.state is AgentState.CONSULTING
    live.hang_up()
    await centre.finish()


async def test_a_reply_that_comes_too_late_is_not_taken_for_the_next_one(
    centre: Centre, other: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = await talking(centre, other)
    take, asked = centre.acd.on_post, list[dict[str, Any]]()
    centre.acd.on_post = asked.append
    monkeypatch.setattr(far_line, "_REPLY_S", 0.05)
    with refusal(Code.CALL_AT_OTHER_NODE):
        await live.command(TalkCommand.RETRIEVE)
    monkeypatch.setattr(far_line, "_REPLY_S", 5.0)
    again = asyncio.create_task(live.command(TalkCommand.RETRIEVE))
    await until(lambda: len(asked) == 2)
    take(asked[0])  # refused, since nobody is held
    centre.acd.on_post = take
    await live.command(TalkCommand.HOLD)
    take(asked[1])
    await again
    live.hang_up()
    await centre.finish()
