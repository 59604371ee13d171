"""A caller's way through the queue, on a real Redis with fake calls and phones."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

import pytest
from redis.asyncio import Redis

from agents.state import AgentState
from domain.failures import Code
from domain.ids import AgentId
from ivr.queueing import QueueOutcome
from tests.agents.conftest import Centre, refusal
from tests.fakes.call import FakeCall
from tests.routing.redis_process import RedisProcess, keys_of, until

pytestmark = pytest.mark.stores

QUEUE_EVENTS = {"call_queued", "call_dequeued", "agent_offered", "agent_offer_ended"}


def queue_events(centre: Centre, call: FakeCall) -> list[str | None]:
    return [told for told in centre.events.told(call.info.call_id) if told in QUEUE_EVENTS]


SERVED = ["call_queued", "agent_offered", "agent_offer_ended", "call_dequeued"]


async def test_a_caller_waits_with_music_is_rung_talks_and_returns(
    centre: Centre, redis: Redis
) -> None:
    call = centre.caller(music=(Path("music.wav"),))
    call.data["account"] = {"no": "12"}
    call.path.append("main")
    await asyncio.wait_for(call.music_started.wait(), 5)
    live = await centre.sign_in("1001")
    phone = centre.phones["1001"]
    await asyncio.wait_for(phone.rang.wait(), 5)
    assert call.music == ["music.wav"]
    assert live.in_call
    assert phone.targets[0].caller_number == call.info.caller

    await live.answer()
    await asyncio.wait_for(phone.bridged.wait(), 5)
    assert live.in_call
    assert call.recorded_parties == ["1001"]
    phone.hang_up()
    await centre.finish()
    [result] = centre.results
    assert (result.outcome, result.agent) == (QueueOutcome.SERVED, "1001")
    assert live.state is AgentState.AFTER_CALL_WORK
    assert queue_events(centre, call) == SERVED
    assert centre.events.last("agent_offer_ended").outcome == "answered"
    dequeued = centre.events.last("call_dequeued")
    assert (dequeued.outcome, dequeued.agent) == ("agent", "1001")
    live.sign_out()
    await _nothing_left(redis)


async def _nothing_left(redis: Redis) -> None:
    static = {"fence", "nodes", "figures"}
    async with asyncio.timeout(5):
        while {key.rpartition(":")[2] for key in await keys_of(redis)} - static:
            pass


async def test_the_toolbar_hangs_up_and_the_caller_stays(centre: Centre) -> None:
    live = await centre.sign_in("1001")
    call = centre.caller()
    phone = centre.phones["1001"]
    await asyncio.wait_for(phone.rang.wait(), 5)
    phone.answer()
    await asyncio.wait_for(phone.bridged.wait(), 5)
    live.hang_up()
    await centre.finish()
    assert phone.leg is not None
    assert phone.leg.code is Code.AGENT_HUNG_UP
    assert call.ended is Code.FLOW_ENDED
    with refusal(Code.NO_CALL):
        live.hang_up()


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (Code.NO_ANSWER, "no_answer"),
        (Code.DECLINED, "refused"),
        (Code.PHONE_UNREACHABLE, "unreachable"),
    ],
)
async def test_a_failed_ring_returns_the_call_to_the_head_and_sets_not_ready(
    centre: Centre, code: Code, outcome: str
) -> None:
    first = await centre.sign_in("1001")
    call = centre.caller(music=(Path("music.wav"),))
    await asyncio.wait_for(centre.phones["1001"].rang.wait(), 5)
    later = centre.caller()
    centre.phones["1001"].refuse(code)
    await until(lambda: first.state is AgentState.NOT_READY)
    assert centre.events.last("agent_offer_ended").outcome == outcome
    assert centre.events.last("agent_state_changed").reason == code
    await centre.sign_in("1002")
    await asyncio.wait_for(centre.phones["1002"].rang.wait(), 5)
    centre.phones["1002"].answer()
    await asyncio.wait_for(centre.phones["1002"].bridged.wait(), 5)
    assert call.actions.count("music music.wav") == 1
    assert queue_events(centre, call) == ["call_queued", *SERVED[1:3], *SERVED[1:]]
    centre.phones["1002"].hang_up()
    later.caller_hangs_up()
    await centre.finish()


async def test_a_dial_that_fails_on_our_side_leaves_the_agent_ready(centre: Centre) -> None:
    live = await centre.sign_in("1001")
    call = centre.caller()
    await asyncio.wait_for(centre.phones["1001"].rang.wait(), 5)
    centre.phones["1001"].refuse(Code.MEDIA_PORTS_EXHAUSTED)
    await centre.finish()
    assert centre.results[0].outcome is QueueOutcome.ERROR
    assert live.state is AgentState.READY
    assert queue_events(centre, call) == SERVED
    assert centre.events[-1].cause == Code.MEDIA_PORTS_EXHAUSTED


async def test_an_agent_who_may_stay_ready_goes_behind_the_others(redis: Redis) -> None:
    centre = Centre(redis, queue={"no_answer_state": "ready"})
    await centre.acd.start()
    first = await centre.sign_in("1001")
    await centre.sign_in("1002")
    centre.caller()
    await asyncio.wait_for(centre.phones["1001"].rang.wait(), 5)
    centre.phones["1001"].refuse(Code.NO_ANSWER)
    await asyncio.wait_for(centre.phones["1002"].rang.wait(), 5)
    assert first.state is AgentState.READY
    await centre.aclose()


async def test_a_caller_who_leaves_while_it_rings_gives_the_agent_back(centre: Centre) -> None:
    live = await centre.sign_in("1001")
    call = centre.caller()
    phone = centre.phones["1001"]
    await asyncio.wait_for(phone.rang.wait(), 5)
    call.caller_hangs_up()
    await centre.finish()
    assert live.state is AgentState.READY
    assert queue_events(centre, call) == SERVED
    assert centre.events.last("agent_offer_ended").outcome == "abandoned"
    assert centre.events.last("call_dequeued").outcome == "abandoned"
    phone.rang.clear()
    centre.caller()
    await asyncio.wait_for(phone.rang.wait(), 5)


async def test_a_caller_who_leaves_while_waiting(centre: Centre, redis: Redis) -> None:
    call = centre.caller()
    await until(lambda: "call_queued" in centre.events.told())
    call.caller_hangs_up()
    await centre.finish()
    assert queue_events(centre, call) == ["call_queued", "call_dequeued"]
    assert centre.events.last("call_dequeued").outcome == "abandoned"
    await _nothing_left(redis)


async def test_an_agent_who_sends_the_caller_on_has_after_call_work_at_once(
    centre: Centre, redis: Redis
) -> None:
    call = centre.caller()
    live = await centre.sign_in("1001")
    phone = centre.phones["1001"]
    await asyncio.wait_for(phone.rang.wait(), 5)
    await live.answer()
    await asyncio.wait_for(phone.bridged.wait(), 5)
    phone.transfer()
    assert live.state is AgentState.AFTER_CALL_WORK
    assert call.ended is None
    live.ready()
    phone.hang_up()  # whoever the caller talks to now
    await centre.finish()
    assert not live.in_call
    [result] = centre.results
    assert (result.outcome, result.agent) == (QueueOutcome.SERVED, "1001")
    live.sign_out()
    await _nothing_left(redis)


async def test_a_caller_who_leaves_while_talking(centre: Centre) -> None:
    live = await centre.sign_in("1001")
    call = centre.caller()
    phone = centre.phones["1001"]
    await asyncio.wait_for(phone.rang.wait(), 5)
    phone.answer()
    await asyncio.wait_for(phone.bridged.wait(), 5)
    call.caller_hangs_up()
    await centre.finish()
    assert live.state is AgentState.AFTER_CALL_WORK
    assert queue_events(centre, call) == SERVED


async def test_the_wait_has_an_end(centre: Centre) -> None:
    call = centre.caller(max_wait_ms=20)
    await centre.finish()
    assert [result.outcome for result in centre.results] == [QueueOutcome.TIMEOUT]
    assert queue_events(centre, call) == ["call_queued", "call_dequeued"]
    assert centre.events.last("call_dequeued").outcome == "timeout"


async def test_the_release_key_leaves_and_other_keys_do_not(centre: Centre) -> None:
    call = centre.caller(release_key="*")
    await until(lambda: "call_queued" in centre.events.told())
    call.press("12*")
    await centre.finish()
    assert [result.outcome for result in centre.results] == [QueueOutcome.CALLER_KEY]


async def test_a_full_queue_and_an_unknown_one_are_outcomes(redis: Redis) -> None:
    centre = Centre(redis, queue={"max_waiting": 1})
    await centre.acd.start()
    first = centre.caller()
    await until(lambda: "call_queued" in centre.events.told())
    full = centre.caller()
    centre.caller(queue="nowhere")
    await until(lambda: len(centre.results) == 2)
    assert {result.outcome for result in centre.results} == {
        QueueOutcome.FULL, QueueOutcome.ERROR,
    }  # fmt: skip
    assert queue_events(centre, full) == ["call_queued", "call_dequeued"]
    first.caller_hangs_up()
    await centre.aclose()


async def test_nobody_signed_in_can_be_an_outcome(redis: Redis) -> None:
    centre = Centre(redis, queue={"refuse_without_agents": True})
    await centre.acd.start()
    centre.caller()
    await centre.finish()
    assert [result.outcome for result in centre.results] == [QueueOutcome.NO_AGENTS]
    await centre.aclose()


async def test_not_ready_at_the_moment_of_the_offer_passes_the_call_on(centre: Centre) -> None:
    first = await centre.sign_in("1001")
    second = await centre.sign_in("1002")
    first.not_ready("小休")  # the ACD learns of it after the offer
    call = centre.caller()
    await asyncio.wait_for(centre.phones["1002"].rang.wait(), 5)
    assert first.state is AgentState.NOT_READY
    assert second.state is AgentState.RINGING
    call.caller_hangs_up()


async def test_a_lost_reservation_hangs_up_the_phone_and_waits_on(centre: Centre) -> None:
    live = await centre.sign_in("1001")
    call = centre.caller()
    phone = centre.phones["1001"]
    await asyncio.wait_for(phone.rang.wait(), 5)
    await centre.acd.sign_out(live.profile)  # as when the node was taken for dead
    phone.answer()
    await until(lambda: live.state is AgentState.NOT_READY)
    assert centre.events.last("agent_offer_ended").outcome == "lost"
    await centre.sign_in("1002")
    await asyncio.wait_for(centre.phones["1002"].rang.wait(), 5)
    call.caller_hangs_up()


async def test_after_call_work_ends_with_ready(redis: Redis) -> None:
    centre = Centre(redis, queue={"after_call_work_s": 0})
    await centre.acd.start()
    live = await centre.sign_in("1001")
    phone = centre.phones["1001"]
    phone.manual, phone.talk_ms = False, 5
    for _ in range(3):
        centre.caller()
    await centre.finish()
    assert live.state is AgentState.READY
    assert [result.outcome for result in centre.results] == [QueueOutcome.SERVED] * 3
    await centre.aclose()


async def test_not_ready_during_the_call_holds_after_the_work(redis: Redis) -> None:
    centre = Centre(redis, queue={"after_call_work_s": 0})
    await centre.acd.start()
    live = await centre.sign_in("1001")
    phone = centre.phones["1001"]
    call = centre.caller()
    await asyncio.wait_for(phone.rang.wait(), 5)
    phone.answer()
    await asyncio.wait_for(phone.bridged.wait(), 5)
    live.not_ready("会议")
    phone.hang_up()
    await centre.finish()
    assert live.state is AgentState.NOT_READY
    assert centre.events.last("agent_state_changed").reason == "会议"
    assert call.ended is Code.FLOW_ENDED
    await centre.aclose()


async def test_a_redis_that_went_away_does_not_keep_an_answered_call_apart(
    centre: Centre, redis_process: RedisProcess
) -> None:
    live = await centre.sign_in("1001")
    call = centre.caller()
    phone = centre.phones["1001"]
    await asyncio.wait_for(phone.rang.wait(), 5)
    redis_process.kill()
    phone.answer()
    await asyncio.wait_for(phone.bridged.wait(), 5)
    waiting = centre.caller()
    await until(lambda: len(centre.results) == 1)
    assert centre.results[0].outcome is QueueOutcome.ERROR
    redis_process.start()
    await until(lambda: not centre.acd._stale)
    assert queue_events(centre, waiting) == ["call_queued", "call_dequeued"]
    phone.hang_up()
    await until(lambda: live.state is AgentState.AFTER_CALL_WORK)
    await centre.finish()
    assert queue_events(centre, call) == SERVED


async def test_every_ending_tells_the_queue_events_once(centre: Centre) -> None:
    """Callers hang up at each step that can be told apart, agents answer or not."""
    for number in ("1001", "1002"):
        await centre.sign_in(number)
    phone = centre.phones["1001"]
    phone.manual, phone.result = False, Code.BUSY
    centre.phones["1002"].manual, centre.phones["1002"].talk_ms = False, 1
    calls = [centre.caller() for _ in range(30)]
    for turns, call in enumerate(calls):
        for _ in range(turns % 10):
            await asyncio.sleep(0)
        if turns % 3:
            call.caller_hangs_up()
    for call in calls[::3]:
        await until(functools.partial(queue_events, centre, call))
        call.caller_hangs_up()
    await centre.finish()
    for call in calls:
        told = queue_events(centre, call)
        assert told.count("call_queued") == told.count("call_dequeued") <= 1
        assert told.count("agent_offered") == told.count("agent_offer_ended")
        assert told[:1] in ([], ["call_queued"])
        assert told[-1:] in ([], ["call_dequeued"])


async def test_agent_id_of_the_result_is_the_one_who_talked(centre: Centre) -> None:
    await centre.sign_in("1002")
    centre.phones["1002"].manual, centre.phones["1002"].talk_ms = False, 1234
    centre.caller()
    await centre.finish()
    assert centre.results[0].agent == AgentId("1002")
    assert centre.results[0].talk_ms == 1234
