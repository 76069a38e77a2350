"""Limits that portfolios are beyond: one row an episode, from the first time it was found.

Rows change under the lock of the portfolio and together with a version that decisions compare
(`commit.py`), so that what was read with a state is what is there when it is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

BreachKey = tuple[int, str]
"""Kind and name of the limit."""


@dataclass(frozen=True, slots=True)
class BreachChange:
    """Episodes that begin and that are over."""

    begun: tuple[BreachKey, ...] = ()
    ended: tuple[BreachKey, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.begun or self.ended)


NO_CHANGE = BreachChange()


async def apply(
    connection: asyncpg.Connection,
    changes: Sequence[tuple[str, str, BreachChange]],
) -> None:
    """Write changes, each with its tenant and portfolio. Call it with the portfolios locked."""
    begun = [(t, p, *key) for t, p, change in changes for key in change.begun]
    ended = [(t, p, *key) for t, p, change in changes for key in change.ended]
    if ended:
        await connection.execute(
            """DELETE FROM limit_breach WHERE (tenant_id, portfolio_id, limit_kind, limit_name)
            IN (SELECT * FROM unnest($1::text[], $2::text[], $3::int2[], $4::text[]))""",
            *_columns(ended),
        )
    if begun:
        await connection.execute(
            """INSERT INTO limit_breach (tenant_id, portfolio_id, limit_kind, limit_name)
            SELECT * FROM unnest($1::text[], $2::text[], $3::int2[], $4::text[])""",
            *_columns(begun),
        )


async def begin_times(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str
) -> dict[BreachKey, datetime]:
    """When each episode that is not over was found."""
    rows = await connection.fetch(
        """SELECT limit_kind, limit_name, begin_time FROM limit_breach
        WHERE tenant_id = $1 AND portfolio_id = $2""",
        tenant_id,
        portfolio_id,
    )
    return {(row["limit_kind"], row["limit_name"]): row["begin_time"] for row in rows}


async def portfolios_with_positions(
    connection: asyncpg.Connection, tenant_id: str, group_id: str | None, limit: int
) -> list[str]:
    """Portfolios of a tenant, or of a group, that hold or have reserved something, by id."""
    rows = await connection.fetch(
        """SELECT portfolio_id FROM portfolio AS p
        WHERE tenant_id = $1 AND ($2::text IS NULL OR group_id = $2) AND (
            EXISTS (SELECT FROM holding AS h
                WHERE h.tenant_id = p.tenant_id AND h.portfolio_id = p.portfolio_id)
            OR EXISTS (SELECT FROM reservation AS r WHERE r.tenant_id = p.tenant_id
                AND r.portfolio_id = p.portfolio_id AND r.state = 'OPEN')
            OR EXISTS (SELECT FROM limit_breach AS b
                WHERE b.tenant_id = p.tenant_id AND b.portfolio_id = p.portfolio_id))
        ORDER BY portfolio_id LIMIT $3""",
        tenant_id,
        group_id,
        limit,
    )
    return [row["portfolio_id"] for row in rows]


def _columns(rows: Sequence[tuple[str, str, int, str]]) -> list[list[str | int]]:
    return [list(column) for column in zip(*rows, strict=True)]
