"""Events taken in from elsewhere, remembered so that a second delivery does nothing."""

from collections.abc import Collection
from datetime import datetime

import asyncpg

from storage.errors import DuplicateEvent

EventKey = tuple[str, str, str]
"""Tenant, topic and id of an event: what is taken in once."""


async def receive(
    connection: asyncpg.Connection, tenant_id: str, topic: str, event_id: str
) -> None:
    """Take an event in. Call it in the transaction that does what the event asks.

    Waits for another transaction that is taking in the same event. Errors: `DuplicateEvent`.
    """
    key = (tenant_id, topic, event_id)
    if key not in await receive_many(connection, [key]):
        raise DuplicateEvent(topic, event_id)


async def receive_many(connection: asyncpg.Connection, keys: Collection[EventKey]) -> set[EventKey]:
    """Take events in, each in the transaction that does its work; those that are new."""
    if not keys:
        return set()
    ordered = sorted(set(keys))  # in one order, so that two transactions can't deadlock
    rows = await connection.fetch(
        """INSERT INTO inbox (tenant_id, topic, event_id)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
        ON CONFLICT DO NOTHING RETURNING tenant_id, topic, event_id""",
        *(list(column) for column in zip(*ordered, strict=True)),
    )
    return {(row["tenant_id"], row["topic"], row["event_id"]) for row in rows}


async def forget(connection: asyncpg.Connection, *, before: datetime) -> int:
    """Drop what was received before a time, when it can't be delivered again; returns how many."""
    status = await connection.execute("DELETE FROM inbox WHERE receive_time < $1", before)
    return int(status.removeprefix("DELETE "))
