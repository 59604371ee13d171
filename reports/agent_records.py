"""Agents' offers, states, sessions and ratings, refused sign-ins and alarms from events."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cti95598.events.v1.events_pb2 import Event
from reports.projection import Appended, KindAndEvent, SqlConnection, event_time, in_turns

SIGNED_OUT = "signed_out"

# Of offers that are in the table.
_END_OFFERS = """
UPDATE agent_offer o SET ended_at = given.ended_at, ring_ms = given.ring_ms,
    outcome = given.outcome
FROM unnest($1::agent_offer[]) given CROSS JOIN LATERAL (
    SELECT begun.ctid AS place FROM agent_offer begun
    WHERE begun.tenant = given.tenant AND begun.ticket = given.ticket
        AND begun.agent = given.agent AND begun.ended_at IS NULL
        AND begun.offered_at <= given.ended_at
    ORDER BY begun.offered_at LIMIT 1) first
WHERE o.ctid = first.place
"""
# A session that its node could not end was over after the agent's last change of state.
_END_LOST_SESSIONS = """
UPDATE agent_session s SET signed_out_at = GREATEST(s.signed_in_at, (
    SELECT max(l.at) FROM agent_state_log l
    WHERE l.tenant = s.tenant AND l.agent = s.agent AND l.at < $3))
WHERE s.tenant = $1 AND s.agent = $2 AND s.signed_out_at IS NULL
"""
_SIGN_IN = """
INSERT INTO agent_session (tenant, event_id, agent, node, device, signed_in_at)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
"""
_SIGN_OUT = """
UPDATE agent_session SET signed_out_at = $3
WHERE tenant = $1 AND agent = $2 AND signed_out_at IS NULL
"""


class AgentRecords:
    """Projection of everything that belongs to agents."""

    async def apply(self, connection: SqlConnection, events: Sequence[KindAndEvent]) -> None:
        """Write the rows that the events change."""
        batch = _Batch()
        async for some in in_turns(events):
            for kind, event in some:
                handle = _HANDLERS.get(kind)
                if handle is not None:
                    handle(batch, event)
        await batch.write(connection)
        for kind, event in events:
            if kind == "agent_state_changed":
                await self._session(connection, event)

    async def _session(self, connection: SqlConnection, event: Event) -> None:
        change = event.agent_state_changed
        if change.from_state == change.to_state:
            return
        at = event_time(event)
        if change.from_state == SIGNED_OUT:
            await connection.execute(_END_LOST_SESSIONS, event.tenant, change.agent, at)
            await connection.execute(
                _SIGN_IN, event.tenant, event.id, change.agent, event.node, change.device, at
            )
        elif change.to_state == SIGNED_OUT:
            await connection.execute(_SIGN_OUT, event.tenant, change.agent, at)


class _Batch:
    def __init__(self) -> None:
        self._states = Appended("agent_state_log")
        self._ratings = Appended("rating")
        self._security = Appended("security_event")
        self._alarms = Appended("alarm")
        self._offers = Appended("agent_offer")
        self._ends: list[dict[str, object]] = []
        self._open: dict[tuple[str, str, str], dict[str, object]] = {}
        """Offers of this batch that have not ended."""

    async def write(self, connection: SqlConnection) -> None:
        for rows in (self._states, self._ratings, self._security, self._alarms, self._offers):
            await rows.write(connection)
        if self._ends:
            await connection.execute(_END_OFFERS, self._ends)

    def state_changed(self, event: Event) -> None:
        change = event.agent_state_changed
        self._states.row(
            tenant=event.tenant,
            event_id=event.id,
            at=event_time(event),
            agent=change.agent,
            node=event.node,
            from_state=change.from_state,
            to_state=change.to_state,
            reason=change.reason,
            device=change.device,
            previous_ms=change.previous_ms,
        )

    def offered(self, event: Event) -> None:
        offer = event.agent_offered
        self._open[event.tenant, offer.ticket, offer.agent] = self._offers.row(
            tenant=event.tenant,
            event_id=event.id,
            call_id=event.call_id,
            ticket=offer.ticket,
            agent=offer.agent,
            queue=offer.queue,
            offered_at=event_time(event),
            ended_at=None,
            ring_ms=None,
            outcome=None,
        )

    def offer_ended(self, event: Event) -> None:
        end = event.agent_offer_ended
        begun = self._open.pop((event.tenant, end.ticket, end.agent), None)
        if begun is None:  # an earlier batch has it
            begun = {"tenant": event.tenant, "ticket": end.ticket, "agent": end.agent}
            self._ends.append(begun)
        begun.update(ended_at=event_time(event), ring_ms=end.ring_ms, outcome=end.outcome)

    def rated(self, event: Event) -> None:
        self._ratings.row(
            tenant=event.tenant,
            event_id=event.id,
            at=event_time(event),
            call_id=event.call_id,
            agent=event.rated.agent,
            score=event.rated.score,
            language=event.rated.language,
        )

    def authentication_failed(self, event: Event) -> None:
        failure = event.authentication_failed
        self._security_event(event, failure.protocol, failure.user, failure.source_address)

    def source_banned(self, event: Event) -> None:
        self._security_event(event, "sip", "", event.source_banned.source_address)

    def alarm(self, event: Event) -> None:
        self._alarms.row(
            tenant=event.tenant,
            event_id=event.id,
            at=event_time(event),
            node=event.node,
            component=event.alarm.component,
            words=event.alarm.text,
        )

    def _security_event(self, event: Event, protocol: str, user: str, address: str) -> None:
        self._security.row(
            tenant=event.tenant,
            event_id=event.id,
            at=event_time(event),
            protocol=protocol,
            user_name=user,
            source_address=address,
            cause=event.cause,
        )


_HANDLERS: dict[str, Callable[[_Batch, Event], None]] = {
    "agent_state_changed": _Batch.state_changed,
    "agent_offered": _Batch.offered,
    "agent_offer_ended": _Batch.offer_ended,
    "rated": _Batch.rated,
    "authentication_failed": _Batch.authentication_failed,
    "source_banned": _Batch.source_banned,
    "alarm": _Batch.alarm,
}
