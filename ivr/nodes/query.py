"""Ask the business system."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import Field

from cti.call import JsonValue
from domain.failures import Code, PlatformError
from ivr.business import Query
from ivr.context import Context
from ivr.expressions import Template, as_text
from ivr.model import FlowModel, Name, Node, Target, Value


class QueryExits(FlowModel):
    """Where to go afterwards; `not_found` and `timeout` go the way of `error` unless given."""

    ok: Target
    not_found: Target | None = None
    timeout: Target | None = None
    error: Target


class QueryNode(Node):
    """Sends one HTTP request and puts the JSON it answers into a variable."""

    kind: Literal["query"]
    method: Literal["GET", "POST", "PUT"] = "GET"
    path: Template
    params: dict[str, Value] = Field(default_factory=dict)
    body: dict[str, Value] | None = None
    timeout_ms: Annotated[int, Field(ge=100, le=30_000)] | None = None
    """None: as configured for the business system."""
    into: Name | None = None
    exits: QueryExits

    def defines(self, exit_name: str) -> frozenset[str]:
        """Return the variable where an answer came."""
        return frozenset({self.into}) if exit_name == "ok" and self.into else frozenset()

    async def run(self, context: Context) -> str:
        """Ask; whatever goes wrong takes an exit, never the call."""
        name = f"{self.method} {self.path.source}"
        try:
            reply = await context.queries.ask(self._query(context))
        except PlatformError as error:
            context.report(f"{name}: {error.detail}", error.code)
            timed_out = error.code is Code.QUERY_TIMEOUT and self.exits.timeout
            return "timeout" if timed_out else "error"
        context.report(f"{name}: {reply.status}")
        if not reply.found:
            return "not_found" if self.exits.not_found else "error"
        if self.into:
            context.set(self.into, reply.body)
        return "ok"

    def _query(self, context: Context) -> Query:
        path = self.path.render(context.lookup, lambda value: quote(value, safe=""))
        # a caller's number or key may be empty or dots, and must not lead to another resource
        if not path.startswith("/") or any(part in ("", ".", "..") for part in path[1:].split("/")):
            raise PlatformError(Code.QUERY_FAILED, "a value in the path is missing")
        params = {name: _value(value, context) for name, value in self.params.items()}
        body: JsonValue = None
        if self.body is not None:
            body = {name: _value(value, context) for name, value in self.body.items()}
        return Query(
            method=self.method,
            path=path,
            params={name: as_text(value) for name, value in params.items() if value is not None},
            body=body,
            timeout_ms=self.timeout_ms,
            call_id=context.call.info.call_id,
        )


def _value(value: Value, context: Context) -> JsonValue:
    return value.value(context.lookup) if isinstance(value, Template) else value
