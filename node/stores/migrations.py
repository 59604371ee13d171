"""Migrations: numbered SQL files of a room, each applied once, in order, in a transaction."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import structlog

log = structlog.get_logger(__name__)

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_version (
    room text NOT NULL,
    version integer NOT NULL,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (room, version)
)
"""
_LOCK = 95598


async def migrate(connection: asyncpg.Connection, rooms: dict[str, Path]) -> None:
    """Bring the schema of every room up to date; nodes that start together take turns."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        for room, directory in rooms.items():
            done = await connection.fetchval(
                "SELECT COALESCE(max(version), 0) FROM schema_version WHERE room = $1", room
            )
            for path in sorted(directory.glob("[0-9]*.sql")):
                version = int(path.name.partition("_")[0])
                if version <= done:
                    continue
                log.info("migrating the database", room=room, file=path.name)
                await connection.execute(path.read_text(encoding="utf-8"))
                await connection.execute(
                    "INSERT INTO schema_version (room, version, name) VALUES ($1, $2, $3)",
                    room,
                    version,
                    path.stem,
                )
