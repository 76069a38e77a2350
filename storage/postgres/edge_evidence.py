"""How far decisions are analyzed, by portfolio and strategy, and what their bets say so far."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

OVERLAP = timedelta(minutes=1)
"""Decisions are looked for from so long before the last look: a commit may come after it."""
_COLUMNS = """portfolio_id, strategy_id, next_time, begin_time, decisions, bets, log_gone, log_edge,
    reduced, update_time"""


@dataclass(frozen=True, slots=True)
class StoredEvidence:
    """Of a portfolio and a strategy, "" for none.

    next_time: decisions made from then on are not analyzed yet. begin_time: when the first that
    counts was made. log_gone, log_edge: logarithms of e-values. reduced: "", or what was reduced
    because the edge is gone, "PORTFOLIO" or "STRATEGY".
    """

    portfolio_id: str
    strategy_id: str
    next_time: datetime
    begin_time: datetime | None
    decisions: int
    bets: int
    log_gone: float
    log_edge: float
    reduced: str
    update_time: datetime


async def claim(connection: asyncpg.Connection, tenant_id: str, interval: timedelta) -> bool:
    """Whether nobody has looked at a tenant for so long; then it is looked for decisions now.

    The first look begins with the decisions that come after it.
    """
    is_first = await connection.fetchval(
        """INSERT INTO edge_evidence_look (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING
        RETURNING true""",
        tenant_id,
    )
    if is_first:
        return True
    since: datetime | None = await connection.fetchval(
        """UPDATE edge_evidence_look AS l SET look_time = clock_timestamp()
        FROM (SELECT look_time FROM edge_evidence_look WHERE tenant_id = $1 FOR UPDATE) AS last
        WHERE l.tenant_id = $1 AND last.look_time <= clock_timestamp() - $2::interval
        RETURNING last.look_time""",
        tenant_id,
        interval,
    )
    if since is None:
        return False
    await connection.execute(
        """INSERT INTO edge_evidence (tenant_id, portfolio_id, strategy_id, next_time)
        SELECT tenant_id, portfolio_id, strategy_id, min(create_time) FROM decision
        WHERE tenant_id = $1 AND create_time >= $2
        GROUP BY tenant_id, portfolio_id, strategy_id
        ORDER BY portfolio_id, strategy_id
        ON CONFLICT (tenant_id, portfolio_id, strategy_id)
        DO UPDATE SET is_due = true, update_time = clock_timestamp()""",
        tenant_id,
        since - OVERLAP,
    )
    return True


async def due(connection: asyncpg.Connection, tenant_id: str, limit: int) -> list[StoredEvidence]:
    """Portfolios and strategies with decisions that may have an outcome, longest waiting first."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM edge_evidence WHERE tenant_id = $1 AND is_due
        ORDER BY update_time LIMIT $2""",
        tenant_id,
        limit,
    )
    return [StoredEvidence(**row) for row in rows]


async def of_portfolio(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, strategy_id: str | None
) -> list[StoredEvidence]:
    """What is known of the strategies of a portfolio, by id; strategy_id: of this one alone."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM edge_evidence
        WHERE tenant_id = $1 AND portfolio_id = $2 AND strategy_id = coalesce($3, strategy_id)
        ORDER BY strategy_id""",
        tenant_id,
        portfolio_id,
        strategy_id,
    )
    return [StoredEvidence(**row) for row in rows]


async def rest(connection: asyncpg.Connection, tenant_id: str, seen: StoredEvidence) -> None:
    """Nothing is due any more, unless something changed since it was seen."""
    await connection.execute(
        """UPDATE edge_evidence SET is_due = false, update_time = clock_timestamp()
        WHERE tenant_id = $1 AND portfolio_id = $2 AND strategy_id = $3 AND update_time = $4""",
        tenant_id,
        seen.portfolio_id,
        seen.strategy_id,
        seen.update_time,
    )


async def advance(
    connection: asyncpg.Connection, tenant_id: str, seen: StoredEvidence, now: StoredEvidence
) -> StoredEvidence | None:
    """Puts `now` in the place of what was seen; None where another server has been faster.

    What is due stays due; `now.update_time` is not read.
    """
    row = await connection.fetchrow(
        f"""UPDATE edge_evidence SET next_time = $5, begin_time = $6, decisions = $7, bets = $8,
            log_gone = $9, log_edge = $10, reduced = $11, update_time = clock_timestamp()
        WHERE tenant_id = $1 AND portfolio_id = $2 AND strategy_id = $3 AND next_time = $4
        RETURNING {_COLUMNS}""",
        tenant_id,
        seen.portfolio_id,
        seen.strategy_id,
        seen.next_time,
        now.next_time,
        now.begin_time,
        now.decisions,
        now.bets,
        now.log_gone,
        now.log_edge,
        now.reduced,
    )
    return None if row is None else StoredEvidence(**row)
