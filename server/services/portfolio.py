"""PortfolioService: what is held, what may be held, what is promised."""

from contextlib import suppress

from positionsizing.v1 import portfolio_service_pb2 as pb
from positionsizing.v1 import types_pb2

from compute.market import MissingInputError
from server.calls.errors import invalid, invalid_fields
from server.calls.request_context import Call
from server.convert.breaches import limit_check
from server.convert.names import (
    checked_id,
    name,
    optional_id,
    page_size,
    page_start,
    page_token,
    position,
)
from server.convert.portfolio import (
    balances,
    entered,
    holdings,
    portfolio_message,
    portfolio_violations,
    reservation_message,
    same_portfolio,
    time_or_now,
    unrealised_pnl,
)
from server.convert.portfolio_changed import PortfolioChange
from server.portfolios import currencies, high_water_mark, limit_monitor
from server.portfolios.day_loss import tell_day
from server.portfolios.positions import cash_in_base
from server.portfolios.told import read_portfolio, tell_changed
from server.services.portfolio_control import PortfolioControl
from storage.errors import AlreadyExists, NotFound
from storage.postgres import (
    closing,
    groups,
    portfolios,
    reservations,
    trading_state,
    universes,
)
from storage.postgres.scopes import Scope, ScopeKind
from storage.postgres.trading_state import TradingState


class PortfolioService(PortfolioControl):
    """See `protos/positionsizing/v1/portfolio_service.proto`."""

    async def create_portfolio(
        self, call: Call, request: pb.CreatePortfolioRequest
    ) -> pb.CreatePortfolioResponse:
        """Creates a portfolio, and its group where that is new."""
        wanted = request.portfolio
        if found := list(portfolio_violations(wanted)):
            raise invalid_fields(found)
        if wanted.portfolio_id == call.tenant_id:
            text = "is the id of the tenant, the key of events of all its portfolios: take another"
            raise invalid("portfolio.portfolio_id", "RESERVED", text)
        as_of_time = time_or_now(wanted, "portfolio.")
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            if wanted.group_id:
                await groups.ensure(connection, call.tenant_id, wanted.group_id)
            wrong = await currencies.newly_unnamed(
                connection, call.tenant_id, wanted.group_id, wanted.base_currency
            )
            if wrong:
                raise invalid_fields(wrong)
            newest = await self._states.newest_within(
                connection, call.tenant_id, wanted.universe_id
            )
            try:
                await portfolios.create(
                    connection,
                    call.tenant_id,
                    wanted.portfolio_id,
                    display_name=wanted.display_name,
                    base_currency=wanted.base_currency,
                    as_of_time=as_of_time,
                    cash=wanted.cash,
                    holdings=entered(holdings(wanted.holdings), newest),
                    group_id=wanted.group_id or None,
                    balances=balances(wanted.cash_balances),
                    time_zone=wanted.time_zone or "UTC",
                    universe_id=wanted.universe_id,
                )
                if wanted.universe_id:
                    await universes.note(
                        connection,
                        call.tenant_id,
                        wanted.portfolio_id,
                        wanted.universe_id,
                        author=call.author,
                        reason="created with it",
                    )
                stored = await read_portfolio(connection, call.tenant_id, wanted.portfolio_id)
                await tell_changed(connection, call, PortfolioChange.CREATED, stored)
            except AlreadyExists:
                stored = await read_portfolio(connection, call.tenant_id, wanted.portfolio_id)
                if not same_portfolio(stored, wanted):
                    raise
        self._states.changed(call.tenant_id)
        return pb.CreatePortfolioResponse(portfolio=stored)

    async def get_portfolio(
        self, call: Call, request: pb.GetPortfolioRequest
    ) -> pb.GetPortfolioResponse:
        """A portfolio with holdings and cash."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            stored = await read_portfolio(connection, call.tenant_id, portfolio_id)
            response = pb.GetPortfolioResponse(portfolio=stored)
            await high_water_mark.tell(connection, call.tenant_id, response)
            await tell_day(connection, call.tenant_id, response)
            row = await portfolios.get(connection, call.tenant_id, portfolio_id)
        if row.equity_accepted is not None:
            response.equity_accepted = row.equity_accepted
        # Without a market or an exchange rate there is no sum in the base currency.
        with suppress(NotFound, MissingInputError):
            snapshot = await self._states.snapshot_of(call.tenant_id, row.universe_id)
            prices = self._states.market(call.tenant_id, snapshot, stored.base_currency)
            response.cash_total = cash_in_base(row, prices)
            if stored.holdings.instrument_ids:
                pnl = unrealised_pnl(stored.holdings, prices, snapshot.snapshot_id)
                response.unrealised_pnl.CopyFrom(pnl)
        return response

    async def list_portfolios(
        self, call: Call, request: pb.ListPortfoliosRequest
    ) -> pb.ListPortfoliosResponse:
        """Portfolios by id, without holdings."""
        size = page_size(request.page_size)
        group_id = optional_id(request.group_id, "group_id")
        start = page_start(request, name)
        after = "" if start is None else start[0]
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await portfolios.list_page(
                connection,
                call.tenant_id,
                after=after,
                limit=size + 1,
                group_id=group_id or None,
                granted=call.identity.granted,
            )
            scopes = [Scope(ScopeKind.PORTFOLIO, row.portfolio_id) for row in rows]
            changes = await trading_state.current(connection, call.tenant_id, scopes)
            ids = [row.portfolio_id for row in rows]
            closed = await closing.close_times(connection, call.tenant_id, ids)
        states = {change.scope.id: change.state for change in changes}
        response = pb.ListPortfoliosResponse()
        for row in rows[:size]:
            if row.portfolio_id in closed and not request.include_closed:
                continue
            message = portfolio_message(row, closed.get(row.portfolio_id))
            state = states.get(row.portfolio_id, TradingState.ACTIVE)
            message.trading_state = types_pb2.TradingState.Value(f"TRADING_STATE_{state}")
            response.portfolios.append(message)
        if len(rows) > size:
            response.next_page_token = page_token(request, rows[size - 1].portfolio_id)
        return response

    async def get_breaches(
        self, call: Call, request: pb.GetBreachesRequest
    ) -> pb.GetBreachesResponse:
        """What the book is beyond at the prices of a snapshot."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        snapshot_id = ""
        if request.market_snapshot_id:
            snapshot_id = checked_id(request.market_snapshot_id, "market_snapshot_id")
        found = await limit_monitor.check(
            self._database, self._states, call, portfolio_id, snapshot_id
        )
        return limit_check(found)

    async def list_reservations(
        self, call: Call, request: pb.ListReservationsRequest
    ) -> pb.ListReservationsResponse:
        """Open reservations, oldest first."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        size = page_size(request.page_size)
        start = page_start(request, position)
        first = 0 if start is None else start[0]
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            await portfolios.get(connection, call.tenant_id, portfolio_id)
            rows = await reservations.list_open(connection, call.tenant_id, portfolio_id)
        response = pb.ListReservationsResponse(
            reservations=[reservation_message(row) for row in rows[first : first + size]]
        )
        if len(rows) > first + size:
            response.next_page_token = page_token(request, first + size)
        return response
