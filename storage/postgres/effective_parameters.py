"""What was told last of the rules that move a portfolio's parameters, and when it was looked at."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

_RULES = ["schedule", "condition_rules", "drawdown_floor", "equity_floor"]
"""Fields of parameter documents that hold rules."""


@dataclass(frozen=True, slots=True)
class Told:
    """A multiplier below 1; `source` is the caller's number."""

    source: int
    name: str
    instrument_id: str
    multiplier: float


async def claim(connection: asyncpg.Connection, tenant_id: str, interval: timedelta) -> bool:
    """Whether nobody has looked at a tenant for so long; then it counts as looked at now."""
    return bool(
        await connection.fetchval(
            """INSERT INTO effective_parameters_look AS l (tenant_id) VALUES ($1)
            ON CONFLICT (tenant_id) DO UPDATE SET look_time = clock_timestamp()
            WHERE l.look_time <= clock_timestamp() - $2::interval
            RETURNING true""",
            tenant_id,
            interval,
        )
    )


async def with_rules(
    connection: asyncpg.Connection, tenant_id: str, time: datetime, limit: int
) -> list[tuple[str, str]]:
    """Portfolios with strategies ('' for none) that parameters in force give rules of their own.

    Of a strategy where its own parameters have any; those that were told something as well. By id.
    """
    rows = await connection.fetch(
        """WITH ruled AS (
            SELECT portfolio_id, strategy_id FROM (
                SELECT DISTINCT ON (portfolio_id, strategy_id) portfolio_id, strategy_id, document
                FROM parameter_set WHERE tenant_id = $1 AND effective_time <= $2
                ORDER BY portfolio_id, strategy_id, effective_time DESC, version DESC
            ) AS newest WHERE document ?| $3::text[]
        )
        SELECT portfolio_id, strategy_id FROM (
            SELECT p.portfolio_id, r.strategy_id FROM portfolio AS p JOIN ruled AS r
                ON r.portfolio_id IN (p.portfolio_id, '')
            WHERE p.tenant_id = $1 AND p.close_time IS NULL
            UNION
            SELECT e.portfolio_id, e.strategy_id FROM effective_parameters AS e
            JOIN portfolio AS p USING (tenant_id, portfolio_id)
            WHERE e.tenant_id = $1 AND p.close_time IS NULL AND e.told <> '[]'
        ) AS found ORDER BY portfolio_id, strategy_id LIMIT $4""",
        tenant_id,
        time,
        _RULES,
        limit,
    )
    return [(row["portfolio_id"], row["strategy_id"]) for row in rows]


async def told(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, strategy_id: str
) -> list[Told]:
    """What was told last; nobody else tells anything of it until the transaction ends."""
    await connection.execute(
        """INSERT INTO effective_parameters (tenant_id, portfolio_id, strategy_id)
        VALUES ($1, $2, $3) ON CONFLICT DO NOTHING""",
        tenant_id,
        portfolio_id,
        strategy_id,
    )
    found: str = await connection.fetchval(
        """SELECT told FROM effective_parameters
        WHERE tenant_id = $1 AND portfolio_id = $2 AND strategy_id = $3 FOR UPDATE""",
        tenant_id,
        portfolio_id,
        strategy_id,
    )
    rows: list[list[Any]] = json.loads(found)
    return [Told(*row) for row in rows]


async def put(
    connection: asyncpg.Connection,
    tenant_id: str,
    portfolio_id: str,
    strategy_id: str,
    items: Sequence[Told],
) -> None:
    """Take the place of what was told last."""
    rows = [[item.source, item.name, item.instrument_id, item.multiplier] for item in items]
    await connection.execute(
        """UPDATE effective_parameters SET told = $4, update_time = clock_timestamp()
        WHERE tenant_id = $1 AND portfolio_id = $2 AND strategy_id = $3""",
        tenant_id,
        portfolio_id,
        strategy_id,
        json.dumps(rows, allow_nan=False),
    )
