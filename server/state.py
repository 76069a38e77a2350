"""What a decision is computed from, read from storage and kept for a moment.

A kept state may be a little old; that never harms a recorded decision, because the commit compares
every version it was computed from and refuses a stale one. For answers that are not recorded, and
for the kill switch, `STATE_AGE_MAX_S` bounds how old a state may be. Where storage can't be read
there is no state and so no size: the service fails closed.
"""

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import numpy as np
from positionsizing.v1 import market_service_pb2

from compute.adapt.schedule import Sessions
from compute.book import Floats, Market, MissingInputError, Positions, SharedUse
from compute.cache import Cache
from compute.currency import only_money, shared_in_base, without_money
from compute.limits.policy import Limits, in_force
from compute.parameters import EffectiveParameters
from server import calendars
from server.conditions import Conditions, observed
from server.convert import limits as limits_convert
from server.convert import parameters as parameters_convert
from server.convert.market import MatrixData, market, matrix
from server.kept import Kept
from server.volatility import Volatilities
from storage.postgres import groups, high_water_marks, limits, parameters, snapshots, trading_state
from storage.postgres import market as market_storage
from storage.postgres.breaches import BreachKey
from storage.postgres.listen import Change, listen
from storage.postgres.parameters import Versions as ParameterVersions
from storage.postgres.pool import Database
from storage.postgres.portfolios import Holdings, Portfolio
from storage.postgres.reservations import NewReservation, OpenTotals
from storage.postgres.scopes import Scope, ScopeKind, scopes_over
from storage.postgres.trading_state import TradingState, TradingStateChange

STATE_AGE_MAX_S = 0.25
_STATES_MAX = 16_384
"""States that are kept; those asked for least lately go first."""
_MARKETS_MAX = 64
"""Market snapshots and matrices that are kept: they are large and never grow old."""
_LOOK_MAX = 64
"""Kept states that one statement looks after."""


@dataclass(frozen=True)
class Book:
    """Holdings and open reservations of one portfolio, as stored."""

    base_currency: str
    holdings: Holdings
    totals: OpenTotals


@dataclass(frozen=True)
class PortfolioState:
    """One portfolio with every policy that applies to it, at the versions given."""

    portfolio: Portfolio
    tenant_version: int
    group_version: int | None
    book: Book
    limits: Limits | None
    """The tightest of all stored scopes; None where nothing is stored."""
    book_limits: Limits | None
    """The same without the strategy's: what holds for the book, whoever trades it."""
    breaches: frozenset[BreachKey]
    """Of those, the ones the book is known to be beyond."""
    limits_versions: str
    shared: dict[str, Any]
    others: dict[str, Book]
    """Books of the other members of the group, by id, where the group shares limits."""
    trading_state: TradingState
    trading_state_version: int
    """The tenant's version: what consumers compare with that of a halt."""
    restriction: TradingStateChange | None
    """Where the trading state comes from: who set it and why; None where it is ACTIVE."""
    parameters: EffectiveParameters
    parameters_versions: ParameterVersions
    high_water_mark: float | None = None
    """Highest equity, where a drawdown floor has been used; it changes with the version."""
    sessions: Mapping[str, Sessions] = field(default_factory=dict)
    """Of the exchanges that the schedule names."""
    conditions: Conditions = field(default_factory=dict)
    """The newest of those that rules look at; they change with the tenant's version."""
    derived: dict[tuple[Hashable, ...], Any] = field(default_factory=dict, compare=False)
    """What has been computed from this state already (`decisions.py`)."""

    @property
    def parameters_version(self) -> int:
        """The newest version of parameters in force, 0 where none are stored."""
        return max((version or 0 for version in self.parameters_versions), default=0)

    @property
    def versions(self) -> snapshots.Versions:
        """What a look at the versions finds as long as nothing has changed."""
        return snapshots.Versions(
            self.portfolio.version,
            self.tenant_version,
            self.group_version,
            self.parameters_versions,
        )


_StateKey = tuple[str, str, str]
"""Tenant, portfolio and strategy."""


class States:
    """Reads states, market data and matrices of all tenants, keeping them for a moment."""

    def __init__(self, database: Database, deadline_s: float) -> None:
        self._database = database
        self._deadline_s = deadline_s
        self._states: Kept[PortfolioState] = Kept(STATE_AGE_MAX_S, _STATES_MAX)
        self._latest: Kept[str] = Kept(STATE_AGE_MAX_S)
        self._snapshots: Kept[market_service_pb2.MarketSnapshot] = Kept(float("inf"), _MARKETS_MAX)
        self._markets: Cache[tuple[str, str, str], Market] = Cache(_MARKETS_MAX)
        self._matrices: Kept[MatrixData] = Kept(float("inf"), _MARKETS_MAX)
        self._latest_matrices: Kept[str] = Kept(STATE_AGE_MAX_S)
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
            async with self._database.transaction(deadline_s=self._deadline_s) as connection:
                return await load_state(connection, tenant_id, portfolio_id, strategy_id)

        return await self._states.get(key, load)

    async def _is_current(self, key: _StateKey, state: PortfolioState) -> bool:
        """Whether a state read before is what would be read now: versions tell, and cost little.

        The same look is taken at other states in use, so that few calls have to ask by themselves.
        """
        if state.shared:  # what the other members hold is told by no version of this portfolio
            return False
        due = {k: other for k, other in self._states.due(_LOOK_MAX).items() if not other.shared}
        asked = {**due, key: state}
        started = time.monotonic()
        async with self._database.connection(deadline_s=self._deadline_s) as connection:
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
        """Forgets which snapshot is the latest, and the states that snapshots move."""
        self._latest.drop(lambda key: key == tenant_id)
        self.volatilities.drop(tenant_id)

    def recorded(
        self,
        tenant_id: str,
        strategy_id: str,
        state: PortfolioState,
        reservation: NewReservation | None,
    ) -> None:
        """Takes in a decision that was just committed on `state`, so that it needn't be read back.

        The commit has compared the versions, so nothing else has changed since. What a decision
        does to a group is read again, as its other members need it too.
        """
        if state.group_version is not None:
            self.changed(tenant_id)
            return
        mine = (tenant_id, state.portfolio.portfolio_id, strategy_id)
        self._states.drop(lambda key: key[:2] == mine[:2] and key != mine)
        self._states.advance(mine, state, after_decision(state, reservation))

    async def snapshot(self, tenant_id: str, snapshot_id: str) -> market_service_pb2.MarketSnapshot:
        """A market snapshot, the latest where the id is empty. Errors: `NotFound`."""
        if not snapshot_id:
            snapshot_id = await self._latest.get(tenant_id, lambda: self._latest_id(tenant_id))
        key = (tenant_id, snapshot_id)
        return await self._snapshots.get(key, lambda: self._read_snapshot(*key))

    def market(
        self, tenant_id: str, snapshot: market_service_pb2.MarketSnapshot, currency: str
    ) -> Market:
        """The snapshot as arrays in a base currency. Raises `MissingInputError`."""
        key = (tenant_id, snapshot.snapshot_id, currency)
        return self._markets.get(key, lambda: market(snapshot, currency))

    async def matrix(self, tenant_id: str, matrix_id: str) -> MatrixData:
        """A stored matrix as arrays. Errors: `NotFound`."""
        key = (tenant_id, matrix_id)
        return await self._matrices.get(key, lambda: self._read_matrix(*key))

    async def latest_matrix_id(self, tenant_id: str, universe_id: str, kinds: Sequence[str]) -> str:
        """Id of the latest matrix of a universe, of one of `kinds`. Errors: `NotFound`."""

        async def load() -> str:
            async with self._database.connection(deadline_s=self._deadline_s) as connection:
                return await market_storage.latest_matrix_id(
                    connection, tenant_id, universe_id, kinds
                )

        return await self._latest_matrices.get((tenant_id, universe_id, *kinds), load)

    def matrix_changed(self, tenant_id: str, universe_id: str) -> None:
        """Forgets which matrix of a universe is the latest."""
        self._latest_matrices.drop(lambda key: key[:2] == (tenant_id, universe_id))

    async def _latest_id(self, tenant_id: str) -> str:
        async with self._database.connection(deadline_s=self._deadline_s) as connection:
            return (await market_storage.latest_snapshot(connection, tenant_id)).snapshot_id

    async def _read_snapshot(
        self, tenant_id: str, snapshot_id: str
    ) -> market_service_pb2.MarketSnapshot:
        async with self._database.connection(deadline_s=self._deadline_s) as connection:
            stored = await market_storage.get_snapshot(connection, tenant_id, snapshot_id)
        return market_service_pb2.MarketSnapshot.FromString(stored.payload)

    async def _read_matrix(self, tenant_id: str, matrix_id: str) -> MatrixData:
        async with self._database.connection(deadline_s=self._deadline_s) as connection:
            stored = await market_storage.get_matrix(connection, tenant_id, matrix_id)
        return matrix(market_service_pb2.Matrix.FromString(stored.payload))


async def load_state(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, strategy_id: str
) -> PortfolioState:
    """Reads a state; versions first, so that later changes make the commit conflict."""
    snapshot = await snapshots.read(connection, tenant_id, portfolio_id)
    portfolio = snapshot.portfolio
    scopes = scopes_over(portfolio_id, portfolio.group_id, strategy_id)
    stored_limits = await limits.current(connection, tenant_id, scopes)
    states = [snapshot.trading_state]
    if strategy_id:
        strategy = Scope(ScopeKind.STRATEGY, strategy_id)
        states.append(await trading_state.effective(connection, tenant_id, [strategy]))
    strictest, restriction = trading_state.strictest(states), None
    if strictest is not TradingState.ACTIVE:
        restriction = await trading_state.cause(connection, tenant_id, scopes)
    layers = await parameters.layers(
        connection,
        tenant_id,
        portfolio_id=portfolio_id,
        strategy_id=strategy_id,
        time=datetime.now(UTC),
    )
    in_use = parameters_convert.effective(layer.document for layer in layers)
    shared: dict[str, Any] = next(
        (item.document.get("shared", {}) for item in stored_limits if item.scope.kind == "GROUP"),
        {},
    )
    others: dict[str, Book] = {}
    if shared and portfolio.group_id is not None:
        members = await groups.members(connection, tenant_id, portfolio.group_id)
        members.remove(portfolio_id)
        for other in await snapshots.read_many(connection, tenant_id, members):
            others[other.portfolio.portfolio_id] = Book(
                other.portfolio.base_currency, other.holdings, other.reserved
            )
    base_currency = portfolio.base_currency
    bounds = _merged(stored_limits, base_currency)
    of_book = [item for item in stored_limits if item.scope.kind is not ScopeKind.STRATEGY]
    return PortfolioState(
        portfolio=portfolio,
        tenant_version=snapshot.tenant_version,
        group_version=snapshot.group_version,
        book=Book(base_currency, snapshot.holdings, snapshot.reserved),
        limits=bounds,
        book_limits=bounds if of_book == stored_limits else _merged(of_book, base_currency),
        breaches=snapshot.breaches,
        limits_versions=" ".join(
            f"{item.scope.kind.lower()}:{item.scope.id}@{item.version}" for item in stored_limits
        ),
        shared=dict(shared),
        others=others,
        trading_state=strictest,
        trading_state_version=snapshot.tenant_version,
        restriction=restriction,
        parameters=in_use,
        parameters_versions=parameters.versions_of(layers, portfolio_id, strategy_id),
        sessions=await calendars.sessions(in_use.schedule),
        conditions=await observed(connection, tenant_id, in_use),
        high_water_mark=await high_water_marks.get(connection, tenant_id, portfolio_id),
    )


def _merged(stored: Sequence[limits.LimitSet], base_currency: str) -> Limits | None:
    """The limits in force; those of scopes in other currencies wait in it for their rates."""
    if not stored:
        return None
    book: list[Limits] = []
    narrower: list[Limits] = []
    foreign: list[Limits] = []
    for item in stored:
        limits = limits_convert.limits_of_document(item.document.get("limits", {}))
        if limits.currency in (None, base_currency):
            limits = replace(limits, currency=None)
        else:
            foreign.append(limits)
            limits = without_money(limits)
        (narrower if item.scope.kind is ScopeKind.STRATEGY else book).append(limits)
    return replace(in_force(book, narrower), foreign=tuple(map(only_money, foreign)))


def after_decision(state: PortfolioState, reservation: NewReservation | None) -> PortfolioState:
    """The state that a decision leaves: the next version, with what it reserves."""
    portfolio = replace(state.portfolio, version=state.portfolio.version + 1)
    if reservation is None:
        return replace(state, portfolio=portfolio)
    book = replace(state.book, totals=state.book.totals.plus(reservation))
    earlier = {("earlier", *key): made for key, made in state.derived.items() if key[0] == "sheet"}
    return replace(state, portfolio=portfolio, book=book, derived=earlier)


def positions(state: PortfolioState, prices: Market) -> Positions:
    """Holdings and reservations over the instruments of a market. Raises `MissingInputError`."""
    held, totals = state.book.holdings, state.book.totals
    buy, sell = _over(prices, totals.instrument_id, totals.buy_quantity, totals.sell_quantity)
    units, entry = _over(prices, held.instrument_id, held.quantity, held.average_price)
    gains = 0.0
    if prices.contracts is not None:
        gains = float(prices.contracts.gains(units, np.where(units != 0.0, entry, np.nan)).sum())
    return Positions(
        gains=gains,
        held=units,
        open_buy=buy,
        open_sell=-sell,
        cash=state.portfolio.cash,
        cash_reserved=totals.cash,
    )


def shared_use(state: PortfolioState, prices: Market) -> SharedUse | None:
    """What the other members of the group use, at their worst. Raises `MissingInputError`."""
    if not state.shared:
        return None
    notional = np.zeros(len(prices.price))
    for book in state.others.values():
        (held,) = _over(prices, book.holdings.instrument_id, book.holdings.quantity)
        totals = book.totals
        buy, sell = _over(prices, totals.instrument_id, totals.buy_quantity, totals.sell_quantity)
        notional += prices.price * np.maximum(np.abs(held + buy), np.abs(held + sell))
    bounds = limits_convert.shared_of_document(state.shared)
    bases = {state.portfolio.base_currency, *(book.base_currency for book in state.others.values())}
    bounds = shared_in_base(bounds, prices.rates, has_one_base=len(bases) == 1)
    return SharedUse(bounds, float(notional.sum()), notional)


def _over(prices: Market, names: tuple[str, ...], *columns: Floats) -> list[Floats]:
    """Columns of the named instruments, each over all instruments of the market."""
    places = prices.places(names)
    known = places >= 0
    if not known.all():
        used = np.any([column != 0.0 for column in columns], axis=0)
        for line in np.flatnonzero(~known & used):
            raise MissingInputError(
                "MISSING_PRICE",
                f"{names[line]!r} is held or reserved, but the market snapshot has no price for it",
            )
    out = [np.zeros(len(prices.price)) for _ in columns]
    for over, column in zip(out, columns, strict=True):
        over[places[known]] = column[known]
    return out
