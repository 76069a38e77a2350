"""What a stored portfolio is worth at a market, read in the transaction that asks."""

import asyncpg

from compute.market import MissingInputError, equity_of
from server.convert.market import Snapshot
from server.market.missed_actions import missed
from server.market.price_jumps import SNAPSHOTS_BACK, jumped_of, not_accepted
from server.portfolios.portfolio_state import PortfolioState, load_state
from server.portfolios.positions import positions
from server.portfolios.state import States
from storage.postgres import corporate_actions, price_jumps, universes


class NewestMarkets:
    """The newest snapshots of universes for one piece of work, each read once."""

    def __init__(self, states: States, tenant_id: str) -> None:
        self._states = states
        self._tenant_id = tenant_id
        self._known: dict[str, Snapshot | None] = {}

    async def of(self, connection: asyncpg.Connection, universe_id: str) -> Snapshot | None:
        """The newest of a universe, None where there is none."""
        if universe_id not in self._known:
            self._known[universe_id] = await self._states.newest_within(
                connection, self._tenant_id, universe_id
            )
        return self._known[universe_id]


async def newest_market(
    connection: asyncpg.Connection, states: States, tenant_id: str, portfolio_id: str
) -> Snapshot | None:
    """The newest snapshot of the universe of a portfolio, None where there is none.

    Errors: `NotFound` (the portfolio).
    """
    universe_id = await universes.of_portfolio(connection, tenant_id, portfolio_id)
    return await states.newest_within(connection, tenant_id, universe_id)


async def stored_equity(
    connection: asyncpg.Connection,
    states: States,
    tenant_id: str,
    portfolio_id: str,
    market: Snapshot | None,
) -> float | None:
    """Equity in the base currency; None as in `known_equity`, and where there is no market."""
    if market is None:
        return None
    state = await load_state(connection, tenant_id, portfolio_id, "")
    return await known_equity(connection, states, tenant_id, state, market)


async def last_equity(
    connection: asyncpg.Connection,
    states: States,
    tenant_id: str,
    portfolio_id: str,
    market: Snapshot | None,
) -> float | None:
    """The same at the newest snapshot of its universe that values what is held."""
    if market is None:
        return None
    state = await load_state(connection, tenant_id, portfolio_id, "")
    equity = await known_equity(connection, states, tenant_id, state, market)
    back = 0
    while equity is None and back < SNAPSHOTS_BACK:
        back += 1
        earlier = await price_jumps.snapshot_before(
            connection, tenant_id, market.universe_id, market.as_of_time, back
        )
        if earlier is None:
            return None
        snapshot = Snapshot.of(earlier.payload)
        equity = await known_equity(connection, states, tenant_id, state, snapshot)
    return equity


async def known_equity(
    connection: asyncpg.Connection,
    states: States,
    tenant_id: str,
    state: PortfolioState,
    market: Snapshot,
) -> float | None:
    """Equity of a state in the base currency.

    None where the market doesn't value what is held, where a price that does is not accepted, or is
    from before a corporate action.
    """
    actions = await corporate_actions.after(connection, tenant_id, market.as_of_time)
    if missed(actions, market) & {*state.book.holdings.instrument_id}:
        return None
    jumped = await price_jumps.of_snapshot(connection, tenant_id, market.snapshot_id)
    names = not_accepted(jumped, market, state.portfolio.base_currency) if jumped else frozenset()
    return equity_at(states, tenant_id, state, market, names)


def equity_at(
    states: States,
    tenant_id: str,
    state: PortfolioState,
    market: Snapshot,
    jumped: frozenset[str],
) -> float | None:
    """The same with the instruments whose prices are not accepted."""
    try:
        prices = states.market(tenant_id, market, state.portfolio.base_currency)
        held = positions(state, prices)
        return None if jumped_of(prices, held, jumped) else equity_of(prices, held)
    except MissingInputError:
        return None
