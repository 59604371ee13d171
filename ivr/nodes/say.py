"""Read a value aloud."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ivr.context import Context
from ivr.expressions import Expression, Hole
from ivr.model import Node, Prompt, Target
from ivr.spoken import Format


class SayNode(Node):
    """Reads a number, an amount, a date, a time or digits, between two texts."""

    kind: Literal["say"]
    before: Prompt | None = None
    value: Expression
    form: Format = Field(alias="as")
    after: Prompt | None = None
    barge_in: bool = True
    next: Target

    async def run(self, context: Context) -> str:
        """Read."""
        value = Hole(self.value, self.form)
        await context.play(self.before, value, self.after, barge_in=self.barge_in)
        return "done"
