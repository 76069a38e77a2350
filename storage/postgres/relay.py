"""What relays ask of the database besides the events: who shares the work, and what is under way.

All of it goes over the one connection a relay keeps for itself, because its claims on shards are
locks of that session and end with it.
"""

from collections.abc import Collection, Sequence

import asyncpg

from storage.postgres.outbox import OutboxEvent

_MEMBER_LOCK = 0x52454C  # first half of the advisory lock every relay holds shared; second half 0

_COLUMNS = """o.position, o.event_id, o.tenant_id, o.topic, o.portfolio_id, o.portfolio_sequence,
    o.type, o.schema_version, o.payload, o.trace_id, o.create_time"""


async def enrol(connection: asyncpg.Connection) -> None:
    """Be counted by `n_relays` for as long as this connection lives.

    Commits of this session no longer wait for the disk. A relay deletes what the broker has and
    notes what it is sending; if a failing server forgets the last of that, events go out again
    under the numbers the note has, or at worst twice. None is lost.
    """
    await connection.execute("SET synchronous_commit = off")
    await connection.fetchval("SELECT pg_advisory_lock_shared($1, 0)", _MEMBER_LOCK)


async def n_relays(connection: asyncpg.Connection) -> int:
    """How many relays are enrolled at this database, this one included."""
    return int(
        await connection.fetchval(
            """SELECT count(DISTINCT pid) FROM pg_locks
            WHERE locktype = 'advisory' AND classid = $1::int8 AND objid = 0 AND granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())""",
            _MEMBER_LOCK,
        )
    )


async def waiting(connection: asyncpg.Connection, shards: Collection[int]) -> list[int]:
    """Those of `shards` in which an event waits."""
    rows = await connection.fetch(
        """SELECT s.shard FROM unnest($1::int2[]) AS s (shard)
        WHERE EXISTS (SELECT FROM outbox AS o WHERE o.shard = s.shard)""",
        list(shards),
    )
    return [row["shard"] for row in rows]


async def name_epoch(connection: asyncpg.Connection, shard: int) -> int:
    """Which of a shard's producer names is in use, counted from 0."""
    epoch = await connection.fetchval("SELECT epoch FROM outbox_batch WHERE shard = $1", shard)
    return int(epoch or 0)


async def next_name(connection: asyncpg.Connection, shard: int) -> int:
    """Give up a shard's producer name for the next, and the noted batch with it; its epoch.

    On disk when this returns: a successor that went back to the old name would take sequence ids
    of one name for those of another.
    """
    async with connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit = on")
        epoch = await connection.fetchval(
            """INSERT INTO outbox_batch (shard, position, sequence_id, epoch)
            VALUES ($1, '{}', '{}', 1) ON CONFLICT (shard) DO UPDATE
            SET position = '{}', sequence_id = '{}', epoch = outbox_batch.epoch + 1
            RETURNING epoch""",
            shard,
        )
    return int(epoch)


async def save_batch(
    connection: asyncpg.Connection, shard: int, batch: Sequence[tuple[OutboxEvent, int]]
) -> None:
    """Note what is about to be sent for a shard, event by event with its sequence id."""
    await connection.execute(
        """INSERT INTO outbox_batch (shard, position, sequence_id) VALUES ($1, $2, $3)
        ON CONFLICT (shard) DO UPDATE
        SET position = excluded.position, sequence_id = excluded.sequence_id""",
        shard,
        [event.position for event, _ in batch],
        [sequence_id for _, sequence_id in batch],
    )


async def load_batch(connection: asyncpg.Connection, shard: int) -> list[tuple[OutboxEvent, int]]:
    """What of the noted batch is not acknowledged yet, in its order; empty if all is."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS}, b.sequence_id
        FROM outbox_batch, unnest(position, sequence_id) WITH ORDINALITY
            AS b (position, sequence_id, number)
        JOIN outbox AS o ON o.shard = $1 AND o.position = b.position
        WHERE outbox_batch.shard = $1
        ORDER BY b.number""",
        shard,
    )
    return [
        (OutboxEvent(**{k: v for k, v in row.items() if k != "sequence_id"}), row["sequence_id"])
        for row in rows
    ]
