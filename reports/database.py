"""What goes wrong with a database connection, whichever way asyncpg says it."""

from __future__ import annotations

import asyncpg

DATABASE_ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that broke between two steps of the protocol
)
