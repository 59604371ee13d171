"""The index of recordings, from events: what was recorded, where it lies, and its hash."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Protocol

from cti95598.events.v1.events_pb2 import Event

_STARTED = """
INSERT INTO recording (tenant, recording_id, call_id, agent, path, started_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant, recording_id) DO UPDATE SET started_at = EXCLUDED.started_at
"""
_FINISHED = """
INSERT INTO recording (tenant, recording_id, call_id, agent, path, finished_at, sha256, size_bytes,
    duration_ms, channels, sample_rate_hz, dropped_frames, left_party, right_party, cause,
    pauses_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (tenant, recording_id) DO UPDATE SET path = EXCLUDED.path,
    finished_at = EXCLUDED.finished_at, sha256 = EXCLUDED.sha256,
    size_bytes = EXCLUDED.size_bytes, duration_ms = EXCLUDED.duration_ms,
    channels = EXCLUDED.channels, sample_rate_hz = EXCLUDED.sample_rate_hz,
    dropped_frames = EXCLUDED.dropped_frames, left_party = EXCLUDED.left_party,
    right_party = EXCLUDED.right_party, cause = EXCLUDED.cause, pauses_ms = EXCLUDED.pauses_ms
"""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class SqlConnection(Protocol):
    """What the index needs of a database connection (asyncpg's)."""

    async def executemany(self, command: str, args: Sequence[Sequence[Any]]) -> None:
        """Run one statement for many rows."""


class RecordingIndex:
    """Projection of recordings; it gets every event once."""

    async def apply(self, connection: SqlConnection, events: Sequence[tuple[str, Event]]) -> None:
        """Write the rows that the events, given with their kinds, change."""
        started = [_started(event) for kind, event in events if kind == "recording_started"]
        finished = [_finished(event) for kind, event in events if kind == "recording_finished"]
        if started:
            await connection.executemany(_STARTED, started)
        if finished:
            await connection.executemany(_FINISHED, finished)


def _time(event: Event) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=event.time_unix_us)


def _started(event: Event) -> tuple[Any, ...]:
    body = event.recording_started
    return (event.tenant, body.recording, event.call_id, body.agent, body.path, _time(event))


def _finished(event: Event) -> tuple[Any, ...]:
    body = event.recording_finished
    return (
        event.tenant,
        body.recording,
        event.call_id,
        body.agent,
        body.path,
        _time(event),
        body.sha256,
        body.size_bytes,
        body.duration_ms,
        body.channels,
        body.sample_rate_hz,
        body.dropped_frames,
        body.left_party,
        body.right_party,
        event.cause,
        [[pause.start_ms, pause.end_ms] for pause in body.pauses],
    )
