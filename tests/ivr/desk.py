"""A flow runner on fakes of what it talks to: silent speech that remembers its text, and queues."""

from __future__ import annotations

import wave
from pathlib import Path

from google.protobuf.message import Message

from cti.call import Call
from cti95598.events.v1.events_pb2 import Event, NodeLeft
from domain.events import EventStamp
from domain.failures import Code, PlatformError
from domain.ids import AgentId, NodeId
from ivr.business import Query, QueryClient, Reply
from ivr.library import FlowLibrary
from ivr.prompts import PromptStore
from ivr.queueing import QueueCall, QueueOutcome, QueueResult
from ivr.runner import FlowRunner
from tests.fakes.call import FakeCall

SERVED = QueueResult(QueueOutcome.SERVED, AgentId("1001"), talk_ms=5000, waited_ms=800)


def write_wav(
    path: Path, *, rate_hz: int = 8000, channels: int = 1, milliseconds: int = 60
) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(b"\x10\x00" * (channels * rate_hz * milliseconds // 1000))


class SilentSynthesizer:
    """Makes short files and remembers which text each stands for."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.fails = False

    def fingerprint(self, language: str) -> str:
        return f"silent {language}"

    async def synthesize(self, text: str, language: str, target: Path) -> None:
        if self.fails:
            raise PlatformError(Code.PROMPT_FAILED, "as asked")
        self.texts[target.name.partition(".")[0]] = text
        write_wav(target)


class ScriptedQueues:
    """Gives results in order; the last one again and again."""

    def __init__(self, *results: QueueResult) -> None:
        self.results = list(results) or [SERVED]
        self.requests: list[QueueCall] = []

    async def serve(self, call: Call, request: QueueCall) -> QueueResult:
        self.requests.append(request)
        return self.results.pop(0) if len(self.results) > 1 else self.results[0]


class ScriptedQueries:
    """Gives replies or raises codes in order."""

    def __init__(self, *outcomes: Reply | Code) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[Query] = []

    async def ask(self, query: Query) -> Reply:
        self.asked.append(query)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Reply):
            return outcome
        raise PlatformError(outcome, "as asked")


class EventList:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)

    def bodies(self, kind: str) -> list[Message]:
        return [getattr(e, kind) for e in self.events if e.WhichOneof("body") == kind]


class Desk:
    """Runs one flow for fake callers."""

    def __init__(
        self,
        directory: Path,
        flow: str | Path,
        *,
        queues: ScriptedQueues | None = None,
        queries: QueryClient | None = None,
    ) -> None:
        flows = directory / "flows"
        if isinstance(flow, str):
            flows.mkdir(exist_ok=True)
            name = flow.partition("flow: ")[2].split()[0]
            (flows / f"{name}.yaml").write_text(flow, encoding="utf-8")
            self.library = FlowLibrary(flows)
        else:
            self.library = FlowLibrary(flow)
        self.problems = self.library.load()
        self.synthesizer = SilentSynthesizer()
        music = directory / "prompts" / "music"
        music.mkdir(parents=True, exist_ok=True)
        write_wav(music / "waiting.wav")
        self.prompts = PromptStore(
            recorded=directory / "prompts", cache=directory / "cache", synthesizer=self.synthesizer
        )
        self.queues = queues or ScriptedQueues()
        self.sink = EventList()
        client = queries or ScriptedQueries()
        self.runner = FlowRunner(
            flows=self.library,
            prompts=self.prompts,
            queries=lambda tenant: client,
            queues=self.queues,
            events=EventStamp(NodeId("node-1"), self.sink),
        )

    async def take(self, call: FakeCall) -> FakeCall:
        await self.prompts.warm(self.library.flows())
        await call.run(self.runner.run)
        return call

    async def call(
        self, *script: str, flow: str = "test", caller: str = "13800138000", language: str = "zh"
    ) -> FakeCall:
        return await self.take(FakeCall(script, flow=flow, caller=caller, language=language))

    def said(self, call: FakeCall) -> list[str]:
        """What the caller heard, as text; recordings by file name."""
        return [self.synthesizer.texts.get(n.partition(".")[0], n) for n in call.heard]

    def left(self, node: str) -> NodeLeft:
        """The last time a node was left."""
        found = [e for e in self.sink.bodies("node_left") if e.flow_node == node]  # type: ignore[attr-defined]
        assert isinstance(found[-1], NodeLeft)
        return found[-1]

    def cause(self, node: str) -> str:
        return [
            e.cause
            for e in self.sink.events
            if e.WhichOneof("body") == "node_left" and e.node_left.flow_node == node
        ][-1]
