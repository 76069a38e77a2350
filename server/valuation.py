"""What a stored portfolio is worth at a market, read in the transaction that asks."""

import asyncpg
from positionsizing.v1 import market_service_pb2

from compute.market import MissingInputError, equity_of
from server.portfolio_state import PortfolioState, load_state, positions
from server.state import States
from storage.errors import NotFound

Snapshot = market_service_pb2.MarketSnapshot | None


async def newest_market(states: States, tenant_id: str) -> Snapshot:
    """The newest market, None where there is none. Ask before the transaction begins."""
    try:
        return await states.snapshot(tenant_id, "")
    except NotFound:
        return None


async def stored_equity(
    connection: asyncpg.Connection,
    states: States,
    tenant_id: str,
    portfolio_id: str,
    market: Snapshot,
) -> float | None:
    """Equity in the base currency; None where the market doesn't value what is held."""
    if market is None:
        return None
    state = await load_state(connection, tenant_id, portfolio_id, "")
    return equity_at(states, tenant_id, state, market)


def equity_at(
    states: States, tenant_id: str, state: PortfolioState, market: market_service_pb2.MarketSnapshot
) -> float | None:
    """Equity of a state in the base currency; None where the market doesn't value what is held."""
    try:
        prices = states.market(tenant_id, market, state.portfolio.base_currency)
        return equity_of(prices, positions(state, prices))
    except MissingInputError:
        return None
