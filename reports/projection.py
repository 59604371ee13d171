"""How events become rows: each projection of a batch gathers changes, and writes each row once."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from cti95598.events.v1.events_pb2 import CallEnded, Event, MediaFigures

SqlValue = str | int | float | bool | None
"""Of a row; times are microseconds since 1970."""

KindAndEvent = tuple[str, Event]
"""An event, and its kind as the oneof of its body names it, looked up once; "" if it is unknown."""

T = TypeVar("T")

MOST_AT_ONCE = 200
"""Events or rows that are handled in one go: calls must not wait for them longer than 1 or 2 ms."""


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

    `values` replace what was there, `sums` are added to it. Columns map to their SQL types.

    Rows go to PostgreSQL as one text of JSON: most have few of the columns, and whoever encodes
    an array a column pays for all of them, at the expense of the loop that has calls to serve.
    """

    def __init__(
        self,
        name: str,
        *,
        keys: Mapping[str, str],
        values: Mapping[str, str],
        sums: Mapping[str, str] | None = None,
    ) -> None:
        self.keys = tuple(keys)
        sums = sums or {}
        types = {**keys, **values, **sums}
        given = ", ".join(
            f"{column} {'bigint' if kind == _TIME else kind}" for column, kind in types.items()
        )
        taken = [
            f"COALESCE({column}, 0)"
            if column in sums
            else _time_sql(column)
            if kind == _TIME
            else column
            for column, kind in types.items()
        ]
        updates = [f"{c} = COALESCE(EXCLUDED.{c}, {name}.{c})" for c in values]
        updates += [f"{c} = {name}.{c} + EXCLUDED.{c}" for c in sums]
        # Names and types above are literals of this package, not input.
        self.sql = (
            f"INSERT INTO {name} ({', '.join(types)}) "  # noqa: S608
            f"SELECT {', '.join(taken)} FROM json_to_recordset($1) AS given ({given}) "
            f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(updates)}"
        )


_TIME = "timestamptz"


def _time_sql(column: str) -> str:
    return f"'epoch'::timestamptz + {column} * interval '1 microsecond'"


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
            row[name] = int(row.get(name) or 0) + amount

    async def write(self, connection: SqlConnection) -> None:
        """Write all rows, some in a statement."""
        async for rows in in_turns(list(self._rows.values())):
            await connection.execute(self._table.sql, json.dumps(rows, ensure_ascii=False))


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
