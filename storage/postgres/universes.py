"""Universes of market snapshots that portfolios are priced at, and who set them when."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import NotFound
from storage.postgres import closing
from storage.postgres.locks import bump_groups, lock_portfolio


@dataclass(frozen=True, slots=True)
class UniverseChange:
    """One time that the universe of a portfolio was set; versions from 1 by portfolio."""

    version: int
    author: str
    reason: str
    create_time: datetime
    approver: str = ""
    """Nobody: one person sets it."""


async def of_portfolio(connection: asyncpg.Connection, tenant_id: str, portfolio_id: str) -> str:
    """The universe of a portfolio, "" for the one without a name. Errors: `NotFound`."""
    found = await connection.fetchval(
        "SELECT universe_id FROM portfolio WHERE tenant_id = $1 AND portfolio_id = $2",
        tenant_id,
        portfolio_id,
    )
    if found is None:
        raise NotFound("portfolio", portfolio_id)
    return str(found)


async def set_universe(
    connection: asyncpg.Connection,
    tenant_id: str,
    portfolio_id: str,
    universe_id: str,
    *,
    author: str,
    reason: str,
) -> UniverseChange:
    """Price a portfolio at another universe, and tell its group. Call it in a transaction.

    Errors: `NotFound`, `FailedPrecondition` (it is closed).
    """
    locked = await lock_portfolio(connection, tenant_id, portfolio_id)
    await closing.check_open(connection, tenant_id, portfolio_id)
    if locked.group_id is not None:
        await bump_groups(connection, {(tenant_id, locked.group_id)})
    await connection.execute(
        """UPDATE portfolio
        SET universe_id = $3, version = version + 1, update_time = clock_timestamp()
        WHERE tenant_id = $1 AND portfolio_id = $2""",
        tenant_id,
        portfolio_id,
        universe_id,
    )
    return await note(
        connection, tenant_id, portfolio_id, universe_id, author=author, reason=reason
    )


async def note(
    connection: asyncpg.Connection,
    tenant_id: str,
    portfolio_id: str,
    universe_id: str,
    *,
    author: str,
    reason: str,
) -> UniverseChange:
    """Say who set the universe of a portfolio that is held, and why."""
    row = await connection.fetchrow(
        """INSERT INTO portfolio_universe (tenant_id, portfolio_id, version, universe_id, author,
            reason)
        SELECT $1, $2, coalesce(max(version), 0) + 1, $3, $4, $5
        FROM portfolio_universe WHERE tenant_id = $1 AND portfolio_id = $2
        RETURNING version, author, reason, create_time""",
        tenant_id,
        portfolio_id,
        universe_id,
        author,
        reason,
    )
    return UniverseChange(**row)
