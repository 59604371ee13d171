"""The events of calls through queue and agent, recorded, at the times at which they happen."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from google.protobuf.message import Message

from cti95598.events.v1 import events_pb2 as pb
from domain.failures import Code
from domain.ids import CallId, new_call_id, time_ordered_id

_TALK_MS = 2000
_FLOW = "load-queue"
_PLATFORM = pb.CallEnded.PARTY_PLATFORM
_MEDIA = pb.MediaFigures(
    packets_sent=101, packets_received=100, jitter_ms=0.0625, codec="PCMA", mos=4.409285824,
    worst_mos=4.409285824,
)  # fmt: skip


@dataclass(slots=True)
class ScriptedCall:
    """One call, as its events name it and those who take part."""

    number: int
    agent: str
    call_id: CallId = field(default_factory=new_call_id)
    ticket: str = field(default_factory=time_ordered_id)
    leg: str = field(default_factory=time_ordered_id)
    recording: str = field(default_factory=time_ordered_id)

    @property
    def path(self) -> str:
        """Where the recording lies."""
        return f"/var/lib/cti95598/recordings/load/2026/11/22/{self.call_id}-{self.recording}.wav"


Step = Callable[[ScriptedCall], Message]


def _state(before: str, after: str, previous_ms: int) -> Step:
    return lambda call: pb.AgentStateChanged(
        agent=call.agent, from_state=before, to_state=after, device=call.agent,
        previous_ms=previous_ms,
    )  # fmt: skip


def _entered(node: str, kind: str, step: int) -> Step:
    return lambda _: pb.NodeEntered(flow=_FLOW, flow_node=node, kind=kind, step=step)


def _left(node: str, kind: str, step: int, leave: str, ms: int, note: str = "") -> Step:
    return lambda _: pb.NodeLeft(
        flow=_FLOW, flow_node=node, kind=kind, step=step, exit=leave, duration_ms=ms, note=note
    )


def _arrived(call: ScriptedCall) -> Message:
    return pb.CallArrived(
        trunk="load", caller=f"138{call.number % 10**8:08}", called="95598", access_code="95598",
        sip_call_id=f"{call.leg[12:]}@127.0.0.1", source_address="127.0.0.1",
    )  # fmt: skip


def _recorded(call: ScriptedCall) -> Message:
    return pb.RecordingFinished(
        recording=call.recording, path=call.path, agent=call.agent, sha256=2 * call.call_id,
        size_bytes=64_044, duration_ms=_TALK_MS, channels=2, sample_rate_hz=8000,
        left_party="caller", right_party="agent",
    )  # fmt: skip


_SCRIPT: list[tuple[float, Step, Code | None]] = [
    (0.000, _arrived, None),
    (0.000, lambda _: pb.FlowStarted(flow=_FLOW, version="db6212a70f28"), None),
    (0.002, lambda _: pb.CallAnswered(), None),
    (0.005, _entered("agents", "queue", 1), None),
    (0.007, lambda call: pb.CallQueued(queue="load", ticket=call.ticket, priority=100), None),
    (0.007, _state("ready", "ringing", 4000), None),
    (
        0.007,
        lambda call: pb.AgentOffered(agent=call.agent, queue="load", ticket=call.ticket, fence=7),
        None,
    ),
    (0.009, lambda call: pb.LegStarted(leg=call.leg, target=call.agent, purpose="agent"), None),
    (
        0.012,
        lambda call: pb.AgentOfferEnded(
            agent=call.agent, queue="load", ticket=call.ticket, ring_ms=4, outcome="answered"
        ),
        None,
    ),
    (
        0.012,
        lambda call: pb.CallDequeued(
            queue="load", ticket=call.ticket, outcome="agent", waited_ms=7, agent=call.agent
        ),
        None,
    ),
    (0.012, _state("ringing", "talking", 5), None),
    (
        0.013,
        lambda call: pb.RecordingStarted(
            recording=call.recording, path=call.path, agent=call.agent
        ),
        None,
    ),
    (0.013, lambda call: pb.Bridged(leg=call.leg, agent=call.agent), None),
    (
        2.013,
        lambda call: pb.Unbridged(
            leg=call.leg, agent=call.agent, talk_ms=_TALK_MS, by=_PLATFORM
        ),
        Code.AGENT_HUNG_UP,
    ),
    (2.014, _state("talking", "after_call_work", _TALK_MS), None),
    (2.014, _state("after_call_work", "ready", 0), None),
    (
        2.014,
        _left("agents", "queue", 1, "served", 2006, "load: waited 7 ms, talked 2000 ms"),
        None,
    ),
    (2.014, _entered("bye", "hangup", 2), None),
    (
        2.015,
        lambda call: pb.LegEnded(
            leg=call.leg, sip_status=200, ring_ms=2, talk_ms=_TALK_MS, media=_MEDIA
        ),
        Code.AGENT_HUNG_UP,
    ),
    (2.018, _recorded, None),
    (2.020, _left("bye", "hangup", 2, "ended", 6), None),
    (
        2.025,
        lambda _: pb.CallEnded(by=_PLATFORM, sip_status=200, duration_ms=2025, media=_MEDIA),
        Code.FLOW_ENDED,
    ),
]  # fmt: skip

EVENTS_A_CALL = len(_SCRIPT)


def calls_events(
    *, rate: float, count: int, agents: int
) -> Iterator[tuple[float, CallId, Message, Code | None]]:
    """Yield the events of `count` calls at `rate` a second: when, in seconds, whose and what."""
    calls: dict[int, ScriptedCall] = {}
    for when_s, number, at in heapq.merge(
        *(_times(at, rate, count) for at in range(EVENTS_A_CALL))
    ):
        if at == 0:
            calls[number] = ScriptedCall(number, agent=str(10_000 + number % agents))
        call = calls[number]
        _, make, cause = _SCRIPT[at]
        yield when_s, call.call_id, make(call), cause
        if at == EVENTS_A_CALL - 1:
            del calls[number]


def _times(at: int, rate: float, count: int) -> Iterator[tuple[float, int, int]]:
    offset_s, *_ = _SCRIPT[at]
    return ((number / rate + offset_s, number, at) for number in range(count))
