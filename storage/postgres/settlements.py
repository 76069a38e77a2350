"""Settlements: fills move holdings and cash, and give back what they no longer need reserved.

A fill is a fact, so it counts even when the reservation has expired or was released meanwhile. What
it can't do is exceed the lots that were decided and not filled yet.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np

from storage.errors import FailedPrecondition, NotFound, RequestIdReused
from storage.identifiers import uuid7
from storage.postgres import cash, locks, outbox, portfolio_updates, requests, reservations
from storage.postgres.commit import CommitResult
from storage.postgres.portfolio_updates import PortfolioUpdate
from storage.postgres.requests import Request
from storage.postgres.reservations import Reservation, ReservationState
from storage.postgres.rows import Floats, Integers, Strings, check_lengths, to_json


@dataclass(frozen=True, eq=False, slots=True)
class SettlementWrite:
    """A report about one decision: fills (maybe none) and whether more will follow.

    `lots` is signed, `price` per unit in the instrument's currency; an instrument may come more
    than once. `cash_change` is what is paid by currency, "" for the base, fees included, negative
    when buying. `gain_factor` is money for one point of gain of one unit of a future, 0 for what is
    paid in full, in the currency that `settles_in` names ("" for the base; empty: all);
    `is_inverse` says that its points are -1/price. None: nothing is a future.
    `is_final` releases what is still open. `respond` and `events_of` make the answer and the events
    from the reservation as it then stands; the response in `request` is not used.
    """

    tenant_id: str
    request: Request
    decision_id: UUID
    instrument_id: Strings
    lots: Integers
    price: Floats
    cash_change: Mapping[str, float]
    is_final: bool
    respond: Callable[[Reservation, int], bytes]
    """The answer, from the reservation and the version of the portfolio after the report."""
    events_of: Callable[[Reservation, int], Sequence[outbox.NewEvent]]
    """The same of the events."""
    gain_factor: Floats | None = None
    is_inverse: tuple[bool, ...] = ()
    settles_in: Strings = ()
    create_time: datetime | None = None
    """None: now."""

    def __post_init__(self) -> None:
        check_lengths(len(self.instrument_id), lots=self.lots, price=self.price)


async def settle(connection: asyncpg.Connection, write: SettlementWrite) -> CommitResult:
    """Apply a report and return the answer, this one's or the stored one's of the same request.

    Call it in a transaction, and end that with the error if there is one.

    Errors: `NotFound` (the decision, or one that reserved nothing), `RequestIdReused`,
    `FailedPrecondition` for a fill of more than is open, or of the other side.
    """
    unlocked = await reservations.get(connection, write.tenant_id, write.decision_id)
    key = (write.tenant_id, unlocked.portfolio_id)
    locked = (await locks.lock_portfolios(connection, [key])).get(key)
    if locked is None:
        raise NotFound("portfolio", unlocked.portfolio_id)
    stored = await requests.find(connection, write.tenant_id, write.request.request_id)
    if stored is not None:
        answer = stored.answer_to(write.request.method, write.request.request_hash)
        return CommitResult(answer, is_replay=True)
    before = await reservations.get(connection, write.tenant_id, write.decision_id)
    after = filled(before, write)
    request = replace(write.request, response=write.respond(after, locked.version + 1))
    move = PortfolioUpdate(
        key, locked.event_sequence, write.events_of(after, locked.version + 1), request.request_id
    )
    if not await portfolio_updates.apply(connection, [move], [(write.tenant_id, request)]):
        raise RequestIdReused(str(request.request_id))  # by a request for another portfolio
    await _record(connection, write, before, after)
    await _move(connection, write, before)
    return CommitResult(request.response, is_replay=False)


async def reports(
    connection: asyncpg.Connection, tenant_id: str, decision_ids: Sequence[UUID]
) -> list[tuple[UUID, bytes, datetime]]:
    """Reports about these decisions, oldest first: decision, request as it came, and when."""
    rows = await connection.fetch(
        """SELECT settlement.decision_id, request.request, settlement.create_time
        FROM settlement JOIN request USING (tenant_id, request_id)
        WHERE settlement.tenant_id = $1 AND settlement.decision_id = ANY($2)
        ORDER BY settlement.create_time, settlement.settlement_id""",
        tenant_id,
        list(decision_ids),
    )
    return [(row["decision_id"], row["request"], row["create_time"]) for row in rows]


FILL_COLUMNS = (
    "settlement_id",
    "decision_id",
    "portfolio_id",
    "create_time",
    "outcome",
    "instrument_id",
    "lots",
    "price",
)


async def lines_between(
    connection: asyncpg.Connection, tenant_id: str, start: datetime, end: datetime
) -> list[tuple[Any, ...]]:
    """`FILL_COLUMNS` of every line reported from `start` on and before `end`, oldest first.

    `lots` are signed, `price` is per unit in the instrument's currency; ids are text.
    """
    rows = await connection.fetch(
        """SELECT settlement_id::text, decision_id::text, portfolio_id, create_time, outcome,
            line.instrument_id, line.lots, line.price
        FROM settlement
        CROSS JOIN LATERAL unnest(instrument_id, lots, price) AS line (instrument_id, lots, price)
        WHERE tenant_id = $1 AND create_time >= $2 AND create_time < $3
        ORDER BY create_time, settlement_id""",
        tenant_id,
        start,
        end,
    )
    return [tuple(row) for row in rows]


def filled(before: Reservation, write: SettlementWrite) -> Reservation:
    """The reservation after the report. Cash held for a line shrinks with its open lots.

    Errors: `FailedPrecondition`.
    """
    row_of = {id: row for row, id in enumerate(before.instrument_id)}
    still_open = before.trade_lots_open.copy()
    for id, lots in zip(write.instrument_id, write.lots.tolist(), strict=True):
        row = row_of.get(id)
        n_open = 0 if row is None else int(still_open[row])
        if row is None or not (0 < lots <= n_open or n_open <= lots < 0):
            why = (
                f"a fill of {lots} lots of {id}, where {n_open} are open; report what was filled "
                "since the last settlement, signed as the trade"
            )
            raise FailedPrecondition("decision", str(write.decision_id), why, "FILL_NOT_OPEN")
        still_open[row] -= lots
    share = np.divide(
        still_open, before.trade_lots_open, out=np.zeros(len(row_of)), where=still_open != 0
    )
    state = before.state
    if not still_open.any():
        state = ReservationState.SETTLED
    elif write.is_final and state is ReservationState.OPEN:
        state = ReservationState.RELEASED
    return replace(
        before, state=state, trade_lots_open=still_open, cash_open=before.cash_open * share
    )


async def _record(
    connection: asyncpg.Connection, write: SettlementWrite, before: Reservation, after: Reservation
) -> None:
    await connection.execute(
        """INSERT INTO settlement (tenant_id, settlement_id, request_id, decision_id, portfolio_id,
            outcome, cash_change, instrument_id, lots, price, balances_change,
            create_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
            coalesce($12, clock_timestamp()))""",
        write.tenant_id,
        uuid7(),
        write.request.request_id,
        write.decision_id,
        before.portfolio_id,
        after.state,
        write.cash_change.get("", 0.0),
        write.instrument_id,
        write.lots.tolist(),
        write.price.tolist(),
        to_json({code: amount for code, amount in write.cash_change.items() if code}),
        write.create_time,
    )
    await connection.execute(
        """UPDATE reservation SET state = $3, trade_lots_open = $4, cash_open = $5,
            update_time = clock_timestamp()
        WHERE tenant_id = $1 AND decision_id = $2""",
        write.tenant_id,
        write.decision_id,
        after.state,
        after.trade_lots_open.tolist(),
        after.cash_open.tolist(),
    )


async def _move(
    connection: asyncpg.Connection, write: SettlementWrite, before: Reservation
) -> None:
    """Cash, holdings and average prices; fills of one instrument come as one at their mean price.

    A price averages over what adds to a position; reducing keeps it, crossing zero starts anew.
    Quantities are decimals from here on: lots times lot size, exactly.
    """
    changes = dict(write.cash_change)
    if write.gain_factor is not None:
        for code, gain in (await _realised(connection, write, before)).items():
            changes[code] = changes.get(code, 0.0) + gain
    await cash.add(connection, write.tenant_id, before.portfolio_id, changes)
    if not write.instrument_id:
        return
    await connection.execute(
        f"""WITH fill AS ({_FILLS})
        INSERT INTO holding AS h (tenant_id, portfolio_id, instrument_id, quantity, average_price)
        SELECT $1, $2, instrument_id, quantity, price FROM fill ORDER BY instrument_id
        ON CONFLICT (tenant_id, portfolio_id, instrument_id) DO UPDATE SET
            quantity = h.quantity + excluded.quantity,
            average_price = CASE
                WHEN sign(h.quantity) = sign(excluded.quantity) AND
                    (SELECT is_inverse FROM fill WHERE fill.instrument_id = h.instrument_id) THEN
                    (h.quantity + excluded.quantity)::float8 / (h.quantity::float8
                        / h.average_price + excluded.quantity::float8 / excluded.average_price)
                WHEN sign(h.quantity) = sign(excluded.quantity) THEN
                    h.average_price + (excluded.average_price - h.average_price)
                        * (excluded.quantity / (h.quantity + excluded.quantity))::float8
                WHEN abs(excluded.quantity) > abs(h.quantity) THEN excluded.average_price
                ELSE h.average_price
            END""",
        *_fill_columns(write, before),
    )
    await connection.execute(
        """DELETE FROM holding WHERE tenant_id = $1 AND portfolio_id = $2 AND quantity = 0
            AND instrument_id = ANY($3::text[])""",
        write.tenant_id,
        before.portfolio_id,
        write.instrument_id,
    )


# One row an instrument: what was filled in units, at the mean price.
_FILLS = """
    SELECT f.instrument_id, sum(f.lots) * min(f.lot_size)::numeric AS quantity,
        sum(f.lots * f.price) / sum(f.lots) AS price, min(f.gain_factor) AS gain_factor,
        bool_or(f.is_inverse) AS is_inverse, min(f.settles_in) AS settles_in
    FROM unnest($3::text[], $4::int8[], $5::float8[], $6::float8[], $7::float8[], $8::bool[],
        $9::text[]) AS f (instrument_id, lots, lot_size, price, gain_factor, is_inverse, settles_in)
    GROUP BY f.instrument_id"""


def _fill_columns(write: SettlementWrite, before: Reservation) -> tuple[object, ...]:
    """The parameters of `_FILLS`."""
    n = len(write.instrument_id)
    lot_size = dict(zip(before.instrument_id, before.lot_size.tolist(), strict=True))
    return (
        write.tenant_id,
        before.portfolio_id,
        write.instrument_id,
        write.lots.tolist(),
        [lot_size[id] for id in write.instrument_id],
        write.price.tolist(),
        [0.0] * n if write.gain_factor is None else write.gain_factor.tolist(),
        write.is_inverse or [False] * n,
        write.settles_in or [""] * n,
    )


async def _realised(
    connection: asyncpg.Connection, write: SettlementWrite, before: Reservation
) -> dict[str, float]:
    """Gains over the average price of what the fills close of futures, by currency."""
    rows = await connection.fetch(
        f"""WITH fill AS ({_FILLS})
        SELECT fill.settles_in, sum(fill.gain_factor * sign(h.quantity)::float8
            * least(abs(h.quantity), abs(fill.quantity))::float8
            * CASE WHEN fill.is_inverse THEN 1 / h.average_price - 1 / fill.price
                ELSE fill.price - h.average_price END) AS gain
        FROM fill JOIN holding AS h ON h.tenant_id = $1 AND h.portfolio_id = $2
            AND h.instrument_id = fill.instrument_id
        WHERE fill.gain_factor <> 0 AND sign(h.quantity) <> sign(fill.quantity)
            AND h.average_price <> 'NaN'
        GROUP BY fill.settles_in""",
        *_fill_columns(write, before),
    )
    return {row["settles_in"]: float(row["gain"]) for row in rows}
