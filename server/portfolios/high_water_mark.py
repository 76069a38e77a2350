"""The high-water mark of a portfolio when money is paid in or out, and when people set it anew.

Decisions raise it (`adaptation.py`). A payment changes mark and equity by the same factor, so that
it is neither a gain nor a loss: the mark per unit of a fund whose units are bought and sold at net
asset value. Book before and after are valued at the same, newest prices.
"""

import asyncpg
from positionsizing.v1 import portfolio_service_pb2 as pb

from compute.money.text import money
from server.calls.errors import invalid_fields, precondition
from server.calls.request_context import Call
from server.convert.market import Snapshot
from server.convert.names import checked_id, reason_violations, timestamp
from server.convert.portfolio_changed import PortfolioChange
from server.portfolios import four_eyes
from server.portfolios.four_eyes import Approval
from server.portfolios.state import States
from server.portfolios.told import read_portfolio, tell_changed
from server.portfolios.valuation import last_equity, newest_market, stored_equity
from storage.postgres import high_water_marks, locks, trading_days
from storage.postgres.high_water_marks import Rebase
from storage.postgres.pool import Database
from storage.postgres.scopes import Scope, ScopeKind, bump

REBASES_SHOWN = 20


class HighWaterMarks:
    """Follows payments, and sets marks anew."""

    def __init__(self, database: Database, states: States) -> None:
        self._database = database
        self._states = states

    async def before_payment(
        self, connection: asyncpg.Connection, call: Call, portfolio_id: str, market: Snapshot | None
    ) -> float | None:
        """Equity before a payment, the portfolio locked; None where there is nothing to move."""
        key = (call.tenant_id, portfolio_id)
        if not await follows_payments(connection, *key):
            return None
        await locks.lock_portfolio(connection, call.tenant_id, portfolio_id)
        return await last_equity(connection, self._states, *key, market)

    async def after_payment(
        self,
        connection: asyncpg.Connection,
        call: Call,
        portfolio_id: str,
        market: Snapshot | None,
        before: float | None,
        payment: float | None = None,
    ) -> None:
        """Scales the mark, and the trading day, by what the payment did to equity.

        payment: None where all of the change is one. Where a book can't be valued, or has no
        equity, the mark stays.
        """
        if before is None or before <= 0.0:
            return
        key = (call.tenant_id, portfolio_id)
        after = await last_equity(connection, self._states, *key, market)
        if after is not None and payment is not None:
            after = before + payment
        if after is not None and after > 0.0:
            await scale(connection, *key, after / before)

    async def rebase(
        self,
        call: Call,
        request: pb.RebaseHighWaterMarkRequest,
        approval: Approval | None = None,
    ) -> pb.RebaseHighWaterMarkResponse:
        """Sets the mark to the equity at the newest market; a lower one may become a proposal."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        if found := list(reason_violations(request.reason)):
            raise invalid_fields(found)
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await locks.lock_portfolio(connection, call.tenant_id, portfolio_id)
            key = (call.tenant_id, portfolio_id)
            market = await newest_market(connection, self._states, *key)
            equity = await stored_equity(connection, self._states, *key, market)
            if equity is None:
                text = "the newest market does not value what the portfolio holds"
                raise precondition("MISSING_PRICE", text)
            if equity <= 0.0:
                raise precondition("NO_EQUITY", f"the equity is {money(equity)}; a mark is above 0")
            mark = await high_water_marks.get(connection, call.tenant_id, portfolio_id)
            if mark is None:
                text = f"portfolio {portfolio_id!r} has not been sized with a drawdown_floor yet"
                raise precondition("NO_HIGH_WATER_MARK", text)
            last = await high_water_marks.rebases(connection, call.tenant_id, portfolio_id, 1)
            proposal = await four_eyes.proposed(
                connection,
                call,
                request,
                version=last[0].version if last else 0,
                loosened=("high_water_mark",) if equity < mark else (),
                approval=approval,
                portfolio_id=portfolio_id,
            )
            done = None
            if proposal is None:
                done = await high_water_marks.rebase(
                    connection,
                    call.tenant_id,
                    portfolio_id,
                    equity,
                    author=call.author,
                    reason=request.reason,
                )
                await bump(connection, call.tenant_id, Scope(ScopeKind.PORTFOLIO, portfolio_id))
                stored = await read_portfolio(connection, *key)
                kind = PortfolioChange.HIGH_WATER_MARK_REBASED
                await tell_changed(connection, call, kind, stored, reason=request.reason)
        if proposal is not None:
            raise four_eyes.required(proposal)
        assert done is not None, "there is a mark"
        self._states.changed(call.tenant_id)
        return pb.RebaseHighWaterMarkResponse(rebase=_message(done))


async def follows_payments(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str
) -> bool:
    """Whether a portfolio has a mark or a trading day, which move when money is paid in or out."""
    key = (tenant_id, portfolio_id)
    mark = await high_water_marks.get(connection, *key)
    return mark is not None or await trading_days.get(connection, *key) is not None


async def scale(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, factor: float
) -> None:
    """Moves mark and trading day with equity."""
    await high_water_marks.scale(connection, tenant_id, portfolio_id, factor)
    await trading_days.scale(connection, tenant_id, portfolio_id, factor)


async def tell(
    connection: asyncpg.Connection, tenant_id: str, response: pb.GetPortfolioResponse
) -> None:
    """Writes the mark and its history into the answer to GetPortfolio."""
    portfolio_id = response.portfolio.portfolio_id
    mark = await high_water_marks.get(connection, tenant_id, portfolio_id)
    if mark is None:
        return
    response.high_water_mark = mark
    rows = await high_water_marks.rebases(connection, tenant_id, portfolio_id, REBASES_SHOWN)
    response.high_water_mark_rebases.extend(_message(row) for row in rows)


def _message(row: Rebase) -> pb.HighWaterMarkRebase:
    message = pb.HighWaterMarkRebase(equity_before=row.equity_before, equity_after=row.equity_after)
    message.change.version, message.change.author = row.version, row.author
    message.change.reason = row.reason
    message.change.create_time.CopyFrom(timestamp(row.create_time))
    return message
