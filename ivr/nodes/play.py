"""Play a prompt."""

from __future__ import annotations

from typing import Literal

from ivr.context import Context
from ivr.model import Node, Prompt, Target


class PlayNode(Node):
    """Plays a text or recording and goes on."""

    kind: Literal["play"]
    text: Prompt
    barge_in: bool = True
    next: Target

    async def run(self, context: Context) -> str:
        """Play."""
        await context.play(self.text, barge_in=self.barge_in)
        return "done"
