"""The highest equity a portfolio has had: raised by decisions, scaled by flows, set anew by people.

Whoever changes a mark holds the portfolio's row, and raises its version.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg


@dataclass(frozen=True, slots=True)
class Rebase:
    """A mark set anew, versions from 1 by portfolio; equities in the portfolio's base currency."""

    version: int
    equity_before: float
    equity_after: float
    author: str
    reason: str
    create_time: datetime


async def get(connection: asyncpg.Connection, tenant_id: str, portfolio_id: str) -> float | None:
    """The mark, None where there is none yet."""
    return await connection.fetchval(
        "SELECT equity FROM high_water_mark WHERE tenant_id = $1 AND portfolio_id = $2",
        tenant_id,
        portfolio_id,
    )


async def raise_many(
    connection: asyncpg.Connection, marks: Sequence[tuple[str, str, float]]
) -> None:
    """Raise the marks of (tenant, portfolio) to these equities; none is lowered."""
    await connection.execute(
        """INSERT INTO high_water_mark AS m (tenant_id, portfolio_id, equity)
        SELECT * FROM unnest($1::text[], $2::text[], $3::float8[])
        ON CONFLICT (tenant_id, portfolio_id) DO UPDATE
        SET equity = greatest(m.equity, excluded.equity), update_time = clock_timestamp()""",
        *map(list, zip(*marks, strict=True)),
    )


async def set_to(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, equity: float
) -> None:
    """Set the mark, higher or lower than one that is there."""
    await connection.execute(
        """INSERT INTO high_water_mark (tenant_id, portfolio_id, equity) VALUES ($1, $2, $3)
        ON CONFLICT (tenant_id, portfolio_id) DO UPDATE
        SET equity = excluded.equity, update_time = clock_timestamp()""",
        tenant_id,
        portfolio_id,
        equity,
    )


async def scale(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, factor: float
) -> None:
    """Multiply the mark, if there is one, by what a payment did to equity; factor > 0."""
    await connection.execute(
        """UPDATE high_water_mark SET equity = equity * $3, update_time = clock_timestamp()
        WHERE tenant_id = $1 AND portfolio_id = $2""",
        tenant_id,
        portfolio_id,
        factor,
    )


async def rebase(
    connection: asyncpg.Connection,
    tenant_id: str,
    portfolio_id: str,
    equity: float,
    *,
    author: str,
    reason: str,
) -> Rebase | None:
    """Set the mark, of a portfolio whose row is held, to `equity`; None where there is none."""
    before = await get(connection, tenant_id, portfolio_id)
    if before is None:
        return None
    await connection.execute(
        """UPDATE high_water_mark SET equity = $3, update_time = clock_timestamp()
        WHERE tenant_id = $1 AND portfolio_id = $2""",
        tenant_id,
        portfolio_id,
        equity,
    )
    row = await connection.fetchrow(
        """INSERT INTO high_water_mark_rebase (tenant_id, portfolio_id, version, equity_before,
            equity_after, author, reason)
        SELECT $1, $2, coalesce(max(version), 0) + 1, $3, $4, $5, $6
        FROM high_water_mark_rebase WHERE tenant_id = $1 AND portfolio_id = $2
        RETURNING version, equity_before, equity_after, author, reason, create_time""",
        tenant_id,
        portfolio_id,
        before,
        equity,
        author,
        reason,
    )
    return Rebase(**row)


async def rebases(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, limit: int
) -> list[Rebase]:
    """The newest, newest first."""
    rows = await connection.fetch(
        """SELECT version, equity_before, equity_after, author, reason, create_time
        FROM high_water_mark_rebase WHERE tenant_id = $1 AND portfolio_id = $2
        ORDER BY version DESC LIMIT $3""",
        tenant_id,
        portfolio_id,
        limit,
    )
    return [Rebase(**row) for row in rows]
