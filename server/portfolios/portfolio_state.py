"""A portfolio with every policy over it, at the versions it was read at."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import numpy as np

from compute.adapt.schedule import Sessions
from compute.limits.policy import Limits, in_force
from compute.market import Floats, Market, MissingInputError, Positions, SharedUse
from compute.money.currency import only_money, rate_of, shared_in_base, without_money
from compute.parameters import EffectiveParameters
from server import calendars
from server.convert import limits as limits_convert
from server.convert import parameters as parameters_convert
from server.parameters.conditions import Conditions, observed
from storage.postgres import groups, high_water_marks, limits, parameters, snapshots, trading_state
from storage.postgres.breaches import BreachKey
from storage.postgres.parameters import ParameterSet
from storage.postgres.parameters import Versions as ParameterVersions
from storage.postgres.portfolios import Holdings, Portfolio
from storage.postgres.reservations import NewReservation, OpenTotals
from storage.postgres.scopes import Scope, ScopeKind, scopes_over
from storage.postgres.trading_state import TradingState, TradingStateChange


@dataclass(frozen=True)
class Elsewhere:
    """Prices of what a member of another universe holds, at the newest of that, as of `time`.

    By instrument, in the base currency of the portfolio that looks; without those it doesn't have.
    jumped: those whose price is not accepted.
    """

    time: datetime
    price: Mapping[str, float]
    jumped: frozenset[str] = frozenset()


@dataclass(frozen=True)
class StoredPositions:
    """Holdings and open reservations of one portfolio, as stored."""

    base_currency: str
    holdings: Holdings
    totals: OpenTotals
    universe_id: str = ""
    elsewhere: Elsewhere | None = None
    """Of another member in another universe; None in the same one, or where that has none yet."""

    @property
    def instrument_ids(self) -> tuple[str, ...]:
        """What is held or reserved."""
        return tuple(dict.fromkeys((*self.holdings.instrument_id, *self.totals.instrument_id)))


@dataclass(frozen=True)
class PortfolioState:
    """One portfolio with every policy that applies to it, at the versions given."""

    portfolio: Portfolio
    tenant_version: int
    group_version: int | None
    book: StoredPositions
    limits: Limits | None
    """The tightest of all stored scopes; None where nothing is stored."""
    book_limits: Limits | None
    """The same without the strategy's: what holds for the book, whoever trades it."""
    breaches: frozenset[BreachKey]
    """Of those, the ones the book is known to be beyond."""
    limits_versions: str
    shared: dict[str, Any]
    others: dict[str, StoredPositions]
    """Books of the other members of the group, by id, where the group shares limits."""
    trading_state: TradingState
    trading_state_version: int
    """The tenant's version: what consumers compare with that of a halt."""
    restriction: TradingStateChange | None
    """Where the trading state comes from: who set it and why; None where it is ACTIVE."""
    parameters: EffectiveParameters
    parameters_versions: ParameterVersions
    book_parameters: EffectiveParameters
    """Those in force without the strategy's."""
    high_water_mark: float | None = None
    """Highest equity, where a drawdown floor has been used; it changes with the version."""
    sessions: Mapping[str, Sessions] = field(default_factory=dict)
    """Of the exchanges that the schedule names."""
    conditions: Conditions = field(default_factory=dict)
    """The newest of those that rules look at; they change with the tenant's version."""
    strategy_id: str = ""
    """The strategy it was read for."""
    derived: dict[tuple[Hashable, ...], Any] = field(default_factory=dict, compare=False)
    """What has been computed from this state already (`sizing/assembly.py`)."""

    @property
    def parameters_version(self) -> int:
        """The newest version of parameters in force, 0 where none are stored."""
        return max((version or 0 for version in self.parameters_versions), default=0)

    @property
    def instrument_ids(self) -> set[str]:
        """What is held or reserved by the portfolio, and by others whose books it reads."""
        others = (book.instrument_ids for book in self.others.values())
        return self.own_instrument_ids.union(*others)

    @property
    def own_instrument_ids(self) -> set[str]:
        """What is held or reserved by the portfolio."""
        return set(self.book.instrument_ids)

    @property
    def versions(self) -> snapshots.Versions:
        """What a look at the versions finds as long as nothing has changed."""
        return snapshots.Versions(
            self.portfolio.version,
            self.tenant_version,
            self.group_version,
            self.parameters_versions,
        )


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
    others: dict[str, StoredPositions] = {}
    if shared and portfolio.group_id is not None:
        members = await groups.members(connection, tenant_id, portfolio.group_id)
        members.remove(portfolio_id)
        for other in await snapshots.read_many(connection, tenant_id, members):
            others[other.portfolio.portfolio_id] = StoredPositions(
                other.portfolio.base_currency,
                other.holdings,
                other.reserved,
                other.portfolio.universe_id,
            )
    base_currency = portfolio.base_currency
    bounds = _merged(stored_limits, base_currency)
    of_book = [item for item in stored_limits if item.scope.kind is not ScopeKind.STRATEGY]
    return PortfolioState(
        portfolio=portfolio,
        tenant_version=snapshot.tenant_version,
        group_version=snapshot.group_version,
        book=StoredPositions(
            base_currency, snapshot.holdings, snapshot.reserved, portfolio.universe_id
        ),
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
        book_parameters=_of_book(layers, in_use),
        sessions=await calendars.sessions(in_use.schedule),
        strategy_id=strategy_id,
        conditions=await observed(connection, tenant_id, in_use, portfolio_id, strategy_id),
        high_water_mark=await high_water_marks.get(connection, tenant_id, portfolio_id),
    )


def _of_book(layers: Sequence[ParameterSet], in_use: EffectiveParameters) -> EffectiveParameters:
    """The parameters in force for a portfolio, whoever trades it."""
    own = [layer.document for layer in layers if not layer.strategy_id]
    return in_use if len(own) == len(layers) else parameters_convert.effective(own)


async def restated(
    connection: asyncpg.Connection,
    tenant_id: str,
    state: PortfolioState,
    in_use: EffectiveParameters,
) -> PortfolioState:
    """The state as it would be under other parameters."""
    owner = state.portfolio.portfolio_id, state.strategy_id
    return replace(
        state,
        parameters=in_use,
        sessions=await calendars.sessions(in_use.schedule),
        conditions=await observed(connection, tenant_id, in_use, *owner),
        derived={},
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


def after_decision(
    state: PortfolioState, reservation: NewReservation | None, equity: float | None
) -> PortfolioState:
    """The state that a decision at `equity` leaves: the next version, with what it reserves."""
    accepted = state.portfolio.equity_accepted if equity is None else equity
    portfolio = replace(
        state.portfolio, version=state.portfolio.version + 1, equity_accepted=accepted
    )
    if reservation is None:
        return replace(state, portfolio=portfolio)
    book = replace(state.book, totals=state.book.totals.plus(reservation))
    earlier = {
        ("earlier", *key): made for key, made in state.derived.items() if key[0] == "limit_bounds"
    }
    return replace(state, portfolio=portfolio, book=book, derived=earlier)


def positions(state: PortfolioState, prices: Market) -> Positions:
    """Holdings and reservations over the instruments of a market. Raises `MissingInputError`."""
    held, totals = state.book.holdings, state.book.totals
    _check_priced(state, prices)
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
        cash=cash_in_base(state.portfolio, prices),
        cash_reserved=totals.cash,
    )


def cash_in_base(portfolio: Portfolio, prices: Market) -> float:
    """Cash of all currencies at a market's rates. Raises `MissingInputError`."""
    total = portfolio.cash
    for code, amount in portfolio.balances.items():
        if amount != 0.0:
            total += amount * rate_of(prices.rates, code, "cash")
    return total


def shared_use(state: PortfolioState, prices: Market) -> SharedUse | None:
    """What the other members of the group use, at their worst. Raises `MissingInputError`."""
    if not state.shared:
        return None
    notional, elsewhere = others_use(state, prices)
    bounds = limits_convert.shared_of_document(state.shared)
    bases = {state.portfolio.base_currency, *(book.base_currency for book in state.others.values())}
    bounds = shared_in_base(bounds, prices.rates, has_one_base=len(bases) == 1)
    return SharedUse(bounds, float(notional.sum()) + sum(elsewhere.values()), notional)


def others_use(state: PortfolioState, prices: Market) -> tuple[Floats, dict[str, float]]:
    """Absolute notional of the other members at their worst, base currency.

    Of each instrument of the market, (m,), and by name of those that only the universes of members
    have. Raises `MissingInputError`.
    """
    notional, elsewhere = np.zeros(len(prices.price)), dict[str, float]()
    for portfolio_id, book in state.others.items():
        (held,) = _over(prices, book.holdings.instrument_id, book.holdings.quantity)
        totals = book.totals
        buy, sell = _over(prices, totals.instrument_id, totals.buy_quantity, totals.sell_quantity)
        notional += prices.price * np.maximum(np.abs(held + buy), np.abs(held + sell))
        for name, units in _absent(book, prices).items():
            price = book.elsewhere.price.get(name) if book.elsewhere is not None else None
            if price is None:
                raise _unpriced_of_group(state, portfolio_id, name)
            elsewhere[name] = elsewhere.get(name, 0.0) + abs(price) * units
    return notional, elsewhere


def _absent(book: StoredPositions, prices: Market) -> dict[str, float]:
    """Units at their worst of what is held or reserved and not in a market, by instrument."""
    units = {n: [0.0, 0.0, 0.0] for n in book.instrument_ids if n not in prices.index}
    if not units:
        return {}
    held, totals = book.holdings, book.totals
    for column, (ids, amounts) in enumerate(
        (
            (held.instrument_id, held.quantity),
            (totals.instrument_id, totals.buy_quantity),
            (totals.instrument_id, totals.sell_quantity),
        )
    ):
        for name, amount in zip(ids, amounts.tolist(), strict=True):
            if name in units:
                units[name][column] = amount
    worst = {name: max(abs(h + b), abs(h + s)) for name, (h, b, s) in units.items()}
    return {name: amount for name, amount in worst.items() if amount}


def _check_priced(state: PortfolioState, prices: Market) -> None:
    """Raises `MissingInputError` where a market has no price for what is held or reserved."""
    for name in _absent(state.book, prices):
        raise MissingInputError(
            "MISSING_PRICE",
            f"{name!r} is held or reserved, but the market snapshot has no price for it; a request "
            f"that names none takes the newest of {universe_words(state.portfolio.universe_id)}: "
            "name one that has it (market_snapshot_id), load one, or set the universe that the "
            "portfolio is priced at (SetUniverse)",
        )


def _unpriced_of_group(state: PortfolioState, other_id: str, name: str) -> MissingInputError:
    other = state.others[other_id]
    where = "the market snapshot has no price for it"
    if other.universe_id != state.portfolio.universe_id:
        where = (
            "neither the market snapshot nor the newest of "
            f"{universe_words(other.universe_id)} has a price for it"
        )
    return MissingInputError(
        "MISSING_PRICE",
        f"{name!r} is held or reserved by {other_id!r}, which shares limits with it, but {where} "
        f"in {state.portfolio.base_currency}: load one that has, or name one that has all that "
        "the group holds (market_snapshot_id)",
    )


def universe_words(universe_id: str) -> str:
    """A universe of market snapshots in an error."""
    return f"universe {universe_id!r}" if universe_id else "the universe without a name"


def _over(prices: Market, names: tuple[str, ...], *columns: Floats) -> list[Floats]:
    """Columns of the named instruments, each over all instruments of the market."""
    places = prices.places(names)
    known = places >= 0
    out = [np.zeros(len(prices.price)) for _ in columns]
    for over, column in zip(out, columns, strict=True):
        over[places[known]] = column[known]
    return out
