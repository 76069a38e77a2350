"""Stress scenarios: versions of an id, the highest in force."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.postgres.rows import missing_reference


@dataclass(frozen=True, slots=True)
class StoredScenario:
    """One version of a scenario, in the caller's encoding."""

    scenario_id: str
    version: int
    create_time: datetime
    payload: bytes


async def put(
    connection: asyncpg.Connection,
    tenant_id: str,
    scenario_id: str,
    *,
    author: str,
    retired: bool,
    payload: bytes,
) -> StoredScenario:
    """Add the next version, or find it where it is the same as the last. Call it in a transaction.

    Errors: `NotFound` (the tenant).
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"stress/{tenant_id}/{scenario_id}"
    )
    last = await connection.fetchrow(
        """SELECT scenario_id, version, create_time, payload FROM stress_scenario
        WHERE tenant_id = $1 AND scenario_id = $2 ORDER BY version DESC LIMIT 1""",
        tenant_id,
        scenario_id,
    )
    if last is not None and last["payload"] == payload:
        return StoredScenario(**last)
    with missing_reference(tenant=tenant_id):
        row = await connection.fetchrow(
            """INSERT INTO stress_scenario
                (tenant_id, scenario_id, version, author, retired, payload)
            VALUES ($1, $2, $3, $4, $5, $6)
            RETURNING scenario_id, version, create_time, payload""",
            tenant_id,
            scenario_id,
            1 if last is None else last["version"] + 1,
            author,
            retired,
            payload,
        )
    return StoredScenario(**row)


async def list_in_force(
    connection: asyncpg.Connection, tenant_id: str, *, after: str = "", limit: int = 1000
) -> list[StoredScenario]:
    """The highest version of each id that is not retired, by id, those after `after`."""
    rows = await connection.fetch(
        """SELECT scenario_id, version, create_time, payload FROM (
            SELECT DISTINCT ON (scenario_id) * FROM stress_scenario
            WHERE tenant_id = $1 AND scenario_id > $2
            ORDER BY scenario_id, version DESC) AS latest
        WHERE NOT retired ORDER BY scenario_id LIMIT $3""",
        tenant_id,
        after,
        limit,
    )
    return [StoredScenario(**row) for row in rows]


async def in_force(
    connection: asyncpg.Connection, tenant_id: str, scenario_ids: Sequence[str]
) -> list[StoredScenario]:
    """The highest version of each of these ids that is not retired, by id."""
    rows = await connection.fetch(
        """SELECT scenario_id, version, create_time, payload FROM (
            SELECT DISTINCT ON (scenario_id) * FROM stress_scenario
            WHERE tenant_id = $1 AND scenario_id = ANY($2)
            ORDER BY scenario_id, version DESC) AS latest
        WHERE NOT retired ORDER BY scenario_id""",
        tenant_id,
        list(scenario_ids),
    )
    return [StoredScenario(**row) for row in rows]
