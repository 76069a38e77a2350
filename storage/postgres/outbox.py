"""Events committed together with what they tell, waiting to be published.

Each portfolio's events are numbered 1, 2, 3, … in the order of its commits, without a gap; events
of the tenant as a whole form a stream of their own, under the empty portfolio id. All events of a
stream fall in one of 16 shards, and one relay at a time works on a shard, so their order survives.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from storage.errors import NotFound
from storage.identifiers import uuid7

N_SHARDS = 16
_SHARD_LOCK = 0x4F5554  # first half of the advisory lock; the second is the shard

_COLUMNS = """position, event_id, tenant_id, topic, portfolio_id, portfolio_sequence, type,
    schema_version, payload, trace_id, create_time"""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be written. `build` makes the payload from the number the event was given."""

    topic: str
    type: str
    build: Callable[[int], bytes]
    schema_version: int = 1
    trace_id: str = ""
    event_id: UUID = field(default_factory=uuid7)


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """An event as committed. `position` orders the events of one portfolio, nothing else."""

    position: int
    event_id: UUID
    tenant_id: str
    topic: str
    portfolio_id: str
    portfolio_sequence: int
    type: str
    schema_version: int
    payload: bytes
    trace_id: str
    create_time: datetime


Numbered = tuple[str, str, int, NewEvent]  # (tenant_id, portfolio_id, portfolio_sequence, event)


async def append(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, events: Sequence[NewEvent]
) -> None:
    """Number events and write them. Call it in the transaction that makes them true.

    Locks the stream until commit; `portfolio_id` is '' for the tenant's own. Errors: `NotFound`.
    """
    if not events:
        return
    if portfolio_id:
        last = await connection.fetchval(
            """UPDATE portfolio SET event_sequence = event_sequence + $3
            WHERE tenant_id = $1 AND portfolio_id = $2 RETURNING event_sequence""",
            tenant_id,
            portfolio_id,
            len(events),
        )
    else:
        last = await connection.fetchval(
            """UPDATE tenant_stream SET event_sequence = event_sequence + $2
            WHERE tenant_id = $1 RETURNING event_sequence""",
            tenant_id,
            len(events),
        )
    if last is None:
        raise NotFound("portfolio" if portfolio_id else "tenant", portfolio_id or tenant_id)
    first = last - len(events) + 1
    numbered = [(tenant_id, portfolio_id, first + i, event) for i, event in enumerate(events)]
    await connection.execute(f"{insert_sql(1)} ORDER BY e.number", *columns_of(numbered))


def insert_sql(first: int) -> str:
    """The insertion of the events `e` whose `columns_of` are the parameters from `first` on."""
    columns = """tenant_id, portfolio_id, portfolio_sequence, event_id, topic, type,
            schema_version, payload, trace_id"""
    types = ("text", "text", "int8", "uuid", "text", "text", "int4", "bytea", "text")
    parameters = ", ".join(f"${first + i}::{type}[]" for i, type in enumerate(types))
    return f"""INSERT INTO outbox ({columns})
        SELECT {columns} FROM unnest({parameters}) WITH ORDINALITY AS e ({columns}, number)"""


def columns_of(events: Sequence[Numbered]) -> tuple[list[Any], ...]:
    """The columns of events that have their numbers, payloads built."""
    return (
        [tenant_id for tenant_id, _, _, _ in events],
        [portfolio_id for _, portfolio_id, _, _ in events],
        [sequence for _, _, sequence, _ in events],
        [event.event_id for _, _, _, event in events],
        [event.topic for _, _, _, event in events],
        [event.type for _, _, _, event in events],
        [event.schema_version for _, _, _, event in events],
        [event.build(sequence) for _, _, sequence, event in events],
        [event.trace_id for _, _, _, event in events],
    )


async def claim_shard(connection: asyncpg.Connection, shard: int) -> bool:
    """Take a shard for as long as this connection lives; False if another relay has it.

    Use a connection outside the pool: the claim belongs to its session.
    """
    return bool(
        await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", _SHARD_LOCK, shard)
    )


async def release_shard(connection: asyncpg.Connection, shard: int) -> bool:
    """Give a shard back; False if it was not held."""
    return bool(await connection.fetchval("SELECT pg_advisory_unlock($1, $2)", _SHARD_LOCK, shard))


async def oldest(
    connection: asyncpg.Connection,
    shard: int,
    *,
    limit: int = 100,
    except_topics: Collection[str] = (),
) -> list[OutboxEvent]:
    """The events at the head of a shard, each portfolio's in the order of their numbers.

    Those of `except_topics` are passed over; "tenant/topic" means that topic of one tenant.

    Whoever holds the shard publishes them in this order and then deletes those acknowledged. Always
    ask for the head, never for "after the last position": a transaction still open now may commit
    an event of another portfolio with a lower one.
    """
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM outbox WHERE shard = $1 AND topic <> ALL($3::text[])
            AND tenant_id || '/' || topic <> ALL($3::text[])
        ORDER BY position LIMIT $2""",
        shard,
        limit,
        list(except_topics),
    )
    return [OutboxEvent(**row) for row in rows]


async def delete(connection: asyncpg.Connection, events: Sequence[OutboxEvent]) -> None:
    """Remove events the broker has acknowledged."""
    await connection.execute(
        """DELETE FROM outbox
        WHERE (tenant_id, event_id) IN (SELECT * FROM unnest($1::text[], $2::uuid[]))""",
        [event.tenant_id for event in events],
        [event.event_id for event in events],
    )


async def oldest_age_s(connection: asyncpg.Connection) -> float:
    """Seconds the oldest event has waited, by the server's clock; 0.0 if none waits."""
    age = await connection.fetchval(
        """SELECT extract(epoch FROM clock_timestamp() - create_time)::float8
        FROM outbox ORDER BY create_time LIMIT 1"""
    )
    return max(0.0, float(age or 0.0))


async def depth(connection: asyncpg.Connection) -> int:
    """How many events wait."""
    return int(await connection.fetchval("SELECT count(*) FROM outbox"))
