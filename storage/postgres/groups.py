"""Portfolio groups: firms whose limits are shared by their member portfolios."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import AlreadyExists, NotFound
from storage.postgres.rows import missing_reference

_COLUMNS = "group_id, display_name, version, create_time"


@dataclass(frozen=True, slots=True)
class Group:
    """`version` changes with each decision of a member, with membership, limits and state."""

    group_id: str
    display_name: str
    version: int
    create_time: datetime


async def create(
    connection: asyncpg.Connection, tenant_id: str, group_id: str, display_name: str
) -> Group:
    """Errors: `AlreadyExists`, `NotFound` (the tenant)."""
    with missing_reference(tenant=tenant_id):
        row = await connection.fetchrow(
            f"""INSERT INTO portfolio_group (tenant_id, group_id, display_name)
            VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING {_COLUMNS}""",
            tenant_id,
            group_id,
            display_name,
        )
    if row is None:
        raise AlreadyExists("group", group_id)
    return Group(**row)


async def ensure(connection: asyncpg.Connection, tenant_id: str, group_id: str) -> None:
    """The group is there, made under its id if it wasn't. Errors: `NotFound` (the tenant)."""
    with missing_reference(tenant=tenant_id):
        await connection.execute(
            """INSERT INTO portfolio_group (tenant_id, group_id, display_name)
            VALUES ($1, $2, $2) ON CONFLICT DO NOTHING""",
            tenant_id,
            group_id,
        )


async def get(connection: asyncpg.Connection, tenant_id: str, group_id: str) -> Group:
    """Errors: `NotFound`."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM portfolio_group WHERE tenant_id = $1 AND group_id = $2",
        tenant_id,
        group_id,
    )
    if row is None:
        raise NotFound("group", group_id)
    return Group(**row)


async def list_page(
    connection: asyncpg.Connection, tenant_id: str, *, after: str = "", limit: int = 100
) -> list[Group]:
    """Groups by id, those after the id `after`, at most `limit`."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM portfolio_group WHERE tenant_id = $1 AND group_id > $2
        ORDER BY group_id LIMIT $3""",
        tenant_id,
        after,
        limit,
    )
    return [Group(**row) for row in rows]


async def members(connection: asyncpg.Connection, tenant_id: str, group_id: str) -> list[str]:
    """The ids of the portfolios in the group, sorted; empty if there is no such group."""
    rows = await connection.fetch(
        """SELECT portfolio_id FROM portfolio WHERE tenant_id = $1 AND group_id = $2
        ORDER BY portfolio_id""",
        tenant_id,
        group_id,
    )
    return [row["portfolio_id"] for row in rows]
