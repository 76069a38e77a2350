"""Tenants: whose data is whose. Nothing of one tenant is visible through another's id."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import NotFound
from storage.postgres.pool import Database
from storage.postgres.tenancy import ALL_TENANTS


@dataclass(frozen=True, slots=True)
class Tenant:
    """`version` changes with the trading state and limits of the tenant and its strategies."""

    tenant_id: str
    display_name: str
    version: int
    create_time: datetime


async def ensure(connection: asyncpg.Connection, tenant_id: str, display_name: str = "") -> Tenant:
    """The tenant, made if it isn't there; an existing one keeps its name."""
    await connection.execute(
        """WITH made AS (
            INSERT INTO tenant (tenant_id, display_name) VALUES ($1, $2)
            ON CONFLICT DO NOTHING RETURNING tenant_id
        ) INSERT INTO tenant_stream (tenant_id) SELECT tenant_id FROM made""",
        tenant_id,
        display_name or tenant_id,
    )
    return await get(connection, tenant_id)


async def get(connection: asyncpg.Connection, tenant_id: str) -> Tenant:
    """The tenant. Errors: `NotFound`."""
    row = await connection.fetchrow(
        "SELECT tenant_id, display_name, version, create_time FROM tenant WHERE tenant_id = $1",
        tenant_id,
    )
    if row is None:
        raise NotFound("tenant", tenant_id)
    return Tenant(**row)


async def list_ids(database: Database, *, deadline_s: float) -> list[str]:
    """All there are."""
    async with database.connection(ALL_TENANTS, deadline_s=deadline_s) as connection:
        rows = await connection.fetch("SELECT tenant_id FROM tenant ORDER BY tenant_id")
    return [row["tenant_id"] for row in rows]
