"""Agents' offers, states, sessions and ratings, refused sign-ins and alarms from events."""

from __future__ import annotations

from collections.abc import Sequence

from cti95598.events.v1.events_pb2 import Event
from reports.projection import Changes, KindAndEvent, SqlConnection, Table, event_time

SIGNED_OUT = "signed_out"

_KEY = {"tenant": "text", "event_id": "uuid"}

_STATES = Table(
    "agent_state_log",
    keys=_KEY,
    values={
        "at": "timestamptz",
        "agent": "text",
        "node": "text",
        "from_state": "text",
        "to_state": "text",
        "reason": "text",
        "device": "text",
        "previous_ms": "bigint",
    },
)
_RATINGS = Table(
    "rating",
    keys=_KEY,
    values={
        "at": "timestamptz",
        "call_id": "text",
        "agent": "text",
        "score": "integer",
        "language": "text",
    },
)
_SECURITY = Table(
    "security_event",
    keys=_KEY,
    values={
        "at": "timestamptz",
        "protocol": "text",
        "user_name": "text",
        "source_address": "text",
        "cause": "text",
    },
)
_ALARMS = Table(
    "alarm",
    keys=_KEY,
    values={"at": "timestamptz", "node": "text", "component": "text", "words": "text"},
)

_OFFER = """
INSERT INTO agent_offer (tenant, event_id, call_id, ticket, agent, queue, offered_at)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
"""
_END_OFFER = """
UPDATE agent_offer SET ended_at = $4, ring_ms = $5, outcome = $6
WHERE tenant = $1 AND event_id = (
    SELECT event_id FROM agent_offer
    WHERE tenant = $1 AND ticket = $2 AND agent = $3 AND ended_at IS NULL AND offered_at <= $4
    ORDER BY offered_at LIMIT 1)
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
        await self._write_logs(connection, events)
        offered = [_offered(event) for kind, event in events if kind == "agent_offered"]
        if offered:
            await connection.executemany(_OFFER, offered)
        ended = [_offer_ended(event) for kind, event in events if kind == "agent_offer_ended"]
        if ended:
            await connection.executemany(_END_OFFER, ended)
        for kind, event in events:
            if kind == "agent_state_changed":
                await self._session(connection, event)

    async def _write_logs(self, connection: SqlConnection, events: Sequence[KindAndEvent]) -> None:
        states, ratings = Changes(_STATES), Changes(_RATINGS)
        security, alarms = Changes(_SECURITY), Changes(_ALARMS)
        for kind, event in events:
            at = event.time_unix_us
            match kind:
                case "agent_state_changed":
                    change = event.agent_state_changed
                    states.row(
                        event.tenant,
                        event.id,
                        at=at,
                        agent=change.agent,
                        node=event.node,
                        from_state=change.from_state,
                        to_state=change.to_state,
                        reason=change.reason,
                        device=change.device,
                        previous_ms=change.previous_ms,
                    )
                case "rated":
                    ratings.row(
                        event.tenant,
                        event.id,
                        at=at,
                        call_id=event.call_id,
                        agent=event.rated.agent,
                        score=event.rated.score,
                        language=event.rated.language,
                    )
                case "authentication_failed":
                    failure = event.authentication_failed
                    security.row(
                        event.tenant,
                        event.id,
                        at=at,
                        protocol=failure.protocol,
                        user_name=failure.user,
                        source_address=failure.source_address,
                        cause=event.cause,
                    )
                case "source_banned":
                    security.row(
                        event.tenant,
                        event.id,
                        at=at,
                        protocol="sip",
                        user_name="",
                        source_address=event.source_banned.source_address,
                        cause=event.cause,
                    )
                case "alarm":
                    alarms.row(
                        event.tenant,
                        event.id,
                        at=at,
                        node=event.node,
                        component=event.alarm.component,
                        words=event.alarm.text,
                    )
        for changes in (states, ratings, security, alarms):
            await changes.write(connection)

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


def _offered(event: Event) -> tuple[object, ...]:
    offer = event.agent_offered
    return (
        event.tenant,
        event.id,
        event.call_id,
        offer.ticket,
        offer.agent,
        offer.queue,
        event_time(event),
    )


def _offer_ended(event: Event) -> tuple[object, ...]:
    end = event.agent_offer_ended
    return (event.tenant, end.ticket, end.agent, event_time(event), end.ring_ms, end.outcome)
