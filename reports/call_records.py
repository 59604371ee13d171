"""Call records, steps, legs, queue visits and conversations from events."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cti95598.events.v1.events_pb2 import CallEnded, Event
from domain.failures import CATALOGUE, Code, Outcome
from reports.projection import (
    MEDIA_COLUMNS,
    Changes,
    KindAndEvent,
    SqlConnection,
    Table,
    event_time,
    in_turns,
    media_values,
    party_name,
)

_CALL_KEY = ("tenant", "call_id")

_CALLS = Table(
    "call_record",
    keys=_CALL_KEY,
    values=(
        "node",
        "arrived_at",
        "answered_at",
        "ended_at",
        "trunk",
        "caller",
        "called",
        "access_code",
        "landing_code",
        "sip_call_id",
        "source_address",
        "number_list",
        "flow",
        "flow_version",
        "queue",
        "agent",
        "recording_id",
        "rating",
        "cause",
        "counted_as",
        "abandoned",
        "ended_by",
        "sip_status",
        "duration_ms",
        *MEDIA_COLUMNS,
    ),
    sums=("wait_ms", "ring_ms", "talk_ms", "offers"),
)
_STEPS = Table(
    "call_step",
    keys=(*_CALL_KEY, "step"),
    values=(
        "flow",
        "flow_node",
        "kind",
        "entered_at",
        "left_at",
        "exit",
        "digits",
        "duration_ms",
        "note",
    ),
)
_LEGS = Table(
    "call_leg",
    keys=("tenant", "leg_id"),
    values=(
        "call_id",
        "target",
        "purpose",
        "started_at",
        "ended_at",
        "sip_status",
        "cause",
        "ring_ms",
        "talk_ms",
        *MEDIA_COLUMNS,
    ),
)
_VISITS = Table(
    "queue_visit",
    keys=("tenant", "ticket"),
    values=(
        "call_id",
        "queue",
        "priority",
        "position",
        "queued_at",
        "dequeued_at",
        "outcome",
        "waited_ms",
        "agent",
    ),
)
_CONVERSATIONS = Table(
    "conversation",
    keys=("tenant", "leg_id"),
    values=(
        "call_id",
        "agent",
        "bridged_at",
        "unbridged_at",
        "talk_ms",
        "ended_by",
    ),
)


# A call that its node could not end was over after its last event. Calls' ids are ordered by time,
# so that the index of the log, which knows the least and the greatest of each part of it, leads to
# the parts that the node's last calls are in.
_END_LOST_CALLS = """
WITH lost AS MATERIALIZED (
    SELECT call_id, COALESCE(answered_at, arrived_at) AS known FROM call_record
    WHERE tenant = $1 AND node = $2 AND arrived_at < $3 AND ended_at IS NULL),
seen AS MATERIALIZED (
    SELECT call_id, max(at) AS last_seen FROM event_log
    WHERE tenant = $1 AND call_id <> ''
        AND call_id BETWEEN (SELECT min(call_id) FROM lost) AND (SELECT max(call_id) FROM lost)
    GROUP BY call_id)
UPDATE call_record c SET ended_at = ended, cause = $4, counted_as = $5, ended_by = 'platform',
    duration_ms = extract(epoch FROM ended - arrived_at) * 1000
FROM (SELECT call_id, COALESCE(last_seen, known) AS ended
    FROM lost LEFT JOIN seen USING (call_id)) over
WHERE c.tenant = $1 AND c.call_id = over.call_id
"""


class CallRecords:
    """Projection of everything that belongs to a call."""

    async def apply(self, connection: SqlConnection, events: Sequence[KindAndEvent]) -> None:
        """Write the rows that the events change."""
        batch = _Batch()
        async for some in in_turns(events):
            for kind, event in some:
                handle = _HANDLERS.get(kind)
                if handle is not None and event.call_id:
                    handle(batch, event)
        for changes in (
            batch.calls,
            batch.steps,
            batch.legs,
            batch.visits,
            batch.conversations,
        ):
            await changes.write(connection)
        for kind, event in events:
            if kind == "node_started":
                await connection.execute(
                    _END_LOST_CALLS,
                    event.tenant,
                    event.node,
                    event_time(event),
                    Code.NODE_LOST,
                    CATALOGUE[Code.NODE_LOST].outcome,
                )


class _Batch:
    def __init__(self) -> None:
        self.calls = Changes(_CALLS)
        self.steps = Changes(_STEPS)
        self.legs = Changes(_LEGS)
        self.visits = Changes(_VISITS)
        self.conversations = Changes(_CONVERSATIONS)

    def call_arrived(self, event: Event) -> None:
        body = event.call_arrived
        self.calls.row(
            event.tenant,
            event.call_id,
            node=event.node,
            arrived_at=event_time(event),
            trunk=body.trunk,
            caller=body.caller,
            called=body.called,
            access_code=body.access_code,
            landing_code=body.landing_code,
            sip_call_id=body.sip_call_id,
            source_address=body.source_address,
            number_list=body.number_list,
        )

    def call_refused(self, event: Event) -> None:
        self.calls.row(
            event.tenant,
            event.call_id,
            node=event.node,
            ended_at=event_time(event),
            cause=event.cause,
            counted_as=_counted_as(event.cause, Outcome.REFUSED),
            ended_by="platform",
            sip_status=event.call_refused.sip_status,
        )

    def call_answered(self, event: Event) -> None:
        self.calls.row(event.tenant, event.call_id, answered_at=event_time(event))

    def call_ended(self, event: Event) -> None:
        body = event.call_ended
        self.calls.row(
            event.tenant,
            event.call_id,
            ended_at=event_time(event),
            cause=event.cause,
            counted_as=_counted_as(event.cause, Outcome.FAILED),
            ended_by=party_name(body.by),
            sip_status=body.sip_status,
            duration_ms=body.duration_ms,
            **media_values(body.media),
        )
        if body.by == CallEnded.PARTY_PLATFORM:  # who was hung up on in a queue did not give up
            self.calls.row(event.tenant, event.call_id, abandoned=False)

    def flow_started(self, event: Event) -> None:
        body = event.flow_started
        self.calls.row(event.tenant, event.call_id, flow=body.flow, flow_version=body.version)

    def node_entered(self, event: Event) -> None:
        body = event.node_entered
        self.steps.row(
            event.tenant,
            event.call_id,
            body.step,
            flow=body.flow,
            flow_node=body.flow_node,
            kind=body.kind,
            entered_at=event_time(event),
        )

    def node_left(self, event: Event) -> None:
        body = event.node_left
        self.steps.row(
            event.tenant,
            event.call_id,
            body.step,
            flow=body.flow,
            flow_node=body.flow_node,
            kind=body.kind,
            left_at=event_time(event),
            exit=body.exit,
            digits=body.digits,
            duration_ms=body.duration_ms,
            note=body.note,
        )

    def call_queued(self, event: Event) -> None:
        body = event.call_queued
        self.calls.row(event.tenant, event.call_id, queue=body.queue)
        self.visits.row(
            event.tenant,
            body.ticket,
            call_id=event.call_id,
            queue=body.queue,
            priority=body.priority,
            position=body.position,
            queued_at=event_time(event),
        )

    def call_dequeued(self, event: Event) -> None:
        body = event.call_dequeued
        self.calls.add(event.tenant, event.call_id, wait_ms=body.waited_ms)
        if body.outcome == "abandoned":
            self.calls.row(event.tenant, event.call_id, abandoned=True)
        if body.ticket:
            self.visits.row(
                event.tenant,
                body.ticket,
                call_id=event.call_id,
                queue=body.queue,
                dequeued_at=event_time(event),
                outcome=body.outcome,
                waited_ms=body.waited_ms,
                agent=body.agent or None,
            )

    def leg_started(self, event: Event) -> None:
        body = event.leg_started
        self.legs.row(
            event.tenant,
            body.leg,
            call_id=event.call_id,
            target=body.target,
            purpose=body.purpose,
            started_at=event_time(event),
        )

    def leg_ended(self, event: Event) -> None:
        body = event.leg_ended
        self.calls.add(event.tenant, event.call_id, ring_ms=body.ring_ms)
        self.legs.row(
            event.tenant,
            body.leg,
            call_id=event.call_id,
            ended_at=event_time(event),
            sip_status=body.sip_status,
            cause=event.cause,
            ring_ms=body.ring_ms,
            talk_ms=body.talk_ms,
            **media_values(body.media),
        )

    def agent_offered(self, event: Event) -> None:
        self.calls.add(event.tenant, event.call_id, offers=1)

    def bridged(self, event: Event) -> None:
        body = event.bridged
        if body.agent:  # after a transfer nobody is named, and the agent stays on record
            self.calls.row(event.tenant, event.call_id, agent=body.agent)
        self.conversations.row(
            event.tenant,
            body.leg,
            call_id=event.call_id,
            agent=body.agent,
            bridged_at=event_time(event),
        )

    def unbridged(self, event: Event) -> None:
        body = event.unbridged
        self.calls.add(event.tenant, event.call_id, talk_ms=body.talk_ms)
        self.conversations.row(
            event.tenant,
            body.leg,
            call_id=event.call_id,
            agent=body.agent,
            unbridged_at=event_time(event),
            talk_ms=body.talk_ms,
            ended_by=party_name(body.by),
        )

    def recording_started(self, event: Event) -> None:
        recording = event.recording_started.recording
        self.calls.row(event.tenant, event.call_id, recording_id=recording)

    def rated(self, event: Event) -> None:
        self.calls.row(event.tenant, event.call_id, rating=event.rated.score)


_HANDLERS: dict[str, Callable[[_Batch, Event], None]] = {
    "call_arrived": _Batch.call_arrived,
    "call_refused": _Batch.call_refused,
    "call_answered": _Batch.call_answered,
    "call_ended": _Batch.call_ended,
    "flow_started": _Batch.flow_started,
    "node_entered": _Batch.node_entered,
    "node_left": _Batch.node_left,
    "call_queued": _Batch.call_queued,
    "call_dequeued": _Batch.call_dequeued,
    "leg_started": _Batch.leg_started,
    "leg_ended": _Batch.leg_ended,
    "agent_offered": _Batch.agent_offered,
    "bridged": _Batch.bridged,
    "unbridged": _Batch.unbridged,
    "recording_started": _Batch.recording_started,
    "rated": _Batch.rated,
}


def _counted_as(cause: str, otherwise: Outcome) -> str:
    try:
        return CATALOGUE[Code(cause)].outcome
    except ValueError:
        return otherwise  # a node of a later version may know more causes
