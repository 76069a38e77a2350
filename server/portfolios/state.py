"""What a decision is computed from, read from storage and kept for a moment.

A kept state may be a little old; that never harms a recorded decision, because the commit compares
every version it was computed from and refuses a stale one. For answers that are not recorded, and
for the kill switch, `STATE_AGE_MAX_S` bounds how old a state may be. Where storage can't be read
there is no state and so no size: the service fails closed.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import asyncpg

from compute.cache import Cache
from compute.market import Market, MissingInputError
from server.convert.market import Snapshot, market
from server.convert.matrix import MatrixData, stored_matrix
from server.market.missed_actions import MissedActions
from server.market.price_jumps import PriceJumps
from server.market.volatility import Volatilities
from server.portfolios.portfolio_state import Elsewhere, PortfolioState, after_decision, load_state
from server.refreshing_cache import RefreshingCache
from storage.errors import NotFound
from storage.postgres import market as market_storage
from storage.postgres import matrices, snapshots
from storage.postgres.listen import Change, listen
from storage.postgres.pool import Database
from storage.postgres.reservations import NewReservation

STATE_AGE_MAX_S = 0.25
_STATES_MAX = 16_384
"""States that are kept; those asked for least lately go first."""
_MARKETS_MAX = 64
"""Market snapshots and matrices that are kept: they are large and never grow old."""
_LOOK_MAX = 64
"""Kept states that one statement looks after."""


_StateKey = tuple[str, str, str]
"""Tenant, portfolio and strategy."""
NewestOf = Callable[[str], Awaitable[Snapshot | None]]
"""The newest snapshot of a universe, None where there is none."""


class States:
    """Reads states, market data and matrices of all tenants, keeping them for a moment."""

    def __init__(self, database: Database, deadline_s: float) -> None:
        self._database = database
        self._deadline_s = deadline_s
        self._states: RefreshingCache[PortfolioState] = RefreshingCache(
            STATE_AGE_MAX_S,
            _STATES_MAX,
            family=lambda key: key[:2],  # a portfolio's
        )
        self._latest: RefreshingCache[str] = RefreshingCache(STATE_AGE_MAX_S)
        self._snapshots: RefreshingCache[Snapshot] = RefreshingCache(float("inf"), _MARKETS_MAX)
        self._markets: Cache[tuple[str, str, str], Market] = Cache(_MARKETS_MAX)
        self._matrices: RefreshingCache[MatrixData] = RefreshingCache(float("inf"), _MARKETS_MAX)
        self._latest_matrices: RefreshingCache[str] = RefreshingCache(STATE_AGE_MAX_S)
        self.price_jumps = PriceJumps(database, deadline_s)
        self.missed_actions = MissedActions(database, deadline_s)
        self.volatilities = Volatilities(database, STATE_AGE_MAX_S, deadline_s)

    async def portfolio(
        self, tenant_id: str, portfolio_id: str, strategy_id: str
    ) -> PortfolioState:
        """The state of a portfolio for a strategy. Errors: `NotFound`, `Unavailable`."""
        key = (tenant_id, portfolio_id, strategy_id)

        async def load() -> PortfolioState:
            known = self._states.last(key)
            if known is not None and await self._is_current(key, known):
                return known
            async with self._database.transaction(
                tenant_id, deadline_s=self._deadline_s
            ) as connection:
                state = await load_state(connection, tenant_id, portfolio_id, strategy_id)
            return await self.with_others_priced(tenant_id, state)

        return await self._states.get(key, load)

    async def _is_current(self, key: _StateKey, state: PortfolioState) -> bool:
        """Whether a state read before is what would be read now: versions tell, and cost little.

        The same look is taken at other states of the tenant in use, so that few calls have to ask
        by themselves.
        """
        if state.shared:  # what the other members hold is told by no version of this portfolio
            return False
        tenant_id = key[0]
        due = {
            k: other
            for k, other in self._states.due(_LOOK_MAX, lambda k: k[0] == tenant_id).items()
            if not other.shared
        }
        asked = {**due, key: state}
        started = time.monotonic()
        async with self._database.connection(tenant_id, deadline_s=self._deadline_s) as connection:
            found = await snapshots.versions(connection, list(asked), datetime.now(UTC))
        for other, its in due.items():
            if found.get(other) == its.versions:
                self._states.renew(other, its, started)
        return found.get(key) == state.versions

    async def listen(self) -> None:
        """Forgets what other processes change as soon as they tell, until cancelled.

        It saves computing from what is old. The truth is what versions and ages say: a listener
        that hears nothing makes no answer wrong, nor any older than a state may be.
        """
        await listen(
            self._database.dsn,
            on_change=lambda change: self._heard(change),
            on_reconnect=lambda: self._states.drop(),
        )

    def _heard(self, change: Change) -> None:
        if change.kind == "market_snapshot":
            self._market_moved(change.tenant_id)
        elif change.kind != "market_matrix":
            self.changed(change.tenant_id)

    def changed(self, tenant_id: str, portfolio_ids: set[str] | None = None) -> None:
        """Forgets the states of a tenant, or of some of its portfolios, and the latest market."""
        self._states.drop(
            lambda key: key[0] == tenant_id and (portfolio_ids is None or key[1] in portfolio_ids)
        )
        if portfolio_ids is None:
            self._market_moved(tenant_id)

    def _market_moved(self, tenant_id: str) -> None:
        """Forgets which snapshots are the latest, and the states that snapshots move."""
        self._latest.drop(lambda key: key[0] == tenant_id)
        self.volatilities.drop(tenant_id)

    def recorded(
        self,
        tenant_id: str,
        strategy_id: str,
        state: PortfolioState,
        reservation: NewReservation | None,
        equity: float | None,
    ) -> None:
        """Takes in a decision that was just committed on `state`, so that it needn't be read back.

        The commit has compared the versions, so nothing else has changed since. What a decision
        does to a group is read again, as its other members need it too.
        """
        if state.group_version is not None:
            self.changed(tenant_id)
            return
        mine = (tenant_id, state.portfolio.portfolio_id, strategy_id)
        self._states.drop_family(mine)
        self._states.advance(mine, state, after_decision(state, reservation, equity))

    async def snapshot(self, tenant_id: str, snapshot_id: str) -> Snapshot:
        """The market snapshot of this id, of whichever universe. Errors: `NotFound`."""
        key = (tenant_id, snapshot_id)
        return await self._snapshots.get(key, lambda: self._read_snapshot(*key))

    async def snapshot_of(
        self, tenant_id: str, universe_id: str, snapshot_id: str = ""
    ) -> Snapshot:
        """The newest snapshot of a universe, or the one that is named. Errors: `NotFound`."""
        if not snapshot_id:
            key = (tenant_id, universe_id)
            snapshot_id = await self._latest.get(key, lambda: self._latest_id(*key))
        return await self.snapshot(tenant_id, snapshot_id)

    async def newest(self, tenant_id: str, universe_id: str) -> Snapshot | None:
        """The newest snapshot of a universe; None: none yet. Not inside a transaction."""
        try:
            return await self.snapshot_of(tenant_id, universe_id)
        except NotFound:
            return None

    async def newest_within(
        self, connection: asyncpg.Connection, tenant_id: str, universe_id: str
    ) -> Snapshot | None:
        """The newest snapshot of a universe for the transaction of `connection`; None: none yet."""
        found = self._latest.peek((tenant_id, universe_id))
        if found is None:
            try:
                found = await market_storage.latest_id(connection, tenant_id, universe_id)
            except NotFound:
                return None
        kept = self._snapshots.last((tenant_id, found))
        if kept is not None:
            return kept
        stored = await market_storage.get_snapshot(connection, tenant_id, found)
        return Snapshot.of(stored.payload)

    async def with_others_priced(
        self, tenant_id: str, state: PortfolioState, look: NewestOf | None = None
    ) -> PortfolioState:
        """The state with prices of what members of other universes hold (`shared_use`).

        look: what finds the newest snapshot of a universe inside a transaction, where jumps of
        prices are not looked for; None outside.
        """
        is_outside, look = look is None, look or partial(self.newest, tenant_id)
        own, base = state.portfolio.universe_id, state.portfolio.base_currency
        newest: dict[str, Snapshot | None] = {own: None}
        others = dict(state.others)
        for portfolio_id, book in state.others.items():
            universe_id = book.universe_id
            if universe_id not in newest:
                newest[universe_id] = await look(universe_id)
            snapshot = newest[universe_id]
            if snapshot is not None:
                prices = dict[str, float]()
                with suppress(MissingInputError):  # no rate, so no price in the base currency
                    prices = priced(self.market(tenant_id, snapshot, base), book.instrument_ids)
                elsewhere = Elsewhere(snapshot.as_of_time, prices)
                if is_outside:
                    version = state.tenant_version
                    jumped = await self.price_jumps.instruments(tenant_id, version, snapshot, base)
                    elsewhere = replace(elsewhere, jumped=jumped)
                others[portfolio_id] = replace(book, elsewhere=elsewhere)
        return replace(state, others=others) if len(newest) > 1 else state

    def market(self, tenant_id: str, snapshot: Snapshot, currency: str) -> Market:
        """The snapshot as arrays in a base currency. Raises `MissingInputError`."""
        key = (tenant_id, snapshot.snapshot_id, currency)
        return self._markets.get(key, lambda: market(snapshot.message, currency))

    async def matrix(self, tenant_id: str, matrix_id: str) -> MatrixData:
        """A stored matrix as arrays. Errors: `NotFound`."""
        key = (tenant_id, matrix_id)
        return await self._matrices.get(key, lambda: self._read_matrix(*key))

    async def latest_matrix_id(self, tenant_id: str, universe_id: str, kinds: Sequence[str]) -> str:
        """Id of the latest matrix of a universe, of one of `kinds`. Errors: `NotFound`."""

        async def load() -> str:
            async with self._database.connection(
                tenant_id, deadline_s=self._deadline_s
            ) as connection:
                return await matrices.latest_id(connection, tenant_id, universe_id, kinds)

        return await self._latest_matrices.get((tenant_id, universe_id, *kinds), load)

    async def matrix_within(
        self,
        connection: asyncpg.Connection,
        tenant_id: str,
        universe_id: str,
        kinds: Sequence[str],
    ) -> MatrixData:
        """The latest matrix of a universe as the transaction of `connection` sees it, not kept.

        Errors: `NotFound`.
        """
        found = await matrices.latest_id(connection, tenant_id, universe_id, kinds)
        kept = self._matrices.last((tenant_id, found))
        if kept is not None:
            return kept
        stored = await matrices.get(connection, tenant_id, found)
        return stored_matrix(stored.payload)

    def matrix_changed(self, tenant_id: str, universe_id: str) -> None:
        """Forgets which matrix of a universe is the latest."""
        self._latest_matrices.drop(lambda key: key[:2] == (tenant_id, universe_id))

    async def _latest_id(self, tenant_id: str, universe_id: str) -> str:
        async with self._database.connection(tenant_id, deadline_s=self._deadline_s) as connection:
            return await market_storage.latest_id(connection, tenant_id, universe_id)

    async def _read_snapshot(self, tenant_id: str, snapshot_id: str) -> Snapshot:
        async with self._database.connection(tenant_id, deadline_s=self._deadline_s) as connection:
            stored = await market_storage.get_snapshot(connection, tenant_id, snapshot_id)
        return Snapshot.of(stored.payload)

    async def _read_matrix(self, tenant_id: str, matrix_id: str) -> MatrixData:
        async with self._database.connection(tenant_id, deadline_s=self._deadline_s) as connection:
            stored = await matrices.get(connection, tenant_id, matrix_id)
        return stored_matrix(stored.payload)


def priced(prices: Market, names: Sequence[str]) -> dict[str, float]:
    """The prices of those of these instruments that a market has."""
    places = prices.places(names)
    return {
        name: float(prices.price[place])
        for name, place in zip(names, places.tolist(), strict=True)
        if place >= 0
    }
