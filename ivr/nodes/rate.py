"""Ask how the agent served (话后评价)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cti95598.events.v1.events_pb2 import Rated
from ivr.context import Context
from ivr.model import Milliseconds, Name, Node, Prompt, Target


class RateNode(Node):
    """Asks for one key from 1 to `highest`; passes on at once when no agent has served."""

    kind: Literal["rate"]
    text: Prompt
    invalid_text: Prompt | None = None
    thanks: Prompt | None = None
    highest: Annotated[int, Field(ge=2, le=9)] = 5
    repeats: Annotated[int, Field(ge=1, le=5)] = 2
    first_digit_timeout_ms: Milliseconds = 5000
    into: Name = "rating"
    next: Target

    listens: ClassVar[bool] = True
    next_exits: ClassVar[tuple[str, ...]] = ("rated", "no_rating", "no_agent")

    def defines(self, exit_name: str) -> frozenset[str]:
        """Return the variable where a score was given."""
        return frozenset({self.into}) if exit_name == "rated" else frozenset()

    async def run(self, context: Context) -> str:
        """Ask."""
        agent = context.served_by
        if agent is None:
            return "no_agent"
        complaint: Prompt | None = None
        for _ in range(self.repeats):
            collected = await context.collect(
                complaint, self.text, first_digit_timeout_ms=self.first_digit_timeout_ms
            )
            key = collected.digits
            context.digits += key
            if key.isdigit() and 1 <= int(key) <= self.highest:
                context.set(self.into, int(key))
                context.publish(Rated(agent=agent, score=int(key), language=context.call.language))
                context.served_by = None
                await context.play(self.thanks)
                return "rated"
            complaint = self.invalid_text if key else None
        return "no_rating"
