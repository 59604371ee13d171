"""One caller's visit to a queue, top to bottom."""

from __future__ import annotations

import asyncio
from typing import Literal

from agents.desk import AgentDesk
from agents.line import AgentLine, Handling
from agents.summary import CallSummary
from cti.call import Call, DialTarget, Leg
from cti95598.events.v1.events_pb2 import (
    AgentOffered,
    AgentOfferEnded,
    CallDequeued,
    CallQueued,
)
from domain.events import EventStamp
from domain.failures import Code, PlatformError
from domain.ids import AgentId, TicketId
from ivr.queueing import QueueCall, QueueOutcome, QueueResult
from routing.acd import MAX_PRIORITY, Acd, Offer, QueueRequest
from routing.settings import QueueSettings

_LEASE_MARGIN_MS = 5000  # the node's own timer rings off first

_REFUSALS = {Code.QUEUE_FULL: QueueOutcome.FULL, Code.QUEUE_NO_AGENTS: QueueOutcome.NO_AGENTS}

_LEAVING = {
    QueueOutcome.TIMEOUT: Code.QUEUE_TIMEOUT,
    QueueOutcome.FULL: Code.QUEUE_FULL,
    QueueOutcome.NO_AGENTS: Code.QUEUE_NO_AGENTS,
    QueueOutcome.ERROR: Code.QUEUE_UNAVAILABLE,
}

_OFFER_OUTCOMES = {
    Code.NO_ANSWER: "no_answer",
    Code.BUSY: "refused",
    Code.DECLINED: "refused",
    Code.FAR_END_REFUSED: "refused",
    Code.NO_COMMON_CODEC: "refused",
    Code.NO_COMMON_PROTECTION: "refused",
    Code.SDP_MALFORMED: "refused",
}
"""How a phone's failure is reported; all others are "unreachable"."""

_NOT_THE_PHONES = frozenset(
    {Code.NO_CALL, Code.STATE_FORBIDS, Code.MEDIA_PORTS_EXHAUSTED, Code.INTERNAL}
)
"""Failures of a dial that no other phone would mend: they end the visit, agents stay ready."""

_Leaving = Literal[QueueOutcome.TIMEOUT, QueueOutcome.CALLER_KEY]


class QueueVisit:
    """Runs once. `served` is true as soon as an agent has the call."""

    def __init__(
        self,
        ticket: TicketId,
        call: Call,
        request: QueueCall,
        queue: QueueSettings,
        *,
        acd: Acd,
        desk: AgentDesk,
        events: EventStamp,
    ) -> None:
        self.served = False
        self._ticket = ticket
        self._call = call
        self._request = request
        self._queue = queue
        self._acd = acd
        self._desk = desk
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._offer: Offer | None = None
        self._leaving: _Leaving | None = None
        self._wake: asyncio.Future[None] | None = None

    def offered(self, offer: Offer) -> None:
        """The ACD has reserved an agent; a newer offer replaces one that was lost."""
        self._offer = offer
        self._stir()

    async def run(self) -> QueueResult:
        """Wait for agents until one has talked to the caller or the caller is to leave."""
        outcome: str = "abandoned"
        cause = Code.CALLER_ABANDONED
        try:
            result = await self._enter()
            if result is None:
                result = await self._wait_and_ring()
            outcome = result.outcome
            cause = _LEAVING.get(result.outcome, Code.FLOW_ENDED)
        except PlatformError as error:  # of the caller's leg or of the media, not of an agent
            outcome, cause = QueueOutcome.ERROR, error.code
            return self._result(QueueOutcome.ERROR)
        else:
            return result
        finally:
            if not self.served:
                self._publish_dequeued(outcome, cause)

    async def _enter(self) -> QueueResult | None:
        settings, request = self._queue, self._request
        position = 0
        try:
            position = await self._acd.enqueue(
                QueueRequest(
                    tenant=self._call.info.tenant,
                    ticket=self._ticket,
                    call_id=self._call.info.call_id,
                    queue=settings.queue_id,
                    priority=min(max(request.priority, 1), MAX_PRIORITY),
                    skills=request.skills,
                    max_waiting=settings.max_waiting,
                    refuse_without_agents=settings.refuse_without_agents,
                    lease_ms=settings.answer_within_s * 1000 + _LEASE_MARGIN_MS,
                )
            )
        except PlatformError as error:
            return self._result(_REFUSALS.get(error.code, QueueOutcome.ERROR))
        finally:
            queued = CallQueued(
                queue=settings.id,
                ticket=self._ticket,
                priority=request.priority,
                skills=request.skills,
                position=position,
            )
            self._publish(queued)
        return None

    async def _wait_and_ring(self) -> QueueResult:
        if self._request.music:
            self._call.start_music(self._request.music)
        wait_s = min(self._request.max_wait_ms / 1000, self._queue.max_wait_s)
        timer = self._loop.call_at(self._began + wait_s, self._leave, QueueOutcome.TIMEOUT)
        keys = asyncio.create_task(self._watch_keys()) if self._request.release_key else None
        try:
            while True:
                offer = await self._next_offer()
                if offer is None:
                    return self._result(self._leaving or QueueOutcome.TIMEOUT)
                result = await self._ring(offer, keys)
                if result is not None:
                    return result
        finally:
            timer.cancel()
            if keys is not None:
                keys.cancel()
                await asyncio.wait([keys])

    async def _next_offer(self) -> Offer | None:
        """An offer comes before the end of the wait, a caller who wants to leave before both."""
        while self._offer is None or self._leaving is QueueOutcome.CALLER_KEY:
            if self._leaving is not None:
                return None
            self._wake = self._loop.create_future()
            await self._wake
        offer, self._offer = self._offer, None
        return offer

    async def _watch_keys(self) -> None:
        try:
            while await self._call.next_digit() != self._request.release_key:
                pass
        except PlatformError:
            return  # the call is ending
        self._leave(QueueOutcome.CALLER_KEY)

    def _leave(self, outcome: _Leaving) -> None:
        self._leaving = self._leaving or outcome
        self._stir()

    def _stir(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # An agent is reserved

    async def _ring(self, offer: Offer, keys: asyncio.Task[None] | None) -> QueueResult | None:
        """Ring the agent; None when the caller has to wait on."""
        call = self._call
        summary = CallSummary.of(call, self._queue.queue_id, self._waited_ms())
        line = await self._desk.offer(offer, summary)
        if line is None:
            await self._give_back(offer, agent_ready=None)
            return None
        self._publish(
            AgentOffered(
                agent=offer.agent, queue=offer.queue, ticket=offer.ticket, fence=offer.fence
            )
        )
        if not self._request.music:
            call.start_ringback()
        leg = await self._dial(offer, line)
        if leg is None:
            if not self._request.music:
                call.stop_music()
            return None
        if keys is not None:
            keys.cancel()  # what is pressed from now on is meant for others
        return await self._talk(offer, line, leg, summary)

    async def _dial(self, offer: Offer, line: AgentLine) -> Leg | None:
        call, began = self._call, self._loop.time()
        target = DialTarget(user=line.phone, caller_number=call.info.caller)
        leg: Leg | None = None
        outcome, ready = "abandoned", False
        try:
            leg = await call.dial(
                target, timeout_ms=self._queue.answer_within_s * 1000, on_ringing=line.ringing
            )
            if not await self._confirm(offer):
                outcome = "lost"
                leg.hang_up(Code.CALLER_ABANDONED)
                line.failed("offer_lost", ready=False)
            else:
                outcome = "answered"
        except PlatformError as error:
            if error.code in _NOT_THE_PHONES:
                line.withdrawn(confirmed=False)
                raise
            outcome = _OFFER_OUTCOMES.get(error.code, "unreachable")
            ready = error.code is Code.NO_ANSWER and self._queue.no_answer_state == "ready"
            line.failed(error.code, ready=ready)
        except asyncio.CancelledError:
            if leg is not None:
                leg.hang_up(Code.CALLER_ABANDONED)
            if outcome == "abandoned":
                line.withdrawn(confirmed=leg is not None)
            raise
        finally:
            ring_ms = round((self._loop.time() - began) * 1000)
            self._publish(
                AgentOfferEnded(
                    agent=offer.agent,
                    queue=offer.queue,
                    ticket=offer.ticket,
                    ring_ms=ring_ms,
                    outcome=outcome,
                )
            )
        if outcome == "answered":
            return leg
        if outcome != "lost":
            await self._give_back(offer, agent_ready=ready)
        return None

    async def _confirm(self, offer: Offer) -> bool:
        try:
            return await self._acd.confirm(offer)
        except PlatformError:
            # Both are on the line. With the store away nobody else can have got this agent, and
            # the lease makes the agent not ready there before anybody could.
            return True

    async def _give_back(self, offer: Offer, *, agent_ready: bool | None) -> None:
        try:
            await self._acd.reject(offer, agent_ready=agent_ready)
        except PlatformError:
            return  # noted by the ACD, told to the store when that returns

    async def _talk(
        self, offer: Offer, line: AgentLine, leg: Leg, summary: CallSummary
    ) -> QueueResult:
        self.served = True
        waited_ms = self._waited_ms()
        self._publish_dequeued("agent", None, offer.agent, waited_ms)
        line.answered(leg)
        handling = Handling(line, offer.agent, summary)
        try:
            end = await self._call.bridge(
                leg,
                record_party=offer.agent,
                on_transferred=handling.transferred,
                on_begun=handling.begun,
            )
        finally:
            leg.hang_up(Code.CALLER_HUNG_UP)
            handling.over()
        return QueueResult(QueueOutcome.SERVED, handling.agent, end.talk_ms, waited_ms)

    # What is told

    def _waited_ms(self) -> int:
        return round((self._loop.time() - self._began) * 1000)

    def _result(self, outcome: QueueOutcome) -> QueueResult:
        return QueueResult(outcome, waited_ms=self._waited_ms())

    def _publish_dequeued(
        self,
        outcome: str,
        cause: Code | None,
        agent: AgentId | None = None,
        waited_ms: int | None = None,
    ) -> None:
        dequeued = CallDequeued(
            queue=self._queue.id,
            ticket=self._ticket,
            outcome=outcome,
            waited_ms=self._waited_ms() if waited_ms is None else waited_ms,
            agent=agent or "",
        )
        self._publish(dequeued, cause)

    def _publish(
        self,
        body: CallQueued | CallDequeued | AgentOffered | AgentOfferEnded,
        cause: Code | None = None,
    ) -> None:
        info = self._call.info
        self._events.publish(info.tenant, body, call_id=info.call_id, cause=cause)
