"""The index of recordings, from events: what was recorded, where it lies, and its hash."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Protocol

from cti95598.events.v1.events_pb2 import Event

_MOST_AT_ONCE = 200
"""Rows in a statement; calls have their turn between two."""
_OF_THE_END = (
    "finished_at", "sha256", "size_bytes", "duration_ms", "channels", "sample_rate_hz",
    "dropped_frames", "left_party", "right_party", "cause",
)  # fmt: skip
_GIVEN = ("tenant", "recording_id", "call_id", "agent", "path", "started_at", *_OF_THE_END)
# A recording's start and its end build up its row; of what both tell, the end's word counts.
_WRITE = f"""
INSERT INTO recording ({", ".join(_GIVEN)}, pauses_ms)
SELECT {", ".join(_GIVEN)}, COALESCE(pauses_ms, '{{}}') FROM unnest($1::recording[])
ON CONFLICT (tenant, recording_id) DO UPDATE SET
    started_at = COALESCE(EXCLUDED.started_at, recording.started_at),
    {", ".join(f"{one} = COALESCE(EXCLUDED.{one}, recording.{one})" for one in _OF_THE_END)},
    path = CASE WHEN EXCLUDED.finished_at IS NULL THEN recording.path ELSE EXCLUDED.path END,
    pauses_ms = CASE WHEN EXCLUDED.finished_at IS NULL THEN recording.pauses_ms
        ELSE EXCLUDED.pauses_ms END
"""  # noqa: S608 - the names above
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class SqlConnection(Protocol):
    """What the index needs of a database connection (asyncpg's)."""

    async def execute(self, query: str, *args: object) -> str:
        """Run one statement."""


class RecordingIndex:
    """Projection of recordings; it gets every event once."""

    async def apply(self, connection: SqlConnection, events: Sequence[tuple[str, Event]]) -> None:
        """Write the rows that the events, given with their kinds, change."""
        changed: dict[tuple[str, str], dict[str, object]] = {}
        for kind, event in events:
            if kind == "recording_started":
                row = _row(changed, event, event.recording_started.recording)
                for name, value in _started(event).items():
                    row.setdefault(name, value)
            elif kind == "recording_finished":
                row = _row(changed, event, event.recording_finished.recording)
                row.update(_finished(event))
        rows = list(changed.values())
        for start in range(0, len(rows), _MOST_AT_ONCE):
            await connection.execute(_WRITE, rows[start : start + _MOST_AT_ONCE])


def _row(
    changed: dict[tuple[str, str], dict[str, object]], event: Event, recording: str
) -> dict[str, object]:
    return changed.setdefault(
        (event.tenant, recording), {"tenant": event.tenant, "recording_id": recording}
    )


def _started(event: Event) -> dict[str, object]:
    body = event.recording_started
    return {
        "call_id": event.call_id,
        "agent": body.agent,
        "path": body.path,
        "started_at": _time(event),
    }


def _finished(event: Event) -> dict[str, object]:
    body = event.recording_finished
    return {
        "call_id": event.call_id,
        "agent": body.agent,
        "path": body.path,
        "finished_at": _time(event),
        "sha256": body.sha256,
        "size_bytes": body.size_bytes,
        "duration_ms": body.duration_ms,
        "channels": body.channels,
        "sample_rate_hz": body.sample_rate_hz,
        "dropped_frames": body.dropped_frames,
        "left_party": body.left_party,
        "right_party": body.right_party,
        "cause": event.cause,
        "pauses_ms": [[pause.start_ms, pause.end_ms] for pause in body.pauses],
    }


def _time(event: Event) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=event.time_unix_us)
