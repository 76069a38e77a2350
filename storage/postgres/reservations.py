"""Reservations: what decided but unfilled trades still hold of cash and limits.

An OPEN reservation counts, whatever the clock says: it stops counting when it is filled, released,
or when `expire_due` has closed it in a transaction of its own, with an event that tells.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from uuid import UUID

import asyncpg
import numpy as np

from storage.errors import NotFound
from storage.postgres import binary, outbox, portfolio_updates
from storage.postgres.portfolio_updates import PortfolioUpdate
from storage.postgres.rows import Floats, Integers, Strings, check_lengths, floats, integers

_COLUMNS = """tenant_id, decision_id, portfolio_id, strategy_id, state, expire_time, create_time,
    instrument_id, trade_lots_open, lot_size, price, cash_open"""


ENTERED = (
    "expire_time",
    "reserved_instrument_id",
    "trade_lots_open",
    "lot_size",
    "reserved_price",
    "cash_open",
)
"""Columns of a decision's entry that say what it reserves, in the order of `entered`."""


class ReservationState(StrEnum):
    """OPEN holds capital; the others say how it ended: filled, given back, or out of time."""

    OPEN = "OPEN"
    SETTLED = "SETTLED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, eq=False, slots=True)
class NewReservation:
    """One element a line. `trade_lots` is signed: bought above, sold below zero.

    `lot_size` is units a lot, `price` per unit as decided on, `cash` what the line may cost with
    fees and buffer, in the base currency (0 where selling).
    """

    instrument_id: Strings
    trade_lots: Integers
    lot_size: Floats
    price: Floats
    cash: Floats
    expire_time: datetime

    def __post_init__(self) -> None:
        check_lengths(
            len(self.instrument_id),
            trade_lots=self.trade_lots,
            lot_size=self.lot_size,
            price=self.price,
            cash=self.cash,
        )


@dataclass(frozen=True, eq=False, slots=True)
class Reservation:
    """A reservation as it stands: `trade_lots_open` and `cash_open` are what fills have left."""

    tenant_id: str
    decision_id: UUID
    portfolio_id: str
    strategy_id: str
    state: ReservationState
    expire_time: datetime
    create_time: datetime
    instrument_id: Strings
    trade_lots_open: Integers
    lot_size: Floats
    price: Floats
    cash_open: Floats


@dataclass(frozen=True, eq=False, slots=True)
class OpenTotals:
    """All open reservations of a portfolio together, by instrument, in units.

    Bought and sold are kept apart because either may fill without the other: a limit has to hold in
    every case. `sell_quantity` is zero or below; `cash` is in the base currency.
    """

    instrument_id: Strings
    buy_quantity: Floats
    sell_quantity: Floats
    cash: float

    def plus(self, reservation: NewReservation) -> "OpenTotals":
        """These totals and one more open reservation."""
        quantity = reservation.trade_lots * reservation.lot_size
        bought, sold = np.maximum(quantity, 0.0), np.minimum(quantity, 0.0)
        names = self.instrument_id
        if names == reservation.instrument_id:  # the same request again
            buy, sell = self.buy_quantity + bought, self.sell_quantity + sold
        else:
            names = tuple(sorted({*self.instrument_id, *reservation.instrument_id}))
            place = {name: i for i, name in enumerate(names)}
            buy, sell = np.zeros(len(names)), np.zeros(len(names))
            old = [place[name] for name in self.instrument_id]
            buy[old], sell[old] = self.buy_quantity, self.sell_quantity
            new = [place[name] for name in reservation.instrument_id]
            buy[new] += bought
            sell[new] += sold
        return OpenTotals(names, buy, sell, self.cash + float(reservation.cash.sum()))


def entered(reservation: NewReservation | None) -> list[bytes | None]:
    """The values of `ENTERED` for a new reservation, NULL for none."""
    if reservation is None:
        return [None] * len(ENTERED)
    return [
        binary.timestamptz(reservation.expire_time),
        binary.text_array(reservation.instrument_id),
        binary.int8_array(reservation.trade_lots),
        binary.float8_array(reservation.lot_size),
        binary.float8_array(reservation.price),
        binary.float8_array(reservation.cash),
    ]


async def get(connection: asyncpg.Connection, tenant_id: str, decision_id: UUID) -> Reservation:
    """The reservation of a decision. Errors: `NotFound`, also if the decision reserved nothing."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM reservation WHERE tenant_id = $1 AND decision_id = $2",
        tenant_id,
        decision_id,
    )
    if row is None:
        raise NotFound("reservation", str(decision_id))
    return _reservation(row)


async def list_open(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str
) -> list[Reservation]:
    """The open reservations of a portfolio, oldest first."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM reservation
        WHERE tenant_id = $1 AND portfolio_id = $2 AND state = 'OPEN'
        ORDER BY create_time, decision_id""",
        tenant_id,
        portfolio_id,
    )
    return [_reservation(row) for row in rows]


async def open_totals(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str
) -> OpenTotals:
    """What the open reservations of a portfolio hold together."""
    row = await connection.fetchrow(
        f"SELECT * FROM ({OPEN_TOTALS_SQL}) AS totals", tenant_id, portfolio_id
    )
    return totals_of(row)


# The totals of portfolio $2 of tenant $1, as one row of columns.
OPEN_TOTALS_SQL = """
    SELECT array_agg(instrument_id ORDER BY instrument_id) AS reserved_instrument_id,
        array_agg(buy ORDER BY instrument_id) AS buy_quantity,
        array_agg(sell ORDER BY instrument_id) AS sell_quantity,
        coalesce(sum(cash), 0) AS reserved_cash
    FROM (
        SELECT line.instrument_id, sum(greatest(line.lots, 0) * line.lot_size) AS buy,
            sum(least(line.lots, 0) * line.lot_size) AS sell, sum(line.cash) AS cash
        FROM reservation AS r
        CROSS JOIN LATERAL unnest(r.instrument_id, r.trade_lots_open, r.lot_size, r.cash_open)
            AS line (instrument_id, lots, lot_size, cash)
        WHERE r.tenant_id = $1 AND r.portfolio_id = $2 AND r.state = 'OPEN'
        GROUP BY line.instrument_id
    ) AS by_instrument"""


def totals_of(row: asyncpg.Record) -> OpenTotals:
    """The totals in a row of `OPEN_TOTALS_SQL`."""
    return OpenTotals(
        tuple(row["reserved_instrument_id"] or ()),
        floats(row["buy_quantity"]),
        floats(row["sell_quantity"]),
        float(row["reserved_cash"]),
    )


async def tenants_due(connection: asyncpg.Connection, now: datetime) -> list[str]:
    """The tenants with reservations whose time is over."""
    rows = await connection.fetch(
        "SELECT DISTINCT tenant_id FROM reservation WHERE state = 'OPEN' AND expire_time <= $1", now
    )
    return [row["tenant_id"] for row in rows]


async def expire_due(
    connection: asyncpg.Connection,
    tenant_id: str,
    now: datetime,
    *,
    event_of: Callable[[Reservation], outbox.NewEvent],
    limit: int = 100,
) -> list[Reservation]:
    """Close a tenant's reservations whose time is over, with an event each, in a transaction.

    Portfolios in use by another transaction are left for the next time, so several replicas can do
    this at once. Returns those closed; fewer than `limit` doesn't mean that none is left.
    """
    due = await connection.fetch(
        """SELECT portfolio_id, decision_id FROM reservation
        WHERE tenant_id = $1 AND state = 'OPEN' AND expire_time <= $2
        ORDER BY expire_time LIMIT $3""",
        tenant_id,
        now,
        limit,
    )
    last_event = await _lock_free_portfolios(connection, tenant_id, due)
    chosen = [row["decision_id"] for row in due if row["portfolio_id"] in last_event]
    if not chosen:
        return []
    rows = await connection.fetch(
        f"""UPDATE reservation SET state = 'EXPIRED', update_time = clock_timestamp()
        WHERE tenant_id = $1 AND decision_id = ANY ($2)
            AND state = 'OPEN' AND expire_time <= $3
        RETURNING {_COLUMNS}""",
        tenant_id,
        chosen,
        now,
    )
    expired = sorted(map(_reservation, rows), key=lambda r: (r.portfolio_id, r.expire_time))
    await _tell(connection, expired, last_event, event_of)
    return expired


async def _lock_free_portfolios(
    connection: asyncpg.Connection, tenant_id: str, due: Sequence[asyncpg.Record]
) -> dict[str, int]:
    rows = await connection.fetch(
        """SELECT portfolio_id, event_sequence FROM portfolio
        WHERE tenant_id = $1 AND portfolio_id = ANY ($2)
        ORDER BY portfolio_id FOR NO KEY UPDATE SKIP LOCKED""",
        tenant_id,
        [row["portfolio_id"] for row in due],
    )
    return {row["portfolio_id"]: row["event_sequence"] for row in rows}


async def _tell(
    connection: asyncpg.Connection,
    expired: Sequence[Reservation],
    last_event: dict[str, int],
    event_of: Callable[[Reservation], outbox.NewEvent],
) -> None:
    told = [
        PortfolioUpdate(key, last_event[key[1]], [event_of(reservation) for reservation in its])
        for key, its in groupby(expired, lambda r: (r.tenant_id, r.portfolio_id))
    ]
    await portfolio_updates.apply(connection, told)


def _reservation(row: asyncpg.Record) -> Reservation:
    return Reservation(
        tenant_id=row["tenant_id"],
        decision_id=row["decision_id"],
        portfolio_id=row["portfolio_id"],
        strategy_id=row["strategy_id"],
        state=ReservationState(row["state"]),
        expire_time=row["expire_time"],
        create_time=row["create_time"],
        instrument_id=tuple(row["instrument_id"]),
        trade_lots_open=integers(row["trade_lots_open"]),
        lot_size=floats(row["lot_size"]),
        price=floats(row["price"]),
        cash_open=floats(row["cash_open"]),
    )
