"""Everything about portfolios that a sizing starts from, read in one statement.

One statement sees one state of the database, so holdings, reservations and versions fit together;
`commit` compares the versions again under lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import asyncpg

from storage.errors import NotFound
from storage.postgres import parameters
from storage.postgres.breaches import BreachKey
from storage.postgres.parameters import VERSIONS_SQL
from storage.postgres.portfolios import COLUMNS, Holdings, Portfolio
from storage.postgres.reservations import OPEN_TOTALS_SQL, OpenTotals, totals_of
from storage.postgres.rows import floats
from storage.postgres.trading_state import TradingState, strictest

_STATE = """(SELECT state FROM trading_state AS s WHERE s.tenant_id = p.tenant_id
    AND s.scope_kind = '{kind}' AND s.scope_id = {id} ORDER BY s.version DESC LIMIT 1)"""

_SNAPSHOTS = f"""
    SELECT {", ".join(f"p.{name.strip()}" for name in COLUMNS.split(","))},
        t.version AS tenant_version, g.version AS group_version, held.*, reserved.*,
        ARRAY(SELECT limit_kind || ' ' || limit_name FROM limit_breach AS b
            WHERE b.tenant_id = p.tenant_id AND b.portfolio_id = p.portfolio_id) AS breaches,
        {_STATE.format(kind="TENANT", id="''")} AS tenant_state,
        {_STATE.format(kind="GROUP", id="p.group_id")} AS group_state,
        {_STATE.format(kind="PORTFOLIO", id="p.portfolio_id")} AS portfolio_state
    FROM portfolio AS p
    JOIN tenant AS t USING (tenant_id)
    LEFT JOIN portfolio_group AS g USING (tenant_id, group_id)
    CROSS JOIN LATERAL (
        SELECT array_agg(instrument_id ORDER BY instrument_id) AS held_instrument_id,
            array_agg(quantity::float8 ORDER BY instrument_id) AS quantity,
            array_agg(average_price ORDER BY instrument_id) AS average_price
        FROM holding AS h
        WHERE h.tenant_id = p.tenant_id AND h.portfolio_id = p.portfolio_id
    ) AS held
    CROSS JOIN LATERAL (
        {OPEN_TOTALS_SQL.replace("$1", "p.tenant_id").replace("$2", "p.portfolio_id")}
    ) AS reserved
    WHERE p.tenant_id = $1 AND p.portfolio_id = ANY($2::text[])"""

_VERSIONS = f"""
    SELECT k.number, p.version, t.version AS tenant_version, g.version AS group_version,
        {VERSIONS_SQL.format(time="$4")} AS parameters
    FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY
        AS k (tenant_id, portfolio_id, strategy_id, number)
    JOIN portfolio AS p USING (tenant_id, portfolio_id)
    JOIN tenant AS t USING (tenant_id)
    LEFT JOIN portfolio_group AS g USING (tenant_id, group_id)"""


class Versions(NamedTuple):
    """What a state was read at: it is as it was as long as these are. None: not in a group."""

    portfolio: int
    tenant: int
    group: int | None
    parameters: parameters.Versions


@dataclass(frozen=True, eq=False, slots=True)
class PortfolioSnapshot:
    """A portfolio with what it holds and has reserved, at the versions a commit compares.

    `trading_state` is the strictest of tenant, group and portfolio; strategies have their own.
    `group_version` is None outside a group.
    """

    portfolio: Portfolio
    holdings: Holdings
    reserved: OpenTotals
    trading_state: TradingState
    tenant_version: int
    group_version: int | None
    breaches: frozenset[BreachKey]
    """Limits the portfolio is known to be beyond."""


async def read(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str
) -> PortfolioSnapshot:
    """The state of one portfolio. Errors: `NotFound`."""
    return (await read_many(connection, tenant_id, [portfolio_id]))[0]


async def versions(
    connection: asyncpg.Connection, keys: Sequence[tuple[str, str, str]], time: datetime
) -> dict[tuple[str, str, str], Versions]:
    """What is in force at `time`, by (tenant, portfolio, strategy); those not there left out."""
    rows = await connection.fetch(_VERSIONS, *map(list, zip(*keys, strict=True)), time)
    return {
        keys[row["number"] - 1]: Versions(
            row["version"], row["tenant_version"], row["group_version"], tuple(row["parameters"])
        )
        for row in rows
    }


async def read_many(
    connection: asyncpg.Connection, tenant_id: str, portfolio_ids: Sequence[str]
) -> list[PortfolioSnapshot]:
    """The states of portfolios at one moment, in the order asked for. Errors: `NotFound`."""
    rows = await connection.fetch(_SNAPSHOTS, tenant_id, portfolio_ids)
    by_id = {row["portfolio_id"]: row for row in rows}
    for portfolio_id in portfolio_ids:
        if portfolio_id not in by_id:
            raise NotFound("portfolio", portfolio_id)
    return [_snapshot(by_id[portfolio_id]) for portfolio_id in portfolio_ids]


def _snapshot(row: asyncpg.Record) -> PortfolioSnapshot:
    states = (row["tenant_state"], row["group_state"], row["portfolio_state"])
    return PortfolioSnapshot(
        portfolio=Portfolio(*(row[name] for name in Portfolio.__slots__)),
        holdings=Holdings(
            tuple(row["held_instrument_id"] or ()),
            floats(row["quantity"]),
            floats(row["average_price"]),
        ),
        reserved=totals_of(row),
        trading_state=strictest(TradingState(state) for state in states if state is not None),
        tenant_version=row["tenant_version"],
        group_version=row["group_version"],
        breaches=frozenset(_breach(text) for text in row["breaches"]),
    )


def _breach(text: str) -> BreachKey:
    kind, _, name = text.partition(" ")
    return int(kind), name
