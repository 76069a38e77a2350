"""What a portfolio owns: its books of record, and what people say of its equity."""

from positionsizing.v1 import portfolio_service_pb2 as pb

from server.calls.errors import invalid_fields
from server.calls.request_context import Call, first_delivery
from server.convert.change_record import change_record
from server.convert.market import universe_violations
from server.convert.names import checked_id, moment, reason_violations
from server.convert.portfolio import (
    balance_violations,
    balances,
    entered,
    holding_violations,
    holdings,
    time_or_now,
    zone_violations,
)
from server.convert.portfolio_changed import PortfolioChange
from server.convert.ranges import number_violations
from server.market import missed_actions
from server.portfolios import cash_adjustment, equity_jumps, high_water_mark
from server.portfolios.day_loss import DayLossMonitor
from server.portfolios.four_eyes import Approval
from server.portfolios.limit_monitor import BreachWatch
from server.portfolios.state import States
from server.portfolios.told import read_portfolio, tell_changed
from server.services.portfolio_life import PortfolioLife
from storage.postgres import closing, portfolios, universes
from storage.postgres.pool import Database
from storage.postgres.scopes import Scope, ScopeKind, bump


class PortfolioMoney(PortfolioLife):
    """Holdings, cash and equity."""

    def __init__(self, database: Database, states: States) -> None:
        super().__init__(database, states)
        self._breaches = BreachWatch(states)
        self._marks = high_water_mark.HighWaterMarks(database, states)
        self._days = DayLossMonitor(database, states)

    async def set_holdings(
        self, call: Call, request: pb.SetHoldingsRequest
    ) -> pb.SetHoldingsResponse:
        """Replaces holdings and cash."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        found = [*number_violations(request), *holding_violations(request.holdings)]
        found += balance_violations(request.cash_balances, "cash_balances")
        if found:
            raise invalid_fields(found)
        expected = None
        if request.HasField("expected_version"):
            expected = request.expected_version
        limited = await self._days.before(call, [portfolio_id])
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await first_delivery(connection, call)
            await closing.check_open(connection, call.tenant_id, portfolio_id)
            known = await portfolios.get(connection, call.tenant_id, portfolio_id)
            base, universe_id = known.base_currency, known.universe_id
            if wrong := list(balance_violations(request.cash_balances, "cash_balances", base)):
                raise invalid_fields(wrong)
            if request.HasField("as_of_time"):
                time = moment(request.as_of_time, "as_of_time")
                held = request.holdings.instrument_ids
                await missed_actions.check_books(connection, call.tenant_id, held, time)
            market = await self._states.newest_within(connection, call.tenant_id, universe_id)
            marked = (connection, call, portfolio_id, market)
            before = await self._marks.before_payment(*marked)
            await portfolios.replace_state(
                connection,
                call.tenant_id,
                portfolio_id,
                cash=request.cash,
                holdings=entered(holdings(request.holdings), market),
                as_of_time=time_or_now(request),
                expected_version=expected,
                any_equity=request.confirm_equity,
                balances=balances(request.cash_balances),
            )
            payment = request.payment if request.HasField("payment") else None
            await self._marks.after_payment(*marked, before, payment)
            stored = await read_portfolio(connection, call.tenant_id, portfolio_id)
            kind = PortfolioChange.HOLDINGS_SET
            await tell_changed(connection, call, kind, stored)
            await self._breaches.look(connection, call, [portfolio_id], "holdings")
        self._states.changed(call.tenant_id)
        if limited:
            await self._days.after(call, limited)
            stored = await self._stored(call, portfolio_id)
        return pb.SetHoldingsResponse(portfolio=stored)

    async def adjust_cash(self, call: Call, request: pb.AdjustCashRequest) -> bytes:
        """Moves cash."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        limited = await self._days.before(call, [portfolio_id])
        answer = await cash_adjustment.adjust(self._database, self._states, call, request)
        await self._days.after(call, limited)
        return answer

    async def set_time_zone(
        self, call: Call, request: pb.SetTimeZoneRequest
    ) -> pb.SetTimeZoneResponse:
        """Sets the zone of the trading day."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        if found := list(zone_violations(request.time_zone, "time_zone")):
            raise invalid_fields(found)
        scope = Scope(ScopeKind.PORTFOLIO, portfolio_id)
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await bump(connection, call.tenant_id, scope)
            zone = request.time_zone or "UTC"
            await portfolios.set_time_zone(connection, call.tenant_id, portfolio_id, zone)
            stored = await read_portfolio(connection, call.tenant_id, portfolio_id)
            kind = PortfolioChange.TIME_ZONE_SET
            await tell_changed(connection, call, kind, stored)
        self._states.changed(call.tenant_id)
        return pb.SetTimeZoneResponse(portfolio=stored)

    async def set_universe(
        self, call: Call, request: pb.SetUniverseRequest
    ) -> pb.SetUniverseResponse:
        """Sets the universe whose newest snapshot a portfolio is priced at."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        wrong = [*universe_violations(request.universe_id, "universe_id")]
        if wrong := [*wrong, *reason_violations(request.reason)]:
            raise invalid_fields(wrong)
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            change = await universes.set_universe(
                connection,
                call.tenant_id,
                portfolio_id,
                request.universe_id,
                author=call.author,
                reason=request.reason,
            )
            stored = await read_portfolio(connection, call.tenant_id, portfolio_id)
            kind = PortfolioChange.UNIVERSE_SET
            await tell_changed(connection, call, kind, stored, reason=request.reason)
        self._states.changed(call.tenant_id)
        return pb.SetUniverseResponse(
            portfolio=stored,
            change=change_record(change),
        )

    async def _stored(self, call: Call, portfolio_id: str) -> pb.Portfolio:
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            return await read_portfolio(connection, call.tenant_id, portfolio_id)

    async def confirm_equity(
        self, call: Call, request: pb.ConfirmEquityRequest
    ) -> pb.ConfirmEquityResponse:
        """Accepts the equity after a jump."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        if found := list(reason_violations(request.reason)):
            raise invalid_fields(found)
        where = self._database, self._states, call
        before, equity = await equity_jumps.confirm(*where, portfolio_id, request.reason)
        return pb.ConfirmEquityResponse(equity_before=before, equity=equity)

    async def rebase_high_water_mark(
        self,
        call: Call,
        request: pb.RebaseHighWaterMarkRequest,
        approval: Approval | None = None,
    ) -> pb.RebaseHighWaterMarkResponse:
        """Sets the high-water mark anew."""
        return await self._marks.rebase(call, request, approval)
