"""Go where the data say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from domain.yaml_source import Place
from ivr.context import Context
from ivr.expressions import Expression
from ivr.model import FlowModel, Node, Target


class Case(FlowModel):
    """A condition and where it leads."""

    when: Expression
    next: Target


class BranchNode(Node):
    """Takes the first case that is true, else `otherwise`."""

    kind: Literal["branch"]
    cases: Annotated[list[Case], Field(min_length=1, max_length=50)]
    otherwise: Target

    def edges(self) -> Iterator[tuple[str, Place, str]]:
        """Exits are named by the number of the case."""
        for index, case in enumerate(self.cases):
            yield str(index + 1), ("cases", index, "next"), case.next
        yield "otherwise", ("otherwise",), self.otherwise

    async def run(self, context: Context) -> str:
        """Decide."""
        for index, case in enumerate(self.cases):
            if case.when.is_true(context.lookup):
                context.report(case.when.source)
                return str(index + 1)
        return "otherwise"
