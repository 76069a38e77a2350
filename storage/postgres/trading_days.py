"""The trading day of portfolios under a limit on its loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import asyncpg

_COLUMNS = "day, equity_start, equity_reference, equity_last, pass_time"


@dataclass(frozen=True, slots=True)
class StoredDay:
    """The newest day of a portfolio; see `compute/money/day_loss.py`."""

    day: date
    equity_start: float
    equity_reference: float
    equity_last: float
    pass_time: datetime | None


async def get(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str
) -> StoredDay | None:
    """None before the first."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM trading_day WHERE tenant_id = $1 AND portfolio_id = $2",
        tenant_id,
        portfolio_id,
    )
    return None if row is None else StoredDay(**row)


async def put(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, stored: StoredDay
) -> None:
    """Take the place of the day that is there."""
    await connection.execute(
        f"""INSERT INTO trading_day (tenant_id, portfolio_id, {_COLUMNS})
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (tenant_id, portfolio_id) DO UPDATE SET day = excluded.day,
            equity_start = excluded.equity_start, equity_reference = excluded.equity_reference,
            equity_last = excluded.equity_last, pass_time = excluded.pass_time,
            update_time = clock_timestamp()""",
        tenant_id,
        portfolio_id,
        stored.day,
        stored.equity_start,
        stored.equity_reference,
        stored.equity_last,
        stored.pass_time,
    )


async def scale(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, factor: float
) -> None:
    """Multiply the equities of the day, if there is one, by what a payment did to equity."""
    await connection.execute(
        """UPDATE trading_day SET equity_start = equity_start * $3,
            equity_reference = equity_reference * $3, equity_last = equity_last * $3
        WHERE tenant_id = $1 AND portfolio_id = $2""",
        tenant_id,
        portfolio_id,
        factor,
    )


async def limited(
    connection: asyncpg.Connection,
    tenant_id: str,
    limit: int,
    *,
    portfolio_ids: Sequence[str] | None = None,
    universe_id: str | None = None,
) -> list[str]:
    """Portfolios that a limit on the loss of a day applies to, by id.

    Of these and of this universe; None: of all.
    """
    rows = await connection.fetch(
        """WITH bound AS (
            SELECT scope_kind, scope_id FROM (
                SELECT DISTINCT ON (scope_kind, scope_id) scope_kind, scope_id, document
                FROM limit_set WHERE tenant_id = $1 AND scope_kind <> 'STRATEGY'
                ORDER BY scope_kind, scope_id, version DESC
            ) AS newest WHERE document->'limits' ? 'day_loss_max'
        )
        SELECT portfolio_id FROM portfolio AS p
        WHERE tenant_id = $1 AND ($2::text[] IS NULL OR portfolio_id = ANY ($2))
            AND ($4::text IS NULL OR universe_id = $4) AND EXISTS (
            SELECT FROM bound WHERE scope_kind = 'TENANT'
                OR (scope_kind = 'GROUP' AND scope_id = p.group_id)
                OR (scope_kind = 'PORTFOLIO' AND scope_id = p.portfolio_id))
        ORDER BY portfolio_id LIMIT $3""",
        tenant_id,
        None if portfolio_ids is None else list(portfolio_ids),
        limit,
        universe_id,
    )
    return [row["portfolio_id"] for row in rows]
