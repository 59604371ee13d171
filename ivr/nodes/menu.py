"""Offer choices by keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from domain.yaml_source import Place
from ivr.context import Context
from ivr.model import FlowModel, Key, Milliseconds, Node, Prompt, Target


class MenuExits(FlowModel):
    """Where callers go who chose nothing."""

    no_input: Target
    invalid: Target


class MenuNode(Node):
    """Plays the choices, again when nothing or nothing valid is pressed."""

    kind: Literal["menu"]
    text: Prompt
    choices: Annotated[dict[Key, Target], Field(min_length=1)]
    no_input_text: Prompt | None = None
    invalid_text: Prompt | None = None
    repeats: Annotated[int, Field(ge=1, le=10)] = 3
    """How often the choices are played."""
    first_digit_timeout_ms: Milliseconds = 5000
    barge_in: bool = True
    exits: MenuExits

    listens: ClassVar[bool] = True

    def edges(self) -> Iterator[tuple[str, Place, str]]:
        """Each key is an exit."""
        for key, target in self.choices.items():
            yield key, ("choices", key), target
        yield from super().edges()

    async def run(self, context: Context) -> str:
        """Offer until a valid key is pressed."""
        complaint: Prompt | None = None
        outcome = "no_input"
        for _ in range(self.repeats):
            collected = await context.collect(
                complaint,
                self.text,
                first_digit_timeout_ms=self.first_digit_timeout_ms,
                barge_in=self.barge_in,
            )
            key = collected.digits
            context.digits += key
            if key in self.choices:
                return key
            outcome = "invalid" if key else "no_input"
            complaint = self.invalid_text if key else self.no_input_text
            if key:
                context.call.flush_digits()
        await context.play(complaint)
        return outcome
