"""Runs flows on calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from cti.call import Call
from cti95598.events.v1.events_pb2 import FlowStarted, NodeEntered, NodeLeft
from domain.events import EventStamp
from domain.failures import Code, PlatformError
from domain.ids import TenantId
from ivr.business import QueryClient
from ivr.context import Context
from ivr.flow import Flow, Step
from ivr.library import FlowLibrary
from ivr.prompts import PromptStore
from ivr.queueing import QueueGateway

_log = structlog.get_logger(__name__)

_MOST_STEPS_UNHEARD = 200
"""Steps in a row without a key or an agent; a silent caller ends here too."""


class FlowRunner:
    """`run` is the `CallHandler` of calls whose `info.flow` names a flow."""

    def __init__(
        self,
        *,
        flows: FlowLibrary,
        prompts: PromptStore,
        queries: Callable[[TenantId], QueryClient],
        queues: QueueGateway,
        events: EventStamp,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._flows = flows
        self._prompts = prompts
        self._queries = queries
        self._queues = queues
        self._events = events
        self._clock = clock

    async def run(self, call: Call) -> None:
        """Answer, run the call's flow to its end and hang up."""
        flow = self._flows.get(call.info.flow)
        if flow is None:
            await call.hang_up(Code.FLOW_MISSING)
            return
        await call.hang_up(await self._run(call, flow))

    async def _run(self, call: Call, flow: Flow) -> Code:
        context = Context(
            call,
            prompts=self._prompts,
            queries=self._queries,
            queues=self._queues,
            events=self._events,
        )
        context.publish(FlowStarted(flow=flow.name, version=flow.version))
        try:
            await call.answer()
            return await self._walk(context, flow)
        except PlatformError as error:
            return error.code
        except Exception:  # noqa: BLE001 - a fault of a node ends its call, not the platform
            _log.exception("flow failed", call=call.info.call_id, flow=flow.name, at=call.path[-1:])
            return Code.INTERNAL

    async def _walk(self, context: Context, flow: Flow) -> Code:
        name, number, unheard = flow.start, 0, 0
        while True:
            step = flow.steps[name]
            number += 1
            exit_name = await self._step(context, flow, name, step, number)
            if exit_name not in step.targets:
                return Code.FLOW_ENDED
            unheard = 0 if context.heard_caller else unheard + 1
            if unheard >= _MOST_STEPS_UNHEARD:
                return Code.FLOW_LOOP
            name = step.targets[exit_name]

    async def _step(self, context: Context, flow: Flow, name: str, step: Step, number: int) -> str:
        kind = step.node.kind
        context.begin_step()
        context.call.path.append(name)
        context.publish(NodeEntered(flow=flow.name, flow_node=name, kind=kind, step=number))
        began_s = self._clock()
        exit_name = "failed"
        try:
            exit_name = await step.node.run(context)
        except asyncio.CancelledError:
            exit_name, context.cause = "caller_left", Code.CALLER_HUNG_UP
            raise
        except PlatformError as error:
            context.cause = error.code
            raise
        finally:
            context.publish(
                NodeLeft(
                    flow=flow.name,
                    flow_node=name,
                    kind=kind,
                    step=number,
                    exit=exit_name,
                    digits=context.digits,
                    duration_ms=round((self._clock() - began_s) * 1000),
                    note=context.note,
                ),
                context.cause,
            )
        return exit_name
