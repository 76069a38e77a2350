"""A portfolio with every policy over it, at the versions it was read at."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg

from compute.adapt.schedule import Sessions
from compute.limits.policy import Limits
from compute.limits.tightest import in_force
from compute.money.currency import only_money, without_money
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


def universe_words(universe_id: str) -> str:
    """A universe of market snapshots in an error."""
    return f"universe {universe_id!r}" if universe_id else "the universe without a name"
