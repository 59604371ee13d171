import asyncio
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from agents.notices import SLOW, Notice, Subscription
from agents.state import AgentState
from agents.summary import CallSummary
from domain.failures import Code
from domain.ids import AgentId, QueueId
from tests.agents.conftest import TENANT, Centre, refusal
from tests.fakes.call import FakeCall
from tests.routing.redis_process import subscribed, until

pytestmark = pytest.mark.stores

ANN = AgentId("1001")


async def drained(subscription: Subscription) -> list[Notice]:
    """All notices until the end of the session."""
    notices = []
    async with asyncio.timeout(5):
        while (notice := await subscription.next()) is not None:
            notices.append(notice)
    return notices


async def test_states_are_events_with_durations(centre: Centre) -> None:
    live = await centre.sign_in("1001")
    live.not_ready("小休")
    live.sign_out()
    changes = centre.events.all("agent_state_changed")
    assert [(c.from_state, c.to_state, c.reason) for c in changes] == [
        ("signed_out", "not_ready", ""),
        ("not_ready", "ready", ""),
        ("ready", "not_ready", "小休"),
        ("not_ready", "signed_out", ""),
    ]
    assert all(c.agent == c.device == "1001" for c in changes)
    assert all(c.previous_ms >= 0 for c in changes)


async def test_a_wrong_password_is_an_event_and_five_lock(centre: Centre) -> None:
    for _ in range(5):
        with refusal(Code.PASSWORD_WRONG):
            await centre.desk.sign_in(TENANT, ANN, "wrong", source="ipv4:127.0.0.1:9")
    with refusal(Code.AGENT_LOCKED):
        await centre.desk.sign_in(TENANT, ANN, "right")
    failed = centre.events.all("authentication_failed")
    assert len(failed) == 6
    assert failed[0].source_address == "ipv4:127.0.0.1:9"


async def test_an_unknown_agent_is_told_like_a_wrong_password(centre: Centre) -> None:
    with refusal(Code.PASSWORD_WRONG):
        await centre.desk.sign_in(TENANT, AgentId("9999"), "right")


async def test_a_session_is_valid_until_sign_out(centre: Centre) -> None:
    live = await centre.sign_in("1001")
    assert centre.desk.session(live.token) is live
    live.sign_out()
    with refusal(Code.SESSION_INVALID):
        centre.desk.session(live.token)
    again = await centre.sign_in("1001")
    assert again.token != live.token


async def test_a_second_sign_in_needs_take_over_and_no_call(centre: Centre) -> None:
    first = await centre.sign_in("1001")
    watching = first.watch()
    with refusal(Code.SIGNED_IN_ELSEWHERE):
        await centre.desk.sign_in(TENANT, ANN, "right")
    second = await centre.desk.sign_in(TENANT, ANN, "right", take_over=True)
    assert (await drained(watching))[-1].reason == "taken_over"
    with refusal(Code.SESSION_INVALID):
        centre.desk.session(first.token)
    await centre.desk.ready(second)
    centre.caller()
    await until(lambda: second.state is AgentState.RINGING)
    with refusal(Code.SIGNED_IN_ELSEWHERE):
        await centre.desk.sign_in(TENANT, ANN, "right", take_over=True)


async def test_two_sign_ins_at_once_open_one_session(centre: Centre) -> None:
    both = await asyncio.gather(
        *(centre.desk.sign_in(TENANT, ANN, "right") for _ in range(2)), return_exceptions=True
    )
    assert sum(isinstance(result, Exception) for result in both) == 1


async def test_an_agent_taken_over_at_another_node_is_signed_out_here(
    centre: Centre, redis: Redis
) -> None:
    other = Centre(redis, node="node-2")
    await other.acd.start()
    live = await other.sign_in("1001")
    with refusal(Code.SIGNED_IN_ELSEWHERE):
        await centre.sign_in("1001")
    await subscribed(redis, "node-2")
    await centre.desk.sign_in(TENANT, ANN, "right", take_over=True)
    await until(lambda: live.state is AgentState.SIGNED_OUT)
    await other.aclose()


async def test_ready_needs_a_phone_that_is_registered(centre: Centre) -> None:
    centre.unregistered.add("1001")
    live = await centre.sign_in("1001", ready=False)
    with refusal(Code.PHONE_NOT_REGISTERED):
        await centre.desk.ready(live)
    assert live.state is AgentState.NOT_READY
    with refusal(Code.NO_CALL):
        await live.answer()


async def test_another_phone_may_be_named(centre: Centre) -> None:
    live = await centre.desk.sign_in(TENANT, ANN, "right", phone="8001")
    assert live.phone == "8001"


async def test_a_phone_that_cannot_be_answered_remotely_says_so(centre: Centre) -> None:
    centre.phones["1001"].talks_remotely = False
    live = await centre.sign_in("1001")
    centre.caller()
    await until(lambda: live.state is AgentState.RINGING)
    await asyncio.wait_for(centre.phones["1001"].rang.wait(), 5)
    with refusal(Code.PHONE_CANNOT_ANSWER_REMOTELY):
        await live.answer()


async def test_declining_by_the_toolbar(centre: Centre) -> None:
    live = await centre.sign_in("1001")
    centre.caller()
    await asyncio.wait_for(centre.phones["1001"].rang.wait(), 5)
    live.hang_up()
    await until(lambda: live.state is AgentState.NOT_READY)
    assert centre.events.last("agent_state_changed").reason == Code.DECLINED


async def test_sign_out_is_refused_during_a_call(centre: Centre) -> None:
    live = await centre.sign_in("1001")
    centre.caller()
    await until(lambda: live.state is AgentState.RINGING)
    with refusal(Code.STATE_FORBIDS):
        live.sign_out()


async def test_the_watcher_sees_the_call_from_the_ring_to_the_end_of_the_work(
    centre: Centre,
) -> None:
    live = await centre.sign_in("1001")
    watching = live.watch()
    call = centre.caller()
    phone = centre.phones["1001"]
    await asyncio.wait_for(phone.rang.wait(), 5)
    phone.answer()
    await asyncio.wait_for(phone.bridged.wait(), 5)
    phone.hang_up()
    await centre.finish()
    await centre.desk.ready(live)
    live.sign_out()
    notices = await drained(watching)
    assert [notice.state for notice in notices] == [
        AgentState.READY, AgentState.RINGING, AgentState.TALKING, AgentState.AFTER_CALL_WORK,
        AgentState.READY, AgentState.SIGNED_OUT,
    ]  # fmt: skip
    assert [notice.call is not None for notice in notices] == [False, *[True] * 3, False, False]
    assert notices[1].call is not None
    assert notices[1].call.caller == call.info.caller


async def test_a_withheld_number_is_not_popped_up() -> None:
    call = FakeCall()
    call.info = replace(call.info, withheld=True)
    assert CallSummary.of(call, QueueId("billing"), 0).caller == "匿名 anonymous"


async def test_an_agent_whose_stream_is_lost_is_signed_out_after_the_grace(redis: Redis) -> None:
    centre = Centre(redis, grace_s=0.01)
    await centre.acd.start()
    live = await centre.sign_in("1001")
    centre.desk.unwatch(live, live.watch())
    came_back = live.watch()
    centre.desk.unwatch(live, came_back)
    await until(lambda: live.state is AgentState.SIGNED_OUT)
    assert centre.events.last("agent_state_changed").reason == "connection_lost"
    await centre.aclose()


async def test_a_lost_stream_does_not_end_a_call(redis: Redis) -> None:
    centre = Centre(redis, grace_s=0.0)
    await centre.acd.start()
    live = await centre.sign_in("1001")
    watching = live.watch()
    centre.caller()
    phone = centre.phones["1001"]
    await asyncio.wait_for(phone.rang.wait(), 5)
    phone.answer()
    await asyncio.wait_for(phone.bridged.wait(), 5)
    centre.desk.unwatch(live, watching)
    await until(lambda: live._leave_after_call is not None)
    assert live.in_call
    phone.hang_up()
    await centre.finish()
    assert live.state is AgentState.SIGNED_OUT
    await centre.aclose()


async def test_a_slow_watcher_is_dropped(centre: Centre) -> None:
    live = await centre.sign_in("1001")
    watching = live.watch()
    for _ in range(40):
        live.not_ready("")
        await centre.desk.ready(live)
    assert watching.ended == SLOW
    assert len(await drained(watching)) == 64


async def test_an_ended_subscription_wakes_its_reader() -> None:
    subscription = Subscription()
    reading = asyncio.create_task(drained(subscription))
    await asyncio.sleep(0)
    subscription.end("signed_out")
    assert await reading == []


async def test_closing_the_desk_signs_everybody_out(centre: Centre, redis: Redis) -> None:
    for number in ("1001", "1002"):
        await centre.sign_in(number)
    await centre.desk.aclose()
    assert await redis.hlen("{demo}:acd:agents") == 0
    assert centre.events.last("agent_state_changed").reason == "node_stopping"
