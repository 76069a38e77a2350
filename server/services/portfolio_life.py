"""Name and end of a portfolio."""

from positionsizing.v1 import events_pb2, types_pb2
from positionsizing.v1 import portfolio_service_pb2 as pb

from server.calls.errors import invalid_fields
from server.calls.request_context import Call
from server.convert.change_record import change_record
from server.convert.names import checked_id, text_violations
from server.convert.portfolio_changed import PortfolioChange
from server.convert.ranges import number_violations
from server.portfolios.state import States
from server.portfolios.told import read_portfolio, tell, tell_changed
from storage.postgres import closing, portfolios, tenant_lock, trading_state
from storage.postgres.pool import Database
from storage.postgres.scopes import Scope, ScopeKind
from storage.postgres.trading_state import TradingState


class PortfolioLife:
    """Renaming and closing."""

    def __init__(self, database: Database, states: States) -> None:
        self._database = database
        self._states = states

    async def rename_portfolio(
        self, call: Call, request: pb.RenamePortfolioRequest
    ) -> pb.RenamePortfolioResponse:
        """Changes the name for people."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        found = list(number_violations(request))
        if found := found + list(text_violations(request.display_name, "display_name")):
            raise invalid_fields(found)
        expected = None
        if request.HasField("expected_version"):
            expected = request.expected_version
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            now = await portfolios.get(connection, call.tenant_id, portfolio_id)
            await portfolios.update_details(
                connection,
                call.tenant_id,
                portfolio_id,
                display_name=request.display_name,
                group_id=now.group_id,
                expected_version=expected,
            )
            stored = await read_portfolio(connection, call.tenant_id, portfolio_id)
            await tell_changed(connection, call, PortfolioChange.RENAMED, stored)
        self._states.changed(call.tenant_id)
        return pb.RenamePortfolioResponse(portfolio=stored)

    async def close_portfolio(
        self, call: Call, request: pb.ClosePortfolioRequest
    ) -> pb.ClosePortfolioResponse:
        """Closes for good: halted first, so that no decision is committed after it."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        if found := list(text_violations(request.reason, "reason")):
            raise invalid_fields(found)
        scope = Scope(ScopeKind.PORTFOLIO, portfolio_id)
        async with tenant_lock.exclusively(
            self._database, call.tenant_id, deadline_s=call.left_s
        ) as connection:
            if not await closing.close_times(connection, call.tenant_id, [portfolio_id]):
                halted = await trading_state.put(
                    connection,
                    call.tenant_id,
                    scope,
                    TradingState.HALTED,
                    author=call.author,
                    reason=f"closed: {request.reason}" if request.reason else "closed",
                )
                await closing.close(connection, call.tenant_id, portfolio_id)
                event = events_pb2.TradingStateChanged(
                    scope=pb.Scope(portfolio_id=portfolio_id),
                    trading_state=types_pb2.TRADING_STATE_HALTED,
                    trading_state_version=halted.tenant_version,
                    change=change_record(halted),
                )
                await tell(connection, call, "trading-state-changed", scope, event)
                stored = await read_portfolio(connection, call.tenant_id, portfolio_id)
                closed = PortfolioChange.CLOSED
                await tell_changed(connection, call, closed, stored, reason=request.reason)
            else:
                stored = await read_portfolio(connection, call.tenant_id, portfolio_id)
        self._states.changed(call.tenant_id)
        return pb.ClosePortfolioResponse(portfolio=stored)
