"""End the call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from domain.yaml_source import Place
from ivr.context import Context
from ivr.model import Node, Prompt


class HangupNode(Node):
    """Says goodbye and hangs up; the flow ends here."""

    kind: Literal["hangup"]
    text: Prompt | None = None

    def edges(self) -> Iterator[tuple[str, Place, str]]:
        """Nothing follows."""
        return iter(())

    async def run(self, context: Context) -> str:
        """Say goodbye; the runner hangs up, as at every end of a flow."""
        await context.play(self.text, barge_in=False)
        return "ended"
