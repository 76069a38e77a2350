"""What is read of a portfolio, and what is told when it, its trading state or its limits change."""

import asyncpg
import numpy as np
from positionsizing.v1 import events_pb2, types_pb2
from positionsizing.v1 import portfolio_service_pb2 as pb

from server.calls.request_context import Call
from server.convert.change_record import change_record
from server.convert.columns import set_floats
from server.convert.portfolio import portfolio_message
from server.convert.portfolio_changed import PortfolioChange, changed_event
from storage.postgres import closing, high_water_marks, outbox, portfolios, trading_state
from storage.postgres.outbox import NewEvent
from storage.postgres.requests import Request
from storage.postgres.scopes import Scope, ScopeKind
from storage.postgres.trading_state import TradingState


async def read_portfolio(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str
) -> pb.Portfolio:
    """As stored, with holdings and trading state."""
    row = await portfolios.get(connection, tenant_id, portfolio_id)
    held = await portfolios.holdings(connection, tenant_id, portfolio_id)
    scope = Scope(ScopeKind.PORTFOLIO, portfolio_id)
    state = await trading_state.effective(connection, tenant_id, [scope])
    closed = await closing.close_times(connection, tenant_id, [portfolio_id])
    message = portfolio_message(row, closed.get(portfolio_id))
    message.holdings.instrument_ids.extend(held.instrument_id)
    set_floats(message.holdings, "quantity", held.quantity)
    set_floats(message.holdings, "average_price", np.nan_to_num(held.average_price, nan=0.0))
    message.trading_state = types_pb2.TradingState.Value(f"TRADING_STATE_{state}")
    return message


async def tell_changed(
    connection: asyncpg.Connection,
    call: Call,
    kind: PortfolioChange,
    stored: pb.Portfolio,
    *,
    reason: str = "",
    request: Request | None = None,
) -> None:
    """That a portfolio was changed, in its own stream. stored: after it; request: of AdjustCash."""
    key = (call.tenant_id, stored.portfolio_id)
    accepted = (await portfolios.get(connection, *key)).equity_accepted
    mark = await high_water_marks.get(connection, *key)
    event = changed_event(
        kind, stored, accepted, mark, author=call.author, reason=reason, request=request
    )

    def build(sequence: int) -> bytes:
        event.portfolio_sequence = sequence
        return event.SerializeToString()

    made = NewEvent("portfolio-changed", "PortfolioChanged", build, trace_id=call.trace_id)
    await outbox.append(connection, *key, [made])


async def tell(
    connection: asyncpg.Connection,
    call: Call,
    topic: str,
    scope: Scope,
    event: events_pb2.LimitsChanged | events_pb2.TradingStateChanged,
) -> None:
    """In the stream of the portfolio it is about, or in the tenant's."""
    payload = event.SerializeToString()
    made = NewEvent(topic, event.DESCRIPTOR.name, lambda _: payload, trace_id=call.trace_id)
    stream = scope.id if scope.kind is ScopeKind.PORTFOLIO else ""
    await outbox.append(connection, call.tenant_id, stream, [made])


async def set_state_and_tell(
    connection: asyncpg.Connection,
    call: Call,
    scope: Scope,
    state: TradingState,
    *,
    author: str,
    reason: str,
) -> None:
    """What the service decides by itself; see `trading_state.put`."""
    stored = await trading_state.put(
        connection, call.tenant_id, scope, state, author=author, reason=reason
    )
    event = events_pb2.TradingStateChanged(
        scope=scope_message(scope),
        trading_state=types_pb2.TradingState.Value(f"TRADING_STATE_{state}"),
        trading_state_version=stored.tenant_version,
        change=change_record(stored),
    )
    await tell(connection, call, "trading-state-changed", scope, event)


def scope_message(scope: Scope) -> pb.Scope:
    """A scope as the contract has it."""
    if scope.kind is ScopeKind.TENANT:
        return pb.Scope()
    return pb.Scope(**{f"{scope.kind.lower()}_id": scope.id})
