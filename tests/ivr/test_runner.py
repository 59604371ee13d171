from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cti.call import Call
from cti95598.events.v1.events_pb2 import FlowStarted, NodeEntered
from domain.failures import Code, PlatformError
from ivr.queueing import QueueCall, QueueResult
from tests.fakes.call import HANG_UP, FakeCall
from tests.ivr.desk import Desk, ScriptedQueues

FLOW = """
flow: test
start: hello
nodes:
  hello: {kind: play, text: 您好, next: menu}
  menu:
    kind: menu
    text: 请选择
    choices: {"1": hello, "0": agent}
    exits: {no_input: again, invalid: bye}
  again: {kind: play, text: 再来, next: menu}
  agent:
    kind: queue
    queue: bill
    exits: {served: bye, timeout: bye, full: bye, no_agents: bye, error: bye}
  bye: {kind: hangup, text: 再见}
"""


async def test_the_path_is_told_by_events(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FLOW)
    call = await desk.call("1", "0")
    assert call.path == ["hello", "menu", "hello", "menu", "agent", "bye"]
    assert call.actions[0] == "answer"
    flow = desk.library.get("test")
    assert flow is not None
    assert desk.sink.bodies("flow_started") == [FlowStarted(flow="test", version=flow.version)]
    assert len(flow.version) == 12
    kinds = [event.WhichOneof("body") for event in desk.sink.events]
    assert kinds == ["flow_started", *["node_entered", "node_left"] * 6]
    assert desk.sink.bodies("node_entered")[4] == NodeEntered(
        flow="test", flow_node="agent", kind="queue", step=5
    )
    assert all(event.call_id == call.info.call_id for event in desk.sink.events)
    assert all(event.tenant == "demo" for event in desk.sink.events)


async def test_a_missing_flow_refuses_the_unanswered_call(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FLOW)
    call = await desk.call(flow="none")
    assert call.ended is Code.FLOW_MISSING
    assert not call.answered


async def test_a_caller_who_leaves_is_told_where(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FLOW)
    call = await desk.call(HANG_UP)
    assert call.ended is Code.CALLER_HUNG_UP
    left = desk.left("menu")
    assert left.exit == "caller_left"
    assert desk.cause("menu") == Code.CALLER_HUNG_UP
    assert call.path == ["hello", "menu"]


async def test_a_caller_who_leaves_the_queue_cancels_it(tmp_path: Path) -> None:
    waiting = asyncio.Event()

    class Endless(ScriptedQueues):
        async def serve(self, call: Call, request: QueueCall) -> QueueResult:
            waiting.set()
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    desk = Desk(tmp_path, FLOW, queues=Endless())
    call = FakeCall(["0"], flow="test")
    taken = asyncio.create_task(desk.take(call))
    await asyncio.wait_for(waiting.wait(), 5)
    call.caller_hangs_up()
    await asyncio.wait_for(taken, 5)
    assert desk.left("agent").exit == "caller_left"


async def test_a_silent_caller_does_not_stay_for_ever(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FLOW)
    call = await desk.call()
    assert call.ended is Code.FLOW_LOOP
    assert len(call.path) == 200


async def test_keys_keep_the_call_alive(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FLOW)
    call = await desk.call(*["1"] * 300, "0")
    assert call.ended is Code.FLOW_ENDED
    assert len(call.path) > 600


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PlatformError(Code.MEDIA_TIMEOUT), Code.MEDIA_TIMEOUT),
        (RuntimeError("a fault of ours"), Code.INTERNAL),
    ],
)
async def test_failures_end_the_call_with_their_code(
    tmp_path: Path, error: Exception, code: Code
) -> None:
    class Failing(ScriptedQueues):
        async def serve(self, call: Call, request: QueueCall) -> QueueResult:
            raise error

    desk = Desk(tmp_path, FLOW, queues=Failing())
    call = await desk.call("0")
    assert call.ended is code
    assert desk.left("agent").exit == "failed"


class DeafCall(FakeCall):
    """Its media engine cannot play clips."""

    async def play(self, clips: object, *, barge_in: bool = True) -> bool:
        raise PlatformError(Code.PROMPT_FAILED, "cannot read the file")


async def test_prompts_that_cannot_be_played_are_skipped(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FLOW)
    call = await desk.take(DeafCall(["0"], flow="test"))
    assert call.path == ["hello", "menu", "agent", "bye"]
    assert desk.cause("hello") == Code.PROMPT_FAILED
    assert desk.cause("menu") == Code.PROMPT_FAILED
    assert desk.left("menu").exit == "0"


async def test_prompts_that_cannot_be_made_are_skipped(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FLOW)
    desk.synthesizer.fails = True
    problems = await desk.prompts.warm(desk.library.flows())
    assert {(problem.rule, problem.node) for problem in problems} == {
        ("prompt_failed", name) for name in ("hello", "menu", "again", "bye")
    }
    call = FakeCall(["0"], flow="test")
    await call.run(desk.runner.run)
    assert call.path == ["hello", "menu", "agent", "bye"]
    assert call.heard == []
    assert desk.cause("hello") == Code.PROMPT_FAILED
    assert desk.left("hello").note == "prompt failed"


async def test_a_call_keeps_the_flow_it_began_with(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FLOW)
    file = tmp_path / "flows" / "test.yaml"

    class Reloading(ScriptedQueues):
        async def serve(self, call: Call, request: QueueCall) -> QueueResult:
            file.write_text(FLOW.replace("再见", "下次再见"), encoding="utf-8")
            assert desk.library.load() == []
            return await super().serve(call, request)

    desk = Desk(tmp_path, FLOW, queues=Reloading())
    call = await desk.call("0")
    assert desk.said(call)[-1] == "再见"
    later = await desk.call("0")
    assert desk.said(later)[-1] == "下次再见"
