"""How events become rows: each projection of a batch gathers changes, and writes each row once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cti95598.events.v1.events_pb2 import CallEnded, Event, MediaFigures

SqlValue = str | int | float | bool | dt.datetime | None


class SqlConnection(Protocol):
    """What a projection needs of a database connection (asyncpg's)."""

    async def execute(self, query: str, *args: object) -> str:
        """Run one statement."""

    async def executemany(self, command: str, args: Sequence[Sequence[Any]]) -> None:
        """Run one statement for many rows."""

    async def fetch(self, query: str, *args: object) -> list[Mapping[str, Any]]:
        """Run one query."""


class Projection(Protocol):
    """Turns events into rows of its tables.

    It gets every event once, in the order of its tenant's stream, inside of a transaction.
    """

    async def apply(self, connection: SqlConnection, events: Sequence[Event]) -> None:
        """Write what the events mean."""


class Table:
    """A table whose rows are built up by several events: what comes later is merged in.

    `values` replace what was there, `sums` are added to it. Columns map to their SQL types.
    """

    def __init__(
        self,
        name: str,
        *,
        keys: Mapping[str, str],
        values: Mapping[str, str],
        sums: Mapping[str, str] | None = None,
    ) -> None:
        self._keys = tuple(keys)
        self.sums = tuple(sums or ())
        types = {**keys, **values, **(sums or {})}
        self._columns = tuple(types)
        self._value_columns = self._columns[len(keys) :]
        arrays = ", ".join(f"${at}::{kind}[]" for at, kind in enumerate(types.values(), 1))
        updates = [f"{c} = COALESCE(EXCLUDED.{c}, {name}.{c})" for c in values]
        updates += [f"{c} = {name}.{c} + EXCLUDED.{c}" for c in self.sums]
        columns, key_columns = ", ".join(types), ", ".join(keys)
        # Names and types above are literals of this package, not input.
        self.sql = (
            f"INSERT INTO {name} ({columns}) SELECT * FROM unnest({arrays}) "  # noqa: S608
            f"ON CONFLICT ({key_columns}) DO UPDATE SET {', '.join(updates)}"
        )

    def arrays(self, rows: Mapping[tuple[str, ...], Mapping[str, SqlValue]]) -> list[list[Any]]:
        """Return the rows as one array a column."""
        columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
        for name in self._value_columns:
            empty = 0 if name in self.sums else None
            columns.append([row.get(name, empty) for row in rows.values()])
        return columns


class Changes:
    """Changes of one batch to one table, merged a row."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rows: dict[tuple[Any, ...], dict[str, SqlValue]] = {}

    def row(self, *key: str | int, **values: SqlValue) -> None:
        """Set columns of the row with this key."""
        self._rows.setdefault(key, {}).update(values)

    def add(self, *key: str | int, **amounts: int) -> None:
        """Add to columns of the row with this key."""
        row = self._rows.setdefault(key, {})
        for name, amount in amounts.items():
            row[name] = int(row.get(name) or 0) + amount  # type: ignore[arg-type]

    async def write(self, connection: SqlConnection) -> None:
        """Write all rows in one statement."""
        if self._rows:
            await connection.execute(self._table.sql, *self._table.arrays(self._rows))


MEDIA_COLUMNS = {
    "packets_sent": "bigint",
    "packets_received": "bigint",
    "packets_lost": "bigint",
    "packets_invalid": "bigint",
    "jitter_ms": "float8",
    "packets_late": "bigint",
    "packets_duplicate": "bigint",
    "codec": "text",
    "round_trip_ms": "float8",
    "mos": "float8",
    "worst_mos": "float8",
    "far_packets_lost": "bigint",
    "far_jitter_ms": "float8",
}

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
    return _EPOCH + dt.timedelta(microseconds=event.time_unix_us)


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def party_name(party: CallEnded.Party.ValueType) -> str | None:
    """Return `caller` or `platform`, None when nobody said."""
    if party == CallEnded.PARTY_UNSPECIFIED:
        return None
    return CallEnded.Party.Name(party).removeprefix("PARTY_").lower()
