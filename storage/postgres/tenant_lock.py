"""The lock between decisions and what changes for all of a tenant at once.

    every transaction that commits a decision          shared, in its first message
    a trading state or limits of the firm, a strategy  exclusive, before anything else

PostgreSQL's lock manager lets nobody past a request that waits, so an exclusive one waits for the
transactions already in and no others, however many follow. (Row locks would let it starve: those
who share a held one don't queue behind the update that waits for it.) Who holds the lock shared
reads the tenant's version afterwards, in a statement of its own, and knows it for the last.

A session that holds the lock and waits for a client that is gone would hold up a halt until the
server ends it. `exclusively` ends such sessions itself.
"""

import asyncio
import contextlib
import logging
import zlib
from collections.abc import AsyncIterator

import asyncpg

from storage.errors import Unavailable
from storage.postgres.failures import translated
from storage.postgres.pool import Database, connect

_log = logging.getLogger(__name__)

_LOCK = 0x54454E  # first half of the advisory lock; the second is of the tenant
STALLED_S = 0.15
"""A session in the way that has waited for its client for so long is ended."""

_END_STALLED = """
    WITH RECURSIVE ahead (pid) AS (
        SELECT unnest(pg_blocking_pids(pid)) FROM pg_locks
        WHERE locktype = 'advisory' AND classid = $1::int8::oid AND objid = $2::int8::oid
            AND objsubid = 2 AND mode = 'ExclusiveLock' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION
        SELECT unnest(pg_blocking_pids(pid)) FROM ahead
    )
    SELECT count(pg_terminate_backend(pid)) FROM ahead JOIN pg_stat_activity AS a USING (pid)
    WHERE a.wait_event_type = 'Client'
        AND a.state_change < clock_timestamp() - make_interval(secs => $3)"""


def shared_sql(tenant_id: str) -> str:
    """The statement that takes the tenant's lock shared."""
    return f"SELECT pg_advisory_xact_lock_shared({_LOCK}, {_key(tenant_id)})"


async def lock(connection: asyncpg.Connection, tenant_id: str) -> None:
    """Take the lock exclusively until the transaction ends. Do it before any other lock."""
    await connection.execute("SELECT pg_advisory_xact_lock($1, $2)", _LOCK, _key(tenant_id))


@contextlib.asynccontextmanager
async def exclusively(
    database: Database, tenant_id: str, *, deadline_s: float
) -> AsyncIterator[asyncpg.Connection]:
    """A transaction that holds the lock exclusively, on the connection kept for such calls.

    Waits for the lock until the deadline, not for `lock_timeout_s` only. Errors: as a transaction.
    """
    first = f"SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock({_LOCK}, {_key(tenant_id)})"
    ending = asyncio.create_task(_end_stalled(database, tenant_id), name="end stalled sessions")
    try:
        async with database.transaction(
            tenant_id, deadline_s=deadline_s, first_sql=first, is_reserved=True
        ) as connection:
            ending.cancel()
            yield connection
    finally:
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)


async def _end_stalled(database: Database, tenant_id: str) -> None:
    """Until cancelled; a connection of its own, since those of the pool may all be waiting."""
    await asyncio.sleep(STALLED_S)
    connection: asyncpg.Connection | None = None
    try:
        connection = await connect(database.dsn, database.options)
        while True:
            keys = _LOCK, _key(tenant_id) & 0xFFFFFFFF
            n_ended = await connection.fetchval(_END_STALLED, *keys, STALLED_S)
            if n_ended:
                _log.warning("%d stalled sessions ended: they were in the way", n_ended)
            await asyncio.sleep(STALLED_S / 3)
    except Exception as error:  # the call itself goes on, and has its deadline
        if not isinstance(translated(error), Unavailable):
            raise
        _log.info("cannot look for stalled sessions: %s", error)
    finally:
        if connection is not None:
            connection.terminate()


def _key(tenant_id: str) -> int:
    """A signed number of 32 bits; tenants that share one by chance wait for each other."""
    number = zlib.crc32(tenant_id.encode())
    return number - (1 << 32) if number >= 1 << 31 else number
