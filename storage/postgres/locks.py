"""Row locks in the one order that can't deadlock: groups, portfolios, each sorted.

Before them comes the lock of the tenant (`tenant_lock.py`), where one is needed.

Whoever changes what a portfolio owns, reserves or may do holds the lock of its row until commit;
its event numbers are handed out under the same lock, so they run in commit order without a gap.
"""

from collections.abc import Collection
from dataclasses import dataclass

import asyncpg

from storage.errors import NotFound, VersionConflict

Key = tuple[str, str]  # (tenant_id, group_id or portfolio_id)


@dataclass(frozen=True, slots=True)
class LockedPortfolio:
    """What a locked row said; `group_id` is None outside any group."""

    group_id: str | None
    version: int
    event_sequence: int
    tenant_version: int


async def lock_groups(connection: asyncpg.Connection, keys: Collection[Key]) -> dict[Key, int]:
    """Lock groups and return their versions; a group that isn't there is left out."""
    if not keys:
        return {}
    rows = await connection.fetch(
        """SELECT tenant_id, group_id, version FROM portfolio_group
        WHERE (tenant_id, group_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
        ORDER BY tenant_id, group_id FOR NO KEY UPDATE""",
        *_columns(keys),
    )
    return {(row["tenant_id"], row["group_id"]): row["version"] for row in rows}


async def lock_portfolios(
    connection: asyncpg.Connection, keys: Collection[Key]
) -> dict[Key, LockedPortfolio]:
    """Lock portfolios; what isn't there is left out.

    Call `lock_groups` before, for portfolios whose group matters. `tenant_version` is as of the
    statement's begin; it can't change before the end of a transaction that holds `tenant_lock`.
    """
    rows = await connection.fetch(
        """WITH p AS MATERIALIZED (
            SELECT tenant_id, portfolio_id, group_id, version, event_sequence FROM portfolio
            WHERE (tenant_id, portfolio_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
            ORDER BY tenant_id, portfolio_id FOR NO KEY UPDATE
        )
        SELECT p.*, t.version AS tenant_version FROM p JOIN tenant AS t USING (tenant_id)""",
        *_columns(keys),
    )
    return {
        (row["tenant_id"], row["portfolio_id"]): LockedPortfolio(
            row["group_id"], row["version"], row["event_sequence"], row["tenant_version"]
        )
        for row in rows
    }


async def lock_portfolio(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, *, joins: str | None = None
) -> LockedPortfolio:
    """Lock one portfolio, its group whichever that is, and the group it is about to join.

    Errors: `NotFound`; `VersionConflict` if it changed groups just now.
    """
    key = (tenant_id, portfolio_id)
    group_id = await connection.fetchval(
        "SELECT group_id FROM portfolio WHERE tenant_id = $1 AND portfolio_id = $2", *key
    )
    groups = {(tenant_id, id) for id in (group_id, joins) if id is not None}
    found = await lock_groups(connection, groups)
    if joins is not None and (tenant_id, joins) not in found:
        raise NotFound("group", joins)
    locked = (await lock_portfolios(connection, [key])).get(key)
    if locked is None:
        raise NotFound("portfolio", portfolio_id)
    if locked.group_id != group_id:
        raise VersionConflict("portfolio", portfolio_id, locked.version - 1, locked.version)
    return locked


async def bump_groups(connection: asyncpg.Connection, keys: Collection[Key]) -> None:
    """Raise the version of groups that are locked."""
    if keys:
        await connection.execute(
            """UPDATE portfolio_group SET version = version + 1
            WHERE (tenant_id, group_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))""",
            *_columns(keys),
        )


def _columns(keys: Collection[Key]) -> tuple[list[str], list[str]]:
    return [tenant_id for tenant_id, _ in keys], [id for _, id in keys]
