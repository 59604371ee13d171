"""How events become rows: each projection of a batch gathers changes, and writes each row once."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from cti95598.events.v1.events_pb2 import CallEnded, Event, MediaFigures

SqlValue = str | int | float | bool | dt.datetime | None

KindAndEvent = tuple[str, Event]
"""An event, and its kind as the oneof of its body names it, looked up once; "" if it is unknown."""

T = TypeVar("T")

MOST_AT_ONCE = 50
"""Events or rows that are handled in one go. A call needs some eight turns of the loop to reach an
agent's phone, and each may wait for one of these."""


class SqlConnection(Protocol):
    """What a projection needs of a database connection (asyncpg's)."""

    async def execute(self, query: str, *args: object) -> str:
        """Run one statement."""

    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        columns: Sequence[str],
        records: Iterable[Sequence[object]] | AsyncIterable[Sequence[object]],
    ) -> str:
        """Add rows; none of them may be there."""

    async def fetch(self, query: str, *args: object) -> list[Mapping[str, Any]]:
        """Run one query."""


class Projection(Protocol):
    """Turns events into rows of its tables.

    It gets every event once, in the order of its tenant's stream, inside of a transaction.
    """

    async def apply(self, connection: SqlConnection, events: Sequence[KindAndEvent]) -> None:
        """Write what the events mean."""


async def in_turns(items: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    """Yield slices of a long list; between two of them the loop has a turn for others."""
    for start in range(0, len(items), MOST_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + MOST_AT_ONCE]


class Table:
    """A table whose rows are built up by several events: what comes later is merged in.

    `values` replace what was there, `sums` are added to it.

    Rows go to PostgreSQL as an array of the table's own type. As JSON they cost the server a fifth
    more, as an array a column they cost the loop more, that has calls to serve.
    """

    def __init__(
        self, name: str, *, keys: Sequence[str], values: Sequence[str], sums: Sequence[str] = ()
    ) -> None:
        self.keys = tuple(keys)
        columns = (*keys, *values, *sums)
        taken = [f"COALESCE({one}, 0)" if one in sums else one for one in columns]
        updates = [f"{one} = COALESCE(EXCLUDED.{one}, {name}.{one})" for one in values]
        updates += [f"{one} = {name}.{one} + EXCLUDED.{one}" for one in sums]
        # The names above are literals of this package, not input.
        self.sql = (
            f"INSERT INTO {name} ({', '.join(columns)}) "  # noqa: S608
            f"SELECT {', '.join(taken)} FROM unnest($1::{name}[]) "
            f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(updates)}"
        )


class Changes:
    """Changes of one batch to one table, merged a row."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rows: dict[tuple[str | int, ...], dict[str, SqlValue]] = {}

    def row(self, *key: str | int, **values: SqlValue) -> None:
        """Set columns of the row with this key; None leaves what there was."""
        row = self._rows.get(key)
        if row is None:
            values.update(zip(self._table.keys, key, strict=True))
            self._rows[key] = values
        else:
            row.update(values)

    def add(self, *key: str | int, **amounts: int) -> None:
        """Add to columns of the row with this key."""
        self.row(*key)
        row = self._rows[key]
        for name, amount in amounts.items():
            before = row.get(name)
            row[name] = before + amount if isinstance(before, int) else amount

    async def write(self, connection: SqlConnection) -> None:
        """Write all rows, some in a statement."""
        async for rows in in_turns(list(self._rows.values())):
            await connection.execute(self._table.sql, rows)


class Appended:
    """New rows of one batch for a table that has no others to compare them with."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._rows: list[dict[str, object]] = []

    def row(self, **values: object) -> dict[str, object]:
        """Add a row, which may be changed until it is written; all have the same columns."""
        self._rows.append(values)
        return values

    async def write(self, connection: SqlConnection) -> None:
        """Write all rows."""
        if self._rows:
            await connection.copy_records_to_table(
                self._table, columns=list(self._rows[0]), records=self._values()
            )

    async def _values(self) -> AsyncIterator[tuple[object, ...]]:
        async for rows in in_turns(self._rows):
            for row in rows:
                yield tuple(row.values())


MEDIA_COLUMNS = (
    "packets_sent",
    "packets_received",
    "packets_lost",
    "packets_invalid",
    "jitter_ms",
    "packets_late",
    "packets_duplicate",
    "codec",
    "round_trip_ms",
    "mos",
    "worst_mos",
    "far_packets_lost",
    "far_jitter_ms",
)

_MAY_BE_UNKNOWN = {"round_trip_ms", "mos", "worst_mos", "far_packets_lost", "far_jitter_ms"}


def media_values(figures: MediaFigures) -> dict[str, SqlValue]:
    """Return the engine's figures as columns, without those that nobody knows."""
    known = {field.name for field, _ in figures.ListFields()}
    return {
        name: getattr(figures, name)
        for name in MEDIA_COLUMNS
        if name not in _MAY_BE_UNKNOWN or name in known
    }


def event_time(event: Event) -> dt.datetime:
    """Return when the event happened."""
    return _EPOCH + _timedelta(0, 0, event.time_unix_us)  # names cost half as much again


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_timedelta = dt.timedelta


def party_name(party: CallEnded.Party.ValueType) -> str | None:
    """Return `caller` or `platform`, None when nobody said."""
    if party == CallEnded.PARTY_UNSPECIFIED:
        return None
    return CallEnded.Party.Name(party).removeprefix("PARTY_").lower()
