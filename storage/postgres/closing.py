"""Closing a portfolio: for good, and only where nothing is held, reserved or owed any more."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from storage.errors import FailedPrecondition, NotFound
from storage.postgres.rows import from_json


async def close(
    connection: asyncpg.Connection,
    tenant_id: str,
    portfolio_id: str,
    *,
    close_time: datetime | None = None,
) -> datetime:
    """Mark a portfolio as closed and return when; one that is closed already keeps its time.

    close_time: None for now.

    Call it in a transaction that holds the portfolio's row, so that nothing is reserved meanwhile.

    Errors: `NotFound`, `FailedPrecondition` (something is held, reserved or owed).
    """
    row = await connection.fetchrow(
        """SELECT close_time, cash, base_currency, cash_balances,
            (SELECT count(*) FROM holding AS h
             WHERE h.tenant_id = p.tenant_id AND h.portfolio_id = p.portfolio_id) AS n_held,
            (SELECT count(*) FROM reservation AS r WHERE r.tenant_id = p.tenant_id
             AND r.portfolio_id = p.portfolio_id AND r.state = 'OPEN') AS n_reserved
        FROM portfolio AS p WHERE tenant_id = $1 AND portfolio_id = $2 FOR NO KEY UPDATE""",
        tenant_id,
        portfolio_id,
    )
    if row is None:
        raise NotFound("portfolio", portfolio_id)
    if row["close_time"] is not None:
        return row["close_time"]
    owed = [code for code, amount in from_json(row["cash_balances"]).items() if float(amount) < 0.0]
    owed += [row["base_currency"]] * (row["cash"] < 0.0)
    if owed:
        why = f"{owed[0]} is owed; it can be closed once nothing is"
        raise FailedPrecondition("portfolio", portfolio_id, why, "PORTFOLIO_IN_USE")
    counts = {"instruments are held": row["n_held"], "decisions are open": row["n_reserved"]}
    for words, count in counts.items():
        if count:
            why = f"{count} {words}; it can be closed once there are none"
            raise FailedPrecondition("portfolio", portfolio_id, why, "PORTFOLIO_IN_USE")
    return await connection.fetchval(
        """UPDATE portfolio SET close_time = coalesce($3, clock_timestamp()),
            update_time = clock_timestamp()
        WHERE tenant_id = $1 AND portfolio_id = $2 RETURNING close_time""",
        tenant_id,
        portfolio_id,
        close_time,
    )


async def close_times(
    connection: asyncpg.Connection, tenant_id: str, portfolio_ids: Sequence[str]
) -> dict[str, datetime]:
    """When those of the portfolios that are closed were closed."""
    rows = await connection.fetch(
        """SELECT portfolio_id, close_time FROM portfolio
        WHERE tenant_id = $1 AND portfolio_id = ANY($2::text[]) AND close_time IS NOT NULL""",
        tenant_id,
        portfolio_ids,
    )
    return {row["portfolio_id"]: row["close_time"] for row in rows}


async def check_open(connection: asyncpg.Connection, tenant_id: str, portfolio_id: str) -> None:
    """Errors: `FailedPrecondition` where the portfolio is closed."""
    if await close_times(connection, tenant_id, [portfolio_id]):
        why = "is closed for good"
        raise FailedPrecondition("portfolio", portfolio_id, why, "PORTFOLIO_CLOSED")
