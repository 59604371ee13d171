"""The way of a queued caller to an agent: wait with music, ring, connect, and what follows."""

from __future__ import annotations

from agents.desk import AgentDesk
from agents.directory import Directory
from agents.queue_visit import QueueVisit
from cti.call import Call
from domain.events import EventStamp
from domain.failures import PlatformError
from domain.ids import QueueId, TenantId, TicketId, time_ordered_id
from ivr.queueing import QueueCall, QueueOutcome, QueueResult
from routing.acd import Acd, Offer


class QueueDistribution:
    """Implements `ivr.queueing.QueueGateway`: one visit for each caller in a queue."""

    def __init__(
        self, *, acd: Acd, desk: AgentDesk, directory: Directory, events: EventStamp
    ) -> None:
        self._acd = acd
        self._desk = desk
        self._directory = directory
        self._events = events
        self._visits: dict[TicketId, QueueVisit] = {}
        acd.on_offer = self._offered

    async def serve(self, call: Call, request: QueueCall) -> QueueResult:
        """Wait, ring an agent, connect, and return when that is over."""
        queue = self._directory.queue(call.info.tenant, QueueId(request.queue))
        if queue is None:
            return QueueResult(QueueOutcome.ERROR)
        ticket = TicketId(time_ordered_id())
        visit = QueueVisit(
            ticket, call, request, queue, acd=self._acd, desk=self._desk, events=self._events
        )
        self._visits[ticket] = visit
        try:
            return await visit.run()
        finally:
            del self._visits[ticket]
            if not visit.served:
                # Not awaited: the caller may be gone, and this task be cancelled again.
                self._desk.spawn(self._leave(call.info.tenant, ticket))

    @property
    def waiting(self) -> int:
        """Callers of this node in queues or talking to agents."""
        return len(self._visits)

    def _offered(self, offer: Offer) -> None:
        visit = self._visits.get(offer.ticket)
        if visit is not None:
            visit.offered(offer)
        else:  # the caller has just left
            self._desk.spawn(self._leave(offer.tenant, offer.ticket))

    async def _leave(self, tenant: TenantId, ticket: TicketId) -> None:
        try:
            await self._acd.cancel(tenant, ticket)
        except PlatformError:
            return  # the ACD has noted it and tells the store when that returns
