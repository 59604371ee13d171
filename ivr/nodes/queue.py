"""Wait for an agent and talk."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from domain.failures import Code
from domain.words import Words
from ivr.context import Context
from ivr.expressions import Template, as_text
from ivr.model import FlowModel, Key, Milliseconds, Node, Prompt, Target
from ivr.problems import model_fault
from ivr.queueing import QueueCall, QueueOutcome
from ivr.recordings import WAITING

_CAUSES = {
    QueueOutcome.TIMEOUT: Code.QUEUE_TIMEOUT,
    QueueOutcome.FULL: Code.QUEUE_FULL,
    QueueOutcome.NO_AGENTS: Code.QUEUE_NO_AGENTS,
    QueueOutcome.ERROR: Code.QUEUE_UNAVAILABLE,
}
_LOWEST, _HIGHEST, _USUAL = 1, 254, 100


class QueueExits(FlowModel):
    """Where to go afterwards, by `QueueOutcome`."""

    served: Target
    timeout: Target
    full: Target
    no_agents: Target
    error: Target
    caller_key: Target | None = None


class QueueNode(Node):
    """Puts the caller into a queue until an agent has served, or the wait has ended."""

    kind: Literal["queue"]
    text: Prompt | None = None
    queue: Template
    priority: Template = Field(default_factory=lambda: Template.parse(str(_USUAL)))
    skills: tuple[Template, ...] = ()
    music: str = WAITING
    max_wait_ms: Annotated[Milliseconds, Field(ge=1000)] = 180_000
    release_key: Key | Literal[""] = ""
    exits: QueueExits

    listens: ClassVar[bool] = True

    @model_validator(mode="after")
    def _agree(self) -> QueueNode:
        if bool(self.release_key) != bool(self.exits.caller_key):
            raise model_fault(
                "queue_release",
                Words("release_key 与 exits.caller_key 必须同时给出",
                      "release_key and exits.caller_key need each other"),
                Words("两个都写或都不写", "give both or neither"),
            )  # fmt: skip
        priority = self.priority.source
        if not self.priority.names and not (
            priority.isdigit() and _LOWEST <= int(priority) <= _HIGHEST
        ):
            raise model_fault(
                "queue_priority",
                Words(f"优先级“{priority}”不在 1 到 254", f"priority {priority!r} is not 1 to 254"),
                Words("普通客户写 100", "write 100 for usual callers"),
            )
        return self

    async def run(self, context: Context) -> str:
        """Wait and talk."""
        await context.play(self.text, barge_in=False)
        context.call.flush_digits()
        lookup = context.lookup
        request = QueueCall(
            queue=self.queue.render(lookup),
            priority=_priority(self.priority.render(lookup)),
            skills=tuple(as_text(skill.value(lookup)) for skill in self.skills),
            max_wait_ms=self.max_wait_ms,
            music=context.prompts.music(self.music),
            release_key=self.release_key,
        )
        result = await context.queues.serve(context.call, request)
        context.report(f"{request.queue}: waited {result.waited_ms} ms, talked {result.talk_ms} ms",
                       _CAUSES.get(result.outcome))  # fmt: skip
        if result.outcome is QueueOutcome.SERVED:
            context.served_by = result.agent
            context.heard_caller = True
        elif result.outcome is QueueOutcome.CALLER_KEY:
            context.digits = self.release_key
            context.heard_caller = True
        return result.outcome.value


def _priority(text: str) -> int:
    """A priority that came from data and makes no sense is the usual one."""
    priority = int(text) if text.isascii() and text.isdigit() else _USUAL
    return priority if _LOWEST <= priority <= _HIGHEST else _USUAL
