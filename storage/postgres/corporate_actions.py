"""Corporate actions: recorded once, and applied to what portfolios of a tenant hold and reserve."""

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from storage.errors import AlreadyExists
from storage.postgres.rows import from_json

_COLUMNS = """sequence, request_id, instrument_id, kind, effective_time, price_factor, payment,
    payload, author, reason, create_time"""


@dataclass(frozen=True, slots=True)
class StoredAction:
    """An action; `payload` in the caller's encoding. A price becomes factor x price - payment."""

    sequence: int
    request_id: UUID
    instrument_id: str
    kind: str
    effective_time: datetime
    price_factor: float
    payment: float
    payload: bytes
    author: str
    reason: str
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Holding:
    """One instrument in one portfolio; quantity 0 where it is only reserved."""

    portfolio_id: str
    group_id: str | None
    universe_id: str
    base_currency: str
    accounts: str
    """Cash by currency, a JSON object."""
    quantity: Decimal
    average_price: float


@dataclass(frozen=True, slots=True)
class OpenTrade:
    """The line of one instrument in an open reservation."""

    decision_id: UUID
    portfolio_id: str
    place: int
    """Of the line in the reservation's arrays, from 1."""
    lots: int
    lot_size: float
    price: float
    cash: float


async def put(
    connection: asyncpg.Connection,
    tenant_id: str,
    request_id: UUID,
    *,
    instrument_id: str,
    kind: str,
    effective_time: datetime,
    price_factor: float,
    payment: float,
    payload: bytes,
    author: str,
    reason: str,
) -> StoredAction:
    """Record an action. Errors: `AlreadyExists` where one of its kind and time is there."""
    row = await connection.fetchrow(
        f"""INSERT INTO corporate_action (tenant_id, request_id, instrument_id, kind,
            effective_time, price_factor, payment, payload, author, reason)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        ON CONFLICT DO NOTHING RETURNING {_COLUMNS}""",
        tenant_id,
        request_id,
        instrument_id,
        kind,
        effective_time,
        price_factor,
        payment,
        payload,
        author,
        reason,
    )
    if row is None:
        name = f"{kind.lower()} of {instrument_id} at {effective_time:%Y-%m-%dT%H:%M:%SZ}"
        raise AlreadyExists("corporate action", name)
    return StoredAction(**row)


async def after(
    connection: asyncpg.Connection, tenant_id: str, time: datetime
) -> list[StoredAction]:
    """The actions that took effect after a time, in the order of their times."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM corporate_action WHERE tenant_id = $1 AND effective_time > $2
        ORDER BY effective_time, sequence""",
        tenant_id,
        time,
    )
    return [StoredAction(**row) for row in rows]


async def list_page(
    connection: asyncpg.Connection,
    tenant_id: str,
    *,
    instrument_id: str = "",
    before: int | None = None,
    limit: int = 100,
) -> list[StoredAction]:
    """The last recorded first, those before the sequence `before`."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM corporate_action
        WHERE tenant_id = $1 AND ($2 = '' OR instrument_id = $2)
            AND ($3::int8 IS NULL OR sequence < $3)
        ORDER BY sequence DESC LIMIT $4""",
        tenant_id,
        instrument_id,
        before,
        limit,
    )
    return [StoredAction(**row) for row in rows]


async def concerned(
    connection: asyncpg.Connection, tenant_id: str, instrument_id: str
) -> list[Holding]:
    """The portfolios that hold or reserve an instrument, by id."""
    rows = await connection.fetch(
        """SELECT p.portfolio_id, p.group_id, p.universe_id, p.base_currency,
            p.cash_balances AS accounts,
            coalesce(h.quantity, 0) AS quantity, coalesce(h.average_price, 'NaN') AS average_price
        FROM portfolio AS p LEFT JOIN holding AS h
            ON h.tenant_id = p.tenant_id AND h.portfolio_id = p.portfolio_id
                AND h.instrument_id = $2
        WHERE p.tenant_id = $1 AND (h.quantity IS NOT NULL OR EXISTS (
            SELECT FROM reservation AS r WHERE r.tenant_id = p.tenant_id
                AND r.portfolio_id = p.portfolio_id AND r.state = 'OPEN'
                AND $2 = ANY (r.instrument_id)))
        ORDER BY p.portfolio_id""",
        tenant_id,
        instrument_id,
    )
    return [Holding(**row) for row in rows]


async def open_trades(
    connection: asyncpg.Connection, tenant_id: str, instrument_id: str
) -> list[OpenTrade]:
    """The open lines of an instrument, oldest decisions first."""
    rows = await connection.fetch(
        """SELECT decision_id, portfolio_id, place, trade_lots_open[place] AS lots,
            lot_size[place] AS lot_size, price[place] AS price, cash_open[place] AS cash
        FROM (
            SELECT *, array_position(instrument_id, $2) AS place FROM reservation
            WHERE tenant_id = $1 AND state = 'OPEN' AND $2 = ANY (instrument_id)
        ) AS r WHERE trade_lots_open[place] <> 0 ORDER BY create_time, decision_id""",
        tenant_id,
        instrument_id,
    )
    return [OpenTrade(**row) for row in rows]


async def set_holding(
    connection: asyncpg.Connection,
    tenant_id: str,
    portfolio_id: str,
    instrument_id: str,
    quantity: Decimal,
    average_price: float,
) -> None:
    """Put what is held of an instrument in the place of what was; nothing where it is 0."""
    if quantity == 0:
        await connection.execute(
            """DELETE FROM holding
            WHERE tenant_id = $1 AND portfolio_id = $2 AND instrument_id = $3""",
            tenant_id,
            portfolio_id,
            instrument_id,
        )
        return
    await connection.execute(
        """UPDATE holding SET quantity = $4, average_price = $5
        WHERE tenant_id = $1 AND portfolio_id = $2 AND instrument_id = $3""",
        tenant_id,
        portfolio_id,
        instrument_id,
        quantity,
        average_price,
    )


async def set_trade(connection: asyncpg.Connection, tenant_id: str, trade: OpenTrade) -> None:
    """Put an open line in the place of what it was; what has no lots left is released."""
    await connection.execute(
        """UPDATE reservation SET trade_lots_open[$3] = $4, lot_size[$3] = $5, price[$3] = $6,
            cash_open[$3] = $7, update_time = clock_timestamp()
        WHERE tenant_id = $1 AND decision_id = $2""",
        tenant_id,
        trade.decision_id,
        trade.place,
        trade.lots,
        trade.lot_size,
        trade.price,
        trade.cash,
    )
    if trade.lots == 0:
        await connection.execute(
            """UPDATE reservation SET state = 'RELEASED'
            WHERE tenant_id = $1 AND decision_id = $2 AND 0 = ALL (trade_lots_open)""",
            tenant_id,
            trade.decision_id,
        )


async def limits_with_quantity(
    connection: asyncpg.Connection, tenant_id: str, instrument_id: str
) -> list[asyncpg.Record]:
    """Scopes (kind, id) and documents of the limits in force that bound the quantity of it."""
    return list(
        await connection.fetch(
            """SELECT * FROM (
                SELECT DISTINCT ON (scope_kind, scope_id) scope_kind, scope_id, document
                FROM limit_set WHERE tenant_id = $1 ORDER BY scope_kind, scope_id, version DESC
            ) AS newest
            WHERE document->'limits'->'instruments' @> $2 AND NOT EXISTS (
                SELECT FROM portfolio AS p WHERE p.tenant_id = $1 AND p.close_time IS NOT NULL
                    AND newest.scope_kind = 'PORTFOLIO' AND p.portfolio_id = newest.scope_id)""",
            tenant_id,
            json.dumps([{"instrument_id": instrument_id}]),
        )
    )


def document_of(row: asyncpg.Record) -> dict[str, Any]:
    """The document of a row of `limits_with_quantity`."""
    return from_json(row["document"])
