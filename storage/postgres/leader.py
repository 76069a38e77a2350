"""Of all processes on a database one does a work at a time; the others stand by."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg

from storage.postgres.pool import PoolOptions, connect
from storage.postgres.tenancy import ALL_TENANTS, has_wall, session_sql

WEBHOOKS = 0x57454248
"""First half of the lock's key; the second is 0."""
_ASK_S = 2.0


@contextlib.asynccontextmanager
async def leading(dsn: str, lock: int, options: PoolOptions) -> AsyncIterator[asyncpg.Connection]:
    """A connection that holds the lock, once no other does, for the work of all tenants.

    Whoever leads uses it again and again: when it fails, another may lead.

    Errors: `Unavailable` where the database can't be reached.
    """
    connection = await connect(dsn, options)
    try:
        if await has_wall(connection):
            await connection.execute(session_sql(ALL_TENANTS, has_wall=True))
        while True:
            if await connection.fetchval("SELECT pg_try_advisory_lock($1, 0)", lock):
                break
            await asyncio.sleep(_ASK_S)
        yield connection
    finally:
        connection.terminate()
