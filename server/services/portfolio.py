"""PortfolioService: what is held, what may be held, what is promised."""

from contextlib import suppress

import asyncpg
import numpy as np
from positionsizing.v1 import events_pb2, types_pb2
from positionsizing.v1 import portfolio_service_pb2 as pb

from compute.market import MissingInputError
from server import currencies, high_water_mark
from server.alerts import CRITICAL, WARNING, alert
from server.convert import limits as limits_convert
from server.convert.names import (
    checked_id,
    name,
    optional_id,
    page_size,
    page_start,
    page_token,
    position,
    text_violations,
    timestamp,
)
from server.convert.portfolio import (
    balances,
    entered,
    holdings,
    portfolio_message,
    portfolio_violations,
    same_portfolio,
    time_or_now,
    unrealised_pnl,
)
from server.convert.ranges import number_violations
from server.day_loss import tell_day
from server.errors import FieldViolation, invalid, invalid_fields, not_found
from server.portfolio_state import cash_in_base
from server.request_context import Call, first_delivery
from server.services.portfolio_life import change_record, read_portfolio, tell
from server.services.portfolio_money import PortfolioMoney
from storage.errors import AlreadyExists, NotFound
from storage.postgres import (
    closing,
    groups,
    limits,
    outbox,
    portfolios,
    reservations,
    tenant_lock,
    trading_state,
)
from storage.postgres.outbox import NewEvent
from storage.postgres.scopes import TENANT_SCOPE, Scope, ScopeKind
from storage.postgres.trading_state import TradingState


class PortfolioService(PortfolioMoney):
    """See `protos/positionsizing/v1/portfolio_service.proto`."""

    async def create_portfolio(
        self, call: Call, request: pb.CreatePortfolioRequest
    ) -> pb.CreatePortfolioResponse:
        """Creates a portfolio, and its group where that is new."""
        wanted = request.portfolio
        if found := list(portfolio_violations(wanted)):
            raise invalid_fields(found)
        as_of_time = time_or_now(wanted, "portfolio.")
        held = entered(holdings(wanted.holdings), await self._breaches.snapshot(call))
        async with self._database.transaction(deadline_s=call.left_s) as connection:
            if wanted.group_id:
                await _ensure_group(connection, call.tenant_id, wanted.group_id)
            wrong = await currencies.newly_unnamed(
                connection, call.tenant_id, wanted.group_id, wanted.base_currency
            )
            if wrong:
                raise invalid_fields(wrong)
            try:
                await portfolios.create(
                    connection,
                    call.tenant_id,
                    wanted.portfolio_id,
                    display_name=wanted.display_name,
                    base_currency=wanted.base_currency,
                    as_of_time=as_of_time,
                    cash=wanted.cash,
                    holdings=held,
                    group_id=wanted.group_id or None,
                    balances=balances(wanted.cash_balances),
                    time_zone=wanted.time_zone or "UTC",
                )
            except AlreadyExists:
                stored = await read_portfolio(connection, call.tenant_id, wanted.portfolio_id)
                if not same_portfolio(stored, wanted):
                    raise
        self._states.changed(call.tenant_id)
        async with self._database.connection(deadline_s=call.left_s) as connection:
            stored = await read_portfolio(connection, call.tenant_id, wanted.portfolio_id)
        return pb.CreatePortfolioResponse(portfolio=stored)

    async def get_portfolio(
        self, call: Call, request: pb.GetPortfolioRequest
    ) -> pb.GetPortfolioResponse:
        """A portfolio with holdings and cash."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        async with self._database.connection(deadline_s=call.left_s) as connection:
            stored = await read_portfolio(connection, call.tenant_id, portfolio_id)
            response = pb.GetPortfolioResponse(portfolio=stored)
            await high_water_mark.tell(connection, call.tenant_id, response)
            await tell_day(connection, call.tenant_id, response)
            row = await portfolios.get(connection, call.tenant_id, portfolio_id)
        if row.equity_accepted is not None:
            response.equity_accepted = row.equity_accepted
        snapshot = await self._breaches.snapshot(call)
        if snapshot is not None:
            with suppress(MissingInputError):  # no exchange rate, so no sum in the base currency
                prices = self._states.market(call.tenant_id, snapshot, stored.base_currency)
                response.cash_total = cash_in_base(row, prices)
                if not stored.holdings.instrument_ids:
                    return response
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
        async with self._database.connection(deadline_s=call.left_s) as connection:
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

    async def set_limits(self, call: Call, request: pb.SetLimitsRequest) -> pb.SetLimitsResponse:
        """Stores a version of a scope's limits."""
        scope = _scope(request.scope)
        found = list(number_violations(request))
        found += limits_convert.violations(request.limits, "limits")
        if scope.kind is ScopeKind.STRATEGY:
            found += limits_convert.book_only_violations(request.limits, "limits")
        found += text_violations(request.reason, "reason")
        if request.HasField("shared") and scope.kind is not ScopeKind.GROUP:
            found.append(FieldViolation("shared", "NOT_APPLICABLE", "is for groups only"))
        if not (request.HasField("limits") or request.HasField("shared")):
            text = "must be given; empty limits lift all limits of the scope"
            found.append(FieldViolation("limits", "MISSING", text))
        if found:
            raise invalid_fields(found)
        document = {"limits": limits_convert.document(request.limits)}
        if request.HasField("shared"):
            document["shared"] = limits_convert.document(request.shared)
        expected = None
        if request.HasField("expected_version"):
            expected = request.expected_version
        market = await self._breaches.snapshot(call)
        async with self._database.transaction(deadline_s=call.left_s) as connection:
            await first_delivery(connection, call)
            if scope.kind is ScopeKind.GROUP:
                await _ensure_group(connection, call.tenant_id, scope.id)
            wrong = await currencies.unnamed(
                connection, call.tenant_id, scope, request.limits, request.shared
            )
            if wrong:
                raise invalid_fields(wrong)
            stored = await limits.put(
                connection,
                call.tenant_id,
                scope,
                document,
                author=call.author,
                reason=request.reason,
                expected_version=expected,
            )
            affected = await self._breaches.affected(connection, call, scope)
            change = change_record(stored)
            event = events_pb2.LimitsChanged(
                scope=request.scope, limits=request.limits, shared=request.shared, change=change
            )
            await tell(connection, call, "limits-changed", scope, event)
            await self._breaches.look(connection, call, affected, market, "limits")
        self._states.changed(call.tenant_id)
        if request.limits.HasField("day_loss_max"):
            await self._days.before(call, affected)
        return pb.SetLimitsResponse(change=change)

    async def get_limits(self, call: Call, request: pb.GetLimitsRequest) -> pb.GetLimitsResponse:
        """The limits of a scope, in force or of a past version."""
        scope = _scope(request.scope)
        if found := list(number_violations(request)):
            raise invalid_fields(found)
        async with self._database.connection(deadline_s=call.left_s) as connection:
            if request.version:
                stored = await limits.history(
                    connection,
                    call.tenant_id,
                    scope,
                    before_version=request.version + 1,
                    limit=1,
                )
                stored = [item for item in stored if item.version == request.version]
            else:
                stored = await limits.current(connection, call.tenant_id, [scope])
        if not stored:
            raise not_found("limits", f"{scope.kind.lower()}:{scope.id}")
        document = stored[0].document
        response = pb.GetLimitsResponse(change=change_record(stored[0]))
        response.limits.CopyFrom(limits_convert.parse_limits(document.get("limits", {})))
        for bound, value in document.get("shared", {}).items():
            setattr(response.shared, bound, value)
        return response

    async def set_trading_state(
        self, call: Call, request: pb.SetTradingStateRequest
    ) -> pb.SetTradingStateResponse:
        """The kill switch: no decision computed before it can be committed after it."""
        scope = _scope(request.scope)
        names = {
            types_pb2.TRADING_STATE_ACTIVE: TradingState.ACTIVE,
            types_pb2.TRADING_STATE_REDUCING: TradingState.REDUCING,
            types_pb2.TRADING_STATE_HALTED: TradingState.HALTED,
        }
        if request.trading_state not in names:
            text = "must be ACTIVE, REDUCING or HALTED"
            raise invalid("trading_state", "MISSING", text)
        if found := list(text_violations(request.reason, "reason")):
            raise invalid_fields(found)
        async with tenant_lock.exclusively(
            self._database, call.tenant_id, deadline_s=call.left_s
        ) as connection:
            if scope.kind is ScopeKind.PORTFOLIO:
                await closing.check_open(connection, call.tenant_id, scope.id)
            stored = await trading_state.put(
                connection,
                call.tenant_id,
                scope,
                names[request.trading_state],
                author=call.author,
                reason=request.reason,
            )
            change = change_record(stored)
            event = events_pb2.TradingStateChanged(
                scope=request.scope,
                trading_state=request.trading_state,
                trading_state_version=stored.tenant_version,
                change=change,
            )
            await tell(connection, call, "trading-state-changed", scope, event)
            if stored.state is TradingState.HALTED:
                halted = _halted(scope, stored.author, stored.reason, call.trace_id)
                await outbox.append(connection, call.tenant_id, "", [halted])
        self._states.changed(call.tenant_id)
        return pb.SetTradingStateResponse(
            trading_state=request.trading_state,
            trading_state_version=stored.tenant_version,
            change=change,
        )

    async def get_trading_state(
        self, call: Call, request: pb.GetTradingStateRequest
    ) -> pb.GetTradingStateResponse:
        """The trading state of a scope by itself, and why; ACTIVE where it was never set."""
        scope = _scope(request.scope)
        async with self._database.connection(deadline_s=call.left_s) as connection:
            if scope.kind is ScopeKind.PORTFOLIO:
                await portfolios.get(connection, call.tenant_id, scope.id)
            elif scope.kind is ScopeKind.GROUP:
                await groups.get(connection, call.tenant_id, scope.id)
            found = await trading_state.current(connection, call.tenant_id, [scope])
        if not found:
            return pb.GetTradingStateResponse(trading_state=types_pb2.TRADING_STATE_ACTIVE)
        return pb.GetTradingStateResponse(
            trading_state=types_pb2.TradingState.Value(f"TRADING_STATE_{found[0].state}"),
            trading_state_version=found[0].tenant_version,
            change=change_record(found[0]),
        )

    async def list_reservations(
        self, call: Call, request: pb.ListReservationsRequest
    ) -> pb.ListReservationsResponse:
        """Open reservations, oldest first."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        size = page_size(request.page_size)
        start = page_start(request, position)
        first = 0 if start is None else start[0]
        async with self._database.connection(deadline_s=call.left_s) as connection:
            await portfolios.get(connection, call.tenant_id, portfolio_id)
            rows = await reservations.list_open(connection, call.tenant_id, portfolio_id)
        response = pb.ListReservationsResponse(
            reservations=[reservation_message(row) for row in rows[first : first + size]]
        )
        if len(rows) > first + size:
            response.next_page_token = page_token(request, first + size)
        return response


def reservation_message(row: reservations.Reservation) -> pb.Reservation:
    """A reservation with the lots still open."""
    still = np.flatnonzero(row.trade_lots_open)
    return pb.Reservation(
        decision_id=str(row.decision_id),
        strategy_id=row.strategy_id,
        instrument_ids=[row.instrument_id[i] for i in still],
        trade_lots_open=row.trade_lots_open[still].tolist(),
        lot_size=row.lot_size[still].tolist(),
        cash_open=float(row.cash_open.sum()),
        expire_time=timestamp(row.expire_time),
    )


async def _ensure_group(connection: asyncpg.Connection, tenant_id: str, group_id: str) -> None:
    try:
        await groups.get(connection, tenant_id, group_id)
    except NotFound:
        await groups.create(connection, tenant_id, group_id, group_id)


def _halted(scope: Scope, author: str, reason: str, trace_id: str) -> NewEvent:
    firm = scope.kind is ScopeKind.TENANT
    subject = "firm" if firm else f"{scope.kind.lower()}:{scope.id}"
    text = f"{author} halted trading of {subject}: {reason}"
    return alert(CRITICAL if firm else WARNING, "TRADING_HALTED", text, subject, trace_id)


def _scope(scope: pb.Scope) -> Scope:
    match scope.WhichOneof("scope"):
        case "group_id":
            return Scope(ScopeKind.GROUP, checked_id(scope.group_id, "scope.group_id"))
        case "portfolio_id":
            return Scope(ScopeKind.PORTFOLIO, checked_id(scope.portfolio_id, "scope.portfolio_id"))
        case "strategy_id":
            return Scope(ScopeKind.STRATEGY, checked_id(scope.strategy_id, "scope.strategy_id"))
    return TENANT_SCOPE
