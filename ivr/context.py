"""What a node works with: the call, its data, and the doors to prompts, business and queues."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from google.protobuf.message import Message

from cti.call import Call, Clip, Collected, JsonValue
from domain.events import EventStamp
from domain.failures import Code, PlatformError
from domain.ids import AgentId, TenantId
from ivr.business import QueryClient
from ivr.expressions import Hole
from ivr.model import Prompt
from ivr.prompts import PromptStore
from ivr.queueing import QueueGateway

RESERVED = frozenset({"call", "language"})
"""Variables that the platform sets."""


class Context:
    """The state of one flow on one call."""

    def __init__(
        self,
        call: Call,
        *,
        prompts: PromptStore,
        queries: Callable[[TenantId], QueryClient],
        queues: QueueGateway,
        events: EventStamp,
    ) -> None:
        self.call = call
        self.prompts = prompts
        self.queues = queues
        self.served_by: AgentId | None = None
        """The agent who talked last to the caller."""
        self._queries = queries
        self._events = events
        self._secrets: dict[str, JsonValue] = {}
        self._about_call: JsonValue = {
            "id": call.info.call_id,
            "caller": call.info.caller,
            "called": call.info.called,
            "access_code": call.info.access_code,
            "landing_code": call.info.landing_code,
        }
        self.begin_step()

    def begin_step(self) -> None:
        """Forget what the last node reported."""
        self.digits = ""
        self.note = ""
        self.cause: Code | None = None
        self.heard_caller = False

    @property
    def queries(self) -> QueryClient:
        """The business system of the call's tenant."""
        return self._queries(self.call.info.tenant)

    def lookup(self, name: str) -> JsonValue:
        """Return a variable, None when it is not set."""
        if name == "call":
            return self._about_call
        if name == "language":
            return self.call.language
        if name in self._secrets:
            return self._secrets[name]
        return self.call.data.get(name)

    def set(self, name: str, value: JsonValue, *, secret: bool = False) -> None:
        """Set a variable; secret ones are seen by this flow only, not by agents and records."""
        if secret:
            self._secrets[name] = value
        else:
            self.call.data[name] = value

    def report(self, note: str, cause: Code | None = None) -> None:
        """Say in the caller's path what happened at this node."""
        self.note = f"{self.note}; {note}" if self.note else note
        self.cause = cause or self.cause

    def publish(self, body: Message, cause: Code | None = None) -> None:
        """Publish an event of this call."""
        info = self.call.info
        self._events.publish(info.tenant, body, call_id=info.call_id, cause=cause)

    async def play(self, *items: Prompt | Hole | None, barge_in: bool = True) -> None:
        """Play prompts and values; one that cannot be made or played is skipped and reported."""
        clips = await self._clips(items)
        if clips:
            try:
                await self.call.play(clips, barge_in=barge_in)
            except PlatformError as error:
                self._skip_prompt(error)

    async def collect(
        self,
        *items: Prompt | None,
        max_digits: int = 1,
        terminators: str = "",
        first_digit_timeout_ms: int,
        inter_digit_timeout_ms: int = 3000,
        barge_in: bool = True,
    ) -> Collected:
        """Play and collect; without its prompts when they fail."""
        clips = await self._clips(items)
        while True:
            try:
                collected = await self.call.collect(
                    clips,
                    max_digits=max_digits,
                    terminators=terminators,
                    first_digit_timeout_ms=first_digit_timeout_ms,
                    inter_digit_timeout_ms=inter_digit_timeout_ms,
                    barge_in=barge_in,
                )
            except PlatformError as error:
                if not clips:
                    raise
                self._skip_prompt(error)
                clips = []
                continue
            if collected.digits:
                self.heard_caller = True
            return collected

    async def _clips(self, items: Sequence[Prompt | Hole | None]) -> list[Clip]:
        wanted = [item for item in items if item is not None]
        rendered = await self.prompts.render(wanted, self.call.language, self.lookup)
        if rendered.failed:
            self.report("prompt failed", Code.PROMPT_FAILED)
        return rendered.clips

    def _skip_prompt(self, error: PlatformError) -> None:
        if error.code is not Code.PROMPT_FAILED:
            raise error
        self.report("prompt failed", Code.PROMPT_FAILED)
