"""Observations of market conditions: added in the order of their times, never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import FailedPrecondition
from storage.postgres.rows import missing_reference

_COLUMNS = "condition_id, as_of_time, value, category"


@dataclass(frozen=True, slots=True)
class StoredCondition:
    """One observation: a number, or a category where `value` is None."""

    condition_id: str
    as_of_time: datetime
    value: float | None
    category: str


async def put(connection: asyncpg.Connection, tenant_id: str, seen: StoredCondition) -> bool:
    """Add an observation; False where it is there already. Call it in a transaction.

    Errors: `FailedPrecondition` (OUT_OF_ORDER), `NotFound` (the tenant).
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
        f"condition/{tenant_id}/{seen.condition_id}",
    )
    newest = (await newest_of(connection, tenant_id, [seen.condition_id], 1)).get(
        seen.condition_id, []
    )
    if newest and newest[-1] == seen:
        return False
    if newest and newest[-1].as_of_time >= seen.as_of_time:
        why = f"its newest observation is of {newest[-1].as_of_time:%Y-%m-%dT%H:%M:%S.%fZ}"
        raise FailedPrecondition("condition", seen.condition_id, why, "OUT_OF_ORDER")
    with missing_reference(tenant=tenant_id):
        await connection.execute(
            f"""INSERT INTO condition_observation (tenant_id, {_COLUMNS})
            VALUES ($1, $2, $3, $4, $5)""",
            tenant_id,
            seen.condition_id,
            seen.as_of_time,
            seen.value,
            seen.category,
        )
    return True


async def newest_of(
    connection: asyncpg.Connection, tenant_id: str, condition_ids: Sequence[str], limit: int
) -> dict[str, list[StoredCondition]]:
    """The newest observations of each condition, at most `limit` each, in the order of time."""
    rows = await connection.fetch(
        f"""SELECT o.* FROM unnest($2::text[]) AS k (wanted)
        CROSS JOIN LATERAL (
            SELECT {_COLUMNS} FROM condition_observation
            WHERE tenant_id = $1 AND condition_id = k.wanted
            ORDER BY as_of_time DESC LIMIT $3
        ) AS o ORDER BY o.condition_id, o.as_of_time""",
        tenant_id,
        list(condition_ids),
        limit,
    )
    found: dict[str, list[StoredCondition]] = {}
    for row in rows:
        found.setdefault(row["condition_id"], []).append(StoredCondition(**row))
    return found


async def newest(
    connection: asyncpg.Connection, tenant_id: str, limit: int
) -> list[StoredCondition]:
    """The newest observation of each condition, by id."""
    rows = await connection.fetch(
        f"""SELECT DISTINCT ON (condition_id) {_COLUMNS} FROM condition_observation
        WHERE tenant_id = $1 ORDER BY condition_id, as_of_time DESC LIMIT $2""",
        tenant_id,
        limit,
    )
    return [StoredCondition(**row) for row in rows]
