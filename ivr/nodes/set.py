"""Set variables and the language."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ivr.context import Context
from ivr.expressions import Template
from ivr.model import Language, Name, Node, Target, Value


class SetNode(Node):
    """Sets variables to fixed or computed values, and the language of what follows."""

    kind: Literal["set"]
    values: dict[Name, Value] = Field(default_factory=dict)
    language: Language | None = None
    next: Target

    def defines(self, exit_name: str) -> frozenset[str]:  # noqa: ARG002 - one exit only
        """Return what is set."""
        return frozenset(self.values)

    async def run(self, context: Context) -> str:
        """Set."""
        for name, value in self.values.items():
            plain = value.value(context.lookup) if isinstance(value, Template) else value
            context.set(name, plain)
        if self.language is not None:
            context.call.language = self.language
        return "done"
