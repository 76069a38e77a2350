"""Portfolios: what is owned, in cash and in holdings, and the version a decision is tied to."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import AlreadyExists, NotFound, VersionConflict
from storage.postgres import closing
from storage.postgres.locks import bump_groups, lock_portfolio
from storage.postgres.rows import (
    Floats,
    Strings,
    check_lengths,
    floats,
    from_json,
    missing_reference,
    to_json,
)

COLUMNS = """portfolio_id, group_id, display_name, base_currency, cash, version, event_sequence,
    as_of_time, create_time, update_time, equity_accepted, cash_balances, time_zone, universe_id"""


@dataclass(frozen=True, slots=True)
class Portfolio:
    """`cash` is in `base_currency`; `as_of_time` is when cash and holdings were last confirmed.

    `version` changes with every decision, fill, expiry and change of state, limits or details.
    `event_sequence` numbers the portfolio's events without a gap, 0 before the first.
    `cash_balances` are accounts in other currencies, a JSON object of amounts by code (`balances`).
    `equity_accepted` is that of the last recorded decision, None where any will be accepted next.
    `universe_id` is that of the market snapshots it is priced at, "" for the one without a name.
    """

    portfolio_id: str
    group_id: str | None
    display_name: str
    base_currency: str
    cash: float
    version: int
    event_sequence: int
    as_of_time: datetime
    create_time: datetime
    update_time: datetime
    equity_accepted: float | None
    cash_balances: str
    time_zone: str
    universe_id: str

    @property
    def balances(self) -> dict[str, float]:
        """Cash by currency, of those that aren't the base currency."""
        return {code: float(amount) for code, amount in from_json(self.cash_balances).items()}


@dataclass(frozen=True, eq=False, slots=True)
class Holdings:
    """Columns sorted by instrument. Quantities are units (not lots), negative when short.

    They are stored as decimals with 12 places, so that fills add up exactly for ever, and read as
    float64, the nearest to the decimal. `average_price` is per unit in the instrument's currency.
    """

    instrument_id: Strings
    quantity: Floats
    average_price: Floats

    def __post_init__(self) -> None:
        n = len(self.instrument_id)
        check_lengths(n, quantity=self.quantity, average_price=self.average_price)


NO_HOLDINGS = Holdings((), floats(None), floats(None))


async def create(
    connection: asyncpg.Connection,
    tenant_id: str,
    portfolio_id: str,
    *,
    display_name: str,
    base_currency: str,
    as_of_time: datetime,
    cash: float = 0.0,
    holdings: Holdings = NO_HOLDINGS,
    group_id: str | None = None,
    balances: Mapping[str, float] | None = None,
    time_zone: str = "UTC",
    universe_id: str = "",
    create_time: datetime | None = None,
) -> Portfolio:
    """A new portfolio at version 1, created now or at `create_time`. Call it in a transaction.

    Errors: `AlreadyExists`, `NotFound` (the tenant or the group).
    """
    with missing_reference(tenant=tenant_id, portfolio_group=group_id):
        row = await connection.fetchrow(
            f"""INSERT INTO portfolio (tenant_id, portfolio_id, group_id, display_name,
                base_currency, cash, as_of_time, cash_balances, time_zone, universe_id, create_time)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, coalesce($11, now()))
            ON CONFLICT DO NOTHING RETURNING {COLUMNS}""",
            tenant_id,
            portfolio_id,
            group_id,
            display_name,
            base_currency,
            cash,
            as_of_time,
            to_json(balances or {}),
            time_zone,
            universe_id,
            create_time,
        )
    if row is None:
        raise AlreadyExists("portfolio", portfolio_id)
    await _insert_holdings(connection, tenant_id, portfolio_id, holdings)
    return Portfolio(**row)


async def get(connection: asyncpg.Connection, tenant_id: str, portfolio_id: str) -> Portfolio:
    """Errors: `NotFound`."""
    row = await connection.fetchrow(
        f"SELECT {COLUMNS} FROM portfolio WHERE tenant_id = $1 AND portfolio_id = $2",
        tenant_id,
        portfolio_id,
    )
    if row is None:
        raise NotFound("portfolio", portfolio_id)
    return Portfolio(**row)


async def list_page(
    connection: asyncpg.Connection,
    tenant_id: str,
    *,
    after: str = "",
    limit: int = 100,
    group_id: str | None = None,
    granted: Strings | None = None,
) -> list[Portfolio]:
    """Portfolios by id, of a group if one is named, those after the id `after`, at most `limit`.

    granted: patterns of LIKE, one of which an id matches; None: all ids.
    """
    rows = await connection.fetch(
        f"""SELECT {COLUMNS} FROM portfolio WHERE tenant_id = $1 AND portfolio_id > $2
            AND ($4::text IS NULL OR group_id = $4)
            AND ($5::text[] IS NULL OR portfolio_id LIKE ANY ($5))
        ORDER BY portfolio_id LIMIT $3""",
        tenant_id,
        after,
        limit,
        group_id,
        granted,
    )
    return [Portfolio(**row) for row in rows]


async def base_currencies(
    connection: asyncpg.Connection, tenant_id: str, group_id: str | None = None
) -> set[str]:
    """Base currencies of the tenant's portfolios, or of those in a group."""
    rows = await connection.fetch(
        """SELECT DISTINCT base_currency FROM portfolio
        WHERE tenant_id = $1 AND ($2::text IS NULL OR group_id = $2)""",
        tenant_id,
        group_id,
    )
    return {row["base_currency"] for row in rows}


async def holdings(connection: asyncpg.Connection, tenant_id: str, portfolio_id: str) -> Holdings:
    """What the portfolio holds; nothing if there is no such portfolio."""
    row = await connection.fetchrow(
        """SELECT array_agg(instrument_id ORDER BY instrument_id) AS instrument_id,
            array_agg(quantity::float8 ORDER BY instrument_id) AS quantity,
            array_agg(average_price ORDER BY instrument_id) AS average_price
        FROM holding WHERE tenant_id = $1 AND portfolio_id = $2""",
        tenant_id,
        portfolio_id,
    )
    return Holdings(
        tuple(row["instrument_id"] or ()), floats(row["quantity"]), floats(row["average_price"])
    )


async def replace_state(
    connection: asyncpg.Connection,
    tenant_id: str,
    portfolio_id: str,
    *,
    cash: float,
    holdings: Holdings,
    as_of_time: datetime,
    expected_version: int | None = None,
    any_equity: bool = False,
    balances: Mapping[str, float] | None = None,
) -> Portfolio:
    """Set cash and holdings to what the books say. Call it in a transaction.

    Reservations stay: what they hold and what is now owned both count. Without `expected_version`
    the new state wins whatever was there. any_equity: forget the equity that was accepted.

    Errors: `NotFound`, `VersionConflict`.
    """
    await _lock(connection, tenant_id, portfolio_id, expected_version)
    row = await connection.fetchrow(
        f"""UPDATE portfolio
        SET cash = $3, as_of_time = $4, version = version + 1, update_time = clock_timestamp(),
            equity_accepted = CASE WHEN $5 THEN NULL ELSE equity_accepted END, cash_balances = $6
        WHERE tenant_id = $1 AND portfolio_id = $2 RETURNING {COLUMNS}""",
        tenant_id,
        portfolio_id,
        cash,
        as_of_time,
        any_equity,
        to_json(balances or {}),
    )
    await connection.execute(
        "DELETE FROM holding WHERE tenant_id = $1 AND portfolio_id = $2", tenant_id, portfolio_id
    )
    await _insert_holdings(connection, tenant_id, portfolio_id, holdings)
    return Portfolio(**row)


async def update_details(
    connection: asyncpg.Connection,
    tenant_id: str,
    portfolio_id: str,
    *,
    display_name: str,
    group_id: str | None,
    expected_version: int | None = None,
) -> Portfolio:
    """Rename the portfolio or move it to another group (None: to none). Call it in a transaction.

    Errors: `NotFound` (the portfolio or the group), `VersionConflict`.
    """
    await _lock(connection, tenant_id, portfolio_id, expected_version, joins=group_id)
    row = await connection.fetchrow(
        f"""UPDATE portfolio SET display_name = $3, group_id = $4, version = version + 1,
            update_time = clock_timestamp()
        WHERE tenant_id = $1 AND portfolio_id = $2 RETURNING {COLUMNS}""",
        tenant_id,
        portfolio_id,
        display_name,
        group_id,
    )
    return Portfolio(**row)


async def set_time_zone(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, time_zone: str
) -> None:
    """Set the zone of a portfolio whose version the caller raises."""
    await connection.execute(
        "UPDATE portfolio SET time_zone = $3 WHERE tenant_id = $1 AND portfolio_id = $2",
        tenant_id,
        portfolio_id,
        time_zone,
    )


async def scale_equity(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, factor: float
) -> None:
    """Multiply the accepted equity, if there is one, by what a payment did to equity."""
    await connection.execute(
        """UPDATE portfolio SET equity_accepted = equity_accepted * $3
        WHERE tenant_id = $1 AND portfolio_id = $2""",
        tenant_id,
        portfolio_id,
        factor,
    )


async def set_equity_accepted(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, equity: float | None
) -> None:
    """Set the accepted equity, None to forget it; the version stays."""
    await connection.execute(
        "UPDATE portfolio SET equity_accepted = $3 WHERE tenant_id = $1 AND portfolio_id = $2",
        tenant_id,
        portfolio_id,
        equity,
    )


async def forget_equity(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str
) -> float | None:
    """Forget the equity that was accepted, and return it. Call it in a transaction.

    Errors: `NotFound`.
    """
    await _lock(connection, tenant_id, portfolio_id, None)
    before = await connection.fetchval(
        "SELECT equity_accepted FROM portfolio WHERE tenant_id = $1 AND portfolio_id = $2",
        tenant_id,
        portfolio_id,
    )
    await connection.execute(
        """UPDATE portfolio SET equity_accepted = NULL, version = version + 1,
            update_time = clock_timestamp()
        WHERE tenant_id = $1 AND portfolio_id = $2""",
        tenant_id,
        portfolio_id,
    )
    return None if before is None else float(before)


async def _insert_holdings(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, holdings: Holdings
) -> None:
    if not holdings.instrument_id:
        return
    await connection.execute(
        """INSERT INTO holding (tenant_id, portfolio_id, instrument_id, quantity, average_price)
        SELECT $1, $2, h.instrument_id, h.quantity::numeric, h.average_price
        FROM unnest($3::text[], $4::float8[], $5::float8[])
            AS h (instrument_id, quantity, average_price)
        WHERE h.quantity <> 0""",
        tenant_id,
        portfolio_id,
        holdings.instrument_id,
        holdings.quantity.tolist(),
        holdings.average_price.tolist(),
    )


async def _lock(
    connection: asyncpg.Connection,
    tenant_id: str,
    portfolio_id: str,
    expected: int | None,
    *,
    joins: str | None = None,
) -> None:
    """Lock a portfolio that is open, check its version, and tell its group and the one it joins."""
    locked = await lock_portfolio(connection, tenant_id, portfolio_id, joins=joins)
    await closing.check_open(connection, tenant_id, portfolio_id)
    if expected is not None and expected != locked.version:
        raise VersionConflict("portfolio", portfolio_id, expected, locked.version)
    groups = {(tenant_id, id) for id in (locked.group_id, joins) if id is not None}
    await bump_groups(connection, groups)
