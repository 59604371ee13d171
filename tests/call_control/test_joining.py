"""Who joins a conversation, and what the engine is told of it."""

from __future__ import annotations

from cti.calls.conversation import Conversation
from cti.calls.inbound_call import InboundCall
from cti.calls.parties import Part
from cti.media import PortId
from cti.media_policy import MediaAddress, PortPlan
from tests.call_control.conftest import Bench
from tests.call_control.test_legs import bridged, dialling

CALLER, AGENT = PortId(1), PortId(3)


async def _conversation(bench: Bench) -> Conversation:
    bench.handler = dialling([])
    await bridged(bench)
    assert isinstance(bench.call, InboundCall)
    assert bench.call.conversation is not None
    return bench.call.conversation


def _hears(bench: Bench) -> dict[PortId, list[PortId]]:
    return {port: state.hears for port, state in bench.media.ports.items()}


async def test_a_supervisor_comes_in_changes_and_goes(bench: Bench) -> None:
    conversation = await _conversation(bench)
    boss = bench.control._context.open_port(PortPlan(MediaAddress("127.0.0.1")))
    conversation.join(boss, Part.LISTENER)
    assert _hears(bench) == {CALLER: [AGENT], AGENT: [CALLER], boss.port_id: [CALLER, AGENT]}
    conversation.join(boss, Part.WHISPERER)
    assert _hears(bench)[AGENT] == [CALLER, boss.port_id]
    assert _hears(bench)[CALLER] == [AGENT]
    assert not any(entry.startswith("record sides") for entry in bench.media.log)
    conversation.join(boss, Part.SPEAKER)
    assert _hears(bench)[CALLER] == [AGENT, boss.port_id]
    assert bench.media.log[-1] == f"record sides 1 | 3 {boss.port_id}"
    conversation.leave(boss)
    assert _hears(bench) == {CALLER: [AGENT], AGENT: [CALLER], boss.port_id: []}
    conversation.leave(boss)
    boss.close()


async def test_a_consultant_is_asked_while_the_caller_hears_music(bench: Bench) -> None:
    conversation = await _conversation(bench)
    expert = bench.control._context.open_port(PortPlan(MediaAddress("127.0.0.1")))
    caller = bench.call
    assert isinstance(caller, InboundCall)
    conversation.hold(caller.caller_port, waits=True)
    conversation.join(expert, Part.CONSULTANT)
    assert _hears(bench) == {
        CALLER: [],
        AGENT: [expert.port_id],
        expert.port_id: [AGENT],
    }
    assert "loop 1 hold.wav" in bench.media.log
    assert "record sides 1 |" in [entry.rstrip() for entry in bench.media.log]
    conversation.hold(caller.caller_port, waits=False)
    assert _hears(bench)[CALLER] == [AGENT, expert.port_id]
    assert bench.media.ports[CALLER].play is None
    conversation.leave(expert)
    expert.close()


async def test_a_recording_is_paused_and_goes_on(bench: Bench) -> None:
    conversation = await _conversation(bench)
    conversation.pause_recording()
    conversation.resume_recording()
    assert bench.media.log[-2:] == ["record pause", "record resume"]
