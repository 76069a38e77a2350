"""Makes a `PreparedRequest` of a request, the state of its portfolio and the market's data.

The same function builds a problem for a new request, for a what-if and for a replay, so that all
three compute alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from compute.adapt.edge import multiplied, scaled_edges, scaled_scenarios
from compute.adapt.regime_edges import with_regimes
from compute.inputs import Inputs
from compute.learn.predicted import line_multipliers, unknown_features, with_predictions
from compute.limits.book_guard import ReturnData, ReturnMatrix
from compute.limits.bounds import LimitBounds, prepare
from compute.limits.closing import is_solvent
from compute.limits.cluster_limits import find_clusters, with_clusters
from compute.limits.policy import Limits
from compute.limits.stress_limits import with_stress
from compute.limits.tightest import tightest
from compute.market import Integers, Market, MissingInputError, equity_of
from compute.methods import Engine
from compute.money.currency import in_base
from compute.signals import LineError, Signals, check
from compute.waterfall.edge_inputs import Scenarios
from compute.waterfall.layout import Family, is_of
from compute.waterfall.usable import check_market
from server.calls.errors import invalid_fields, precondition
from server.convert.matrix import MatrixData, covariance_of
from server.portfolios.portfolio_state import PortfolioState
from server.portfolios.positions import positions, shared_use
from server.sizing import decision_inputs
from server.sizing.custom import sized_by
from server.sizing.line_errors import halted_instruments, jumped_instruments, unknown_instruments
from server.sizing.prepared_request import PreparedRequest
from server.sizing.request import SizingRequest, violations_of
from server.sizing.stored_edges import StoredOutcomes, with_stored
from storage.postgres.portfolios import Portfolio
from storage.postgres.trading_state import TradingState

PART_MAX = 1 / 8
"""A request and its book that speak of up to this part of a market are computed on that alone."""


def is_gathered(state: PortfolioState, snapshot_id: str) -> bool:
    """Whether the state has been laid over the instruments of a market already."""
    return ("context", snapshot_id) in state.derived


def context_of(
    state: PortfolioState, snapshot_id: str, prices: Market
) -> decision_inputs.DecisionInputs:
    """The state over the instruments of the market, kept with the state."""
    key = ("context", snapshot_id)
    if key not in state.derived:
        if state.limits is None:
            raise precondition(
                "NO_LIMITS",
                f"no limits are stored for portfolio {state.portfolio.portfolio_id!r}, its group, "
                "its strategy or the firm; store some with SetLimits first",
            )
        try:
            held, shared = positions(state, prices), shared_use(state, prices)
        except MissingInputError as error:
            text = f"{error} (snapshot {snapshot_id!r})"
            raise MissingInputError(error.reason, text) from error
        state.derived[key] = decision_inputs.DecisionInputs(
            market_snapshot_id=snapshot_id,
            base_currency=state.portfolio.base_currency,
            positions=held,
            limits=in_base(state.limits, prices.rates),
            parameters=state.parameters,
            reducing=state.trading_state is TradingState.REDUCING,
            shared=shared,
            balances=_balances(state.portfolio),
        )
    context: decision_inputs.DecisionInputs = state.derived[key]
    return context


def _balances(portfolio: Portfolio) -> dict[str, float]:
    """Cash by currency; empty where there is none but in the base."""
    others = portfolio.balances
    return {portfolio.base_currency: portfolio.cash, **others} if others else {}


def assemble(
    request: SizingRequest,
    context: decision_inputs.DecisionInputs,
    prices: Market,
    scenarios: MatrixData | None,
    covariance: MatrixData | None,
    derived: dict[Any, Any],
    stored: StoredOutcomes | None = None,
) -> PreparedRequest:
    """Turns a request into arrays. `derived` keeps the bounds between requests on one state.

    stored: the histories that lines name, None where none does.

    Raises `Refusal` where all lines are wrong, or one is and the caller wants all or nothing;
    `MissingInputError` where a limit needs data that isn't there.
    """
    index = prices.places(request.instrument_ids)
    limits = _limits(request, context, prices)
    lines = _lines(request, context, prices, limits, scenarios, stored)
    active = np.ones(len(index), dtype=bool)
    active[[error.line for error in lines.errors]] = False
    if lines.errors and (request.all_or_nothing or not active.any()):
        raise invalid_fields(violations_of(lines.errors))
    if covariance is not None:
        covariance = covariance_of(covariance, prices, context.parameters.periods_per_year)
    returns = ReturnData(_matrix(scenarios), _matrix(covariance))
    named = limits.clusters or limits.joint.stress
    if named and is_solvent(equity_of(prices, context.positions)):
        sized = index[active]
        context = _clustered(limits, context, prices, sized, returns)
        limits = with_clusters(limits, context.clusters)
        concern = np.union1d(context.positions.taken, sized)
        names = [prices.instrument_ids[place] for place in concern]
        limits = with_stress(limits, context.stress, names, returns)
    method = request.method_with(context.parameters)
    places = None if method.engine is Engine.OPTIMIZER else _concerned(index, context, prices)
    limit_bounds = _limit_bounds(request, limits, context, prices, places, derived)
    known = np.maximum(index, 0)
    inputs = Inputs(
        signals=lines.signals,
        # Lines of unknown instruments have no column to read: any will do, they stay refused.
        index=known if places is None else np.searchsorted(places, known) * (index >= 0),
        active=active,
        known=index >= 0,
        limit_bounds=limit_bounds,
        parameters=context.parameters,
        reducing=context.reducing,
        scenarios=lines.scenarios,
        returns=returns,
        fees_count=context.fees_count,
        method=method,
        lot_search=context.lot_search,
    )
    _ = inputs.book_guard  # raises where a limit of the book lacks its data
    problem = PreparedRequest(
        request,
        inputs,
        lines.errors,
        context,
        request.algorithm or context.parameters.algorithm,
    )
    return problem if context.algorithm is None else sized_by(problem, context.algorithm)


@dataclass(frozen=True)
class _Lines:
    """The signals with what was found for them; errors: of lines that can't be sized."""

    signals: Signals
    scenarios: Scenarios | None
    errors: list[LineError]


def _lines(
    request: SizingRequest,
    context: decision_inputs.DecisionInputs,
    prices: Market,
    limits: Limits,
    matrix: MatrixData | None,
    stored: StoredOutcomes | None,
) -> _Lines:
    """The lines with their histories, predictions, regimes and multipliers, each checked."""
    ids, batch = request.instrument_ids, request.signals
    index = prices.places(ids)
    known = np.maximum(index, 0)
    missing: list[LineError] = []
    if stored is not None:
        batch, missing = with_stored(batch, ids, stored)
    if batch.stop_price is not None:
        batch = replace(batch, stop_price=prices.stops(batch.stop_price, known))
    errors = unknown_instruments(ids, index, context.market_snapshot_id)
    errors += missing + halted_instruments(ids, index, prices)
    errors += jumped_instruments(ids, context.jumped)
    wrong = request.feature_errors + unknown_features(context.stored_features)
    errors += wrong
    batch = with_predictions(batch, context.predictions, [error.line for error in wrong])
    batch, unseen = with_regimes(batch, ids, context.regimes)
    errors += unseen + check(batch, prices.price[known])
    errors += check_market(batch, index, prices, context.parameters, limits)
    scenarios, more = _scenarios_of(ids, batch.source, matrix)
    errors += more
    rate, k = context.parameters.risk_free_rate, context.parameters.edge_multiplier
    batch = scaled_edges(batch, rate, k)
    scenarios = None if scenarios is None else scaled_scenarios(scenarios, batch.side, rate, k)
    if (m := line_multipliers(context.adjustments)) is not None:
        batch = multiplied(batch, rate, m)
        scenarios = None if scenarios is None else scaled_scenarios(scenarios, batch.side, rate, m)
    return _Lines(batch, scenarios, errors)


def _matrix(data: MatrixData | None) -> ReturnMatrix | None:
    return None if data is None else data.returns


def concerned(
    request: SizingRequest,
    context: decision_inputs.DecisionInputs,
    prices: Market,
) -> Integers:
    """Places of the instruments asked for, held or reserved, rising."""
    index = prices.places(request.instrument_ids)
    return np.union1d(context.positions.taken, index[index >= 0])


def _concerned(
    index: Integers, context: decision_inputs.DecisionInputs, prices: Market
) -> Integers | None:
    """Places of the instruments asked for, held or reserved, rising; None: take the whole market.

    Nothing else of a market matters to a decision, and a small part of it is computed in a
    fraction of the time. Shared limits look at the whole of it.
    """
    taken = context.positions.taken
    if context.shared is not None or PART_MAX * len(prices.price) < len(taken) + len(index):
        return None
    return np.union1d(taken, index[index >= 0])


def _limits(
    request: SizingRequest,
    context: decision_inputs.DecisionInputs,
    prices: Market,
) -> Limits:
    """The stored limits, tightened by those of the request."""
    if request.limits is None:
        return context.limits
    return tightest([context.limits, in_base(request.limits, prices.rates)])


def _clustered(
    limits: Limits,
    context: decision_inputs.DecisionInputs,
    prices: Market,
    sized: Integers,
    returns: ReturnData,
) -> decision_inputs.DecisionInputs:
    """With the clusters of its limits: those of the record where it is replayed, else found."""
    if context.clusters:
        return context
    clusters = find_clusters(limits, prices, context.positions, sized, returns)
    return replace(context, clusters=clusters)


def _limit_bounds(
    request: SizingRequest,
    limits: Limits,
    context: decision_inputs.DecisionInputs,
    prices: Market,
    places: Integers | None,
    derived: dict[Any, Any],
) -> LimitBounds:
    """The bounds over the instruments at `places`, None: over all."""
    key = (
        "limit_bounds",
        context.market_snapshot_id,
        "" if context.volatility is None else context.volatility.name,
        request.limits_content,
        context.clusters,
        tuple(
            (row.name, *row.coefficients.items()) for row in limits.joint.linear if row.scenario_id
        ),
        None if places is None else places.tobytes(),
    )
    if key not in derived:
        book, shared = context.positions, context.shared
        if places is not None:
            prices, book = prices.part(places), book.part(places)
        earlier = derived.get(("earlier", *key))
        derived[key] = prepare(prices, book, limits, shared, earlier=earlier)
    made: LimitBounds = derived[key]
    return made


def _scenarios_of(
    ids: Sequence[str], source: np.ndarray[Any, Any], matrix: MatrixData | None
) -> tuple[Scenarios | None, list[LineError]]:
    """The lines' scenarios out of the matrix; an error for each line that needs some."""
    needs = np.flatnonzero(is_of(source, Family.SCENARIOS))
    if matrix is None:
        text = "edge_source SCENARIOS needs a scenario_matrix_id"
        return None, [LineError(int(i), "edge_source", "MISSING", text) for i in needs]
    place = {name: i for i, name in enumerate(matrix.instrument_ids)}
    columns = np.array([place.get(name, -1) for name in ids])
    errors = [
        LineError(
            int(i),
            "instrument_ids",
            "NOT_IN_SCENARIOS",
            f"instrument {ids[int(i)]!r} has no column in the scenario matrix",
        )
        for i in needs
        if columns[i] < 0
    ]
    returns = matrix.values.T[columns]
    returns[columns < 0] = 0.0
    return Scenarios(returns, matrix.probability), errors
