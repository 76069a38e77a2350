"""Events taken in from elsewhere, remembered so that a second delivery does nothing."""

from datetime import datetime

import asyncpg


async def receive(
    connection: asyncpg.Connection, tenant_id: str, topic: str, event_id: str
) -> bool:
    """Whether this event is new. Call it in the transaction that does what the event asks.

    Waits for another transaction that is taking in the same event.
    """
    row = await connection.fetchrow(
        """INSERT INTO inbox (tenant_id, topic, event_id) VALUES ($1, $2, $3)
        ON CONFLICT DO NOTHING RETURNING true""",
        tenant_id,
        topic,
        event_id,
    )
    return row is not None


async def forget(connection: asyncpg.Connection, *, before: datetime) -> int:
    """Drop what was received before a time, when it can't be delivered again; returns how many."""
    status = await connection.execute("DELETE FROM inbox WHERE receive_time < $1", before)
    return int(status.removeprefix("DELETE "))
