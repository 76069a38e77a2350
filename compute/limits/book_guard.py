"""An independent check of the limits of the whole book on the final whole lots.

Volatility, VaR, CVaR, CDaR, wealth floor and tails by named methods are measured
(`book_measures.py`, `tail_measures.py`) on the scenarios or the covariance of the request as they
are stored, whatever its signals expect, with everything that is held and reserved in the book and
all of it filled. Linear limits and the risk budget hold
whichever reserved trades fill. As for other limits, a book that is beyond a bound already may stay
there or come nearer, and may not move away.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from compute.cache import Cache
from compute.limits.book_measures import Covariance, Measure, Measured, ScenarioReturns
from compute.limits.guard import REACHED, ROUNDING, Proposal, Violation
from compute.limits.policy import JointLimits, LimitKind, Limits, TailLimit
from compute.limits.tail_measures import limit_path, tail_measure
from compute.market import Floats, Integers, Market, MissingInputError, Positions, equity_of
from compute.risk.tail_method import TailKind, TailMethod

PARTS_KEPT = 4
"""Of a matrix, of the batches that were sized last: a strategy asks for the same names again."""
LEVEL = 0.95
"""Of value at risk and its kin, where the limits name none."""

MEASURED = {
    "volatility_max": LimitKind.VOLATILITY_MAX,
    "var_max": LimitKind.VAR_MAX,
    "cvar_max": LimitKind.CVAR_MAX,
    "cdar_max": LimitKind.CDAR_MAX,
    "wealth_floor": LimitKind.DRAWDOWN_RISK,
}
"""Joint limits on what is measured of the whole book, by field; tails by named methods apart."""
OF_COVARIANCE = ("volatility_max", "var_max")
"""Those that a covariance alone tells."""


@dataclass(frozen=True)
class ReturnMatrix:
    """Scenarios (K, c) with probability (K,), or a covariance (c, c), of named instruments."""

    instrument_ids: tuple[str, ...]
    values: Floats
    probability: Floats
    _parts: Cache[bytes, Floats] = field(
        default_factory=lambda: Cache(PARTS_KEPT), compare=False, repr=False
    )

    @cached_property
    def place(self) -> dict[str, int]:
        """The column of each instrument."""
        return {name: column for column, name in enumerate(self.instrument_ids)}

    def part(self, columns: Integers) -> Floats:
        """A covariance of some of the instruments, (k, k), in this order."""
        if np.array_equal(columns, np.arange(len(self.values))):
            return self.values
        return self._parts.get(columns.tobytes(), lambda: self.values[np.ix_(columns, columns)])

    def columns(self, place: Mapping[str, int]) -> Integers:
        """The column of each instrument of a market with these places, (m,); -1 where none."""
        found = np.full(len(place), -1, dtype=np.int64)
        for column, name in enumerate(self.instrument_ids):
            if name in place:
                found[place[name]] = column
        return found


@dataclass(frozen=True)
class ReturnData:
    """What a request brings to measure its book with; the scenarios count where both are given."""

    scenarios: ReturnMatrix | None = None
    covariance: ReturnMatrix | None = None


NO_DATA = ReturnData()


@dataclass(frozen=True)
class Rule:
    """measure(weights) <= bound, over all instruments of the market.

    kind, name: as bindings say it. stated: the bound as the limit states it. row: place among the
    limits by name (linear ones, then tails), or -1. sign: -1 for a lower bound, whose measure is
    the value turned. measure: value and slope (m,) at weights (m,). pending: what reserved trades
    that fail may add. counted: what of that the measure has in it already. size: a bound on the
    terms that the value is summed of, for its rounding. filled: the measure with all that is
    reserved filled, None where `measure` is that.
    """

    kind: LimitKind
    name: str
    stated: float
    bound: float
    measure: Measure
    row: int = -1
    sign: float = 1.0
    pending: float = 0.0
    counted: float = 0.0
    size: Callable[[Floats], float] = lambda weights: 0.0
    filled: Measure | None = None

    @property
    def is_linear(self) -> bool:
        """Whether the measure is a sum over weights."""
        return self.kind in (LimitKind.LINEAR, LimitKind.STRESS_LOSS_MAX)


class BookGuard:
    """The limits of one book; `violations` checks a proposal against them."""

    def __init__(self, market: Market, positions: Positions, rules: list[Rule]) -> None:
        """`rules`: from `rules_of`, for the same market and positions."""
        self.market, self.rules = market, rules
        self.unit_weight = market.price / equity_of(market, positions)
        self.before: Floats = self.unit_weight * positions.expected
        values = [rule.measure(self.before)[0] for rule in rules]
        self.ceilings = [
            max(rule.bound - rule.pending, value) for rule, value in zip(rules, values, strict=True)
        ]
        """Of what is measured with all trades filled: where the book is beyond, where it is."""
        self.room = np.array(
            [
                max(rule.bound - rule.pending, min(rule.bound + rule.counted, value))
                for rule, value in zip(rules, values, strict=True)
            ]
        )
        """What a book is brought to: the bound less what pending trades may add, not below what is
        used and allowed, as for limits on sums (`bounds.py`)."""

    def after(self, proposal: Proposal) -> Floats:
        """Weights of all instruments once the proposal and all reserved are filled, (m,)."""
        weights = self.before.copy()
        lot_weight = self.unit_weight * self.market.lot_size
        weights[proposal.index] += lot_weight[proposal.index] * proposal.trade_lots
        return weights

    def reached(self, index: Integers, trade: Floats) -> "BookGuard | None":
        """The same guard, strict with the limits that the book is beyond and trades bring inside.

        trade: signed weights (n,). None where there are no such limits.
        """
        weights = self.before.copy()
        weights[index] += trade
        ceilings = [
            rule.bound - rule.pending
            if ceiling > rule.bound - rule.pending
            and rule.measure(weights)[0] <= rule.bound - rule.pending + REACHED
            else ceiling
            for rule, ceiling in zip(self.rules, self.ceilings, strict=True)
        ]
        if ceilings == self.ceilings:
            return None
        strict = copy(self)
        strict.ceilings = ceilings
        return strict

    def violations(self, proposal: Proposal) -> list[Violation]:
        """Every limit of the book that the proposal breaks."""
        weights = self.after(proposal)
        found = []
        for rule, ceiling in zip(self.rules, self.ceilings, strict=True):
            value = rule.measure(weights)[0]
            if value > ceiling + ROUNDING * max(abs(ceiling), rule.size(weights)):
                found.append(Violation(rule.kind, rule.name, rule.stated, rule.sign * value))
        return found

    def beyond(self, weights: Floats) -> list[Violation]:
        """The limits that a book is beyond by its own value, whatever it was before.

        Where it holds whichever reserved trades fill, with those at their worst.
        """
        return self._outside(weights, [r.measure(weights)[0] + r.pending for r in self.rules])

    def beyond_filled(self, weights: Floats) -> list[Violation]:
        """The limits that a book is beyond once all that is reserved is filled."""
        return self._outside(weights, [(r.filled or r.measure)(weights)[0] for r in self.rules])

    def _outside(self, weights: Floats, values: list[float]) -> list[Violation]:
        found = []
        for rule, value in zip(self.rules, values, strict=True):
            if value > rule.bound + 1e3 * ROUNDING * max(abs(rule.bound), rule.size(weights)):
                found.append(Violation(rule.kind, rule.name, rule.stated, rule.sign * value))
        return found


def rules_of(
    market: Market,
    positions: Positions,
    limits: Limits,
    sized: Integers,
    data: ReturnData,
    *,
    cash_return: float = 0.0,
    risk_budget: float | None = None,
    floor_held: float = 0.0,
) -> list[Rule]:
    """The limits of the book as rules. `sized`: places of the instruments that may be traded.

    cash_return: risk-free return a period, which the wealth floor counts on cash. risk_budget:
    largest sum of |weight| x annualised volatility. floor_held: largest log E[W^-k] of the wealth
    floor, 0 as it is stated.

    Raises `MissingInputError` where a limit needs data that the request doesn't bring.
    """
    rules: list[Rule] = []
    unit_weight = market.price / equity_of(market, positions)
    buy, sell = unit_weight * positions.open_buy, unit_weight * positions.open_sell
    if risk_budget is not None:
        rules.append(_risk_budget(market, positions, risk_budget, unit_weight))
    rules += _linear(market, limits.joint, buy, sell)
    places = np.union1d(positions.taken, sized)
    rules += _curved(market, limits.joint, places, data, cash_return, floor_held)
    rules += _tails(market, limits.joint, places, data)
    return rules


def _risk_budget(market: Market, positions: Positions, budget: float, unit_weight: Floats) -> Rule:
    if market.volatility is None:
        raise MissingInputError(
            "MISSING_VOLATILITY",
            "the parameter risk_budget needs the column volatility in the market snapshot",
        )
    volatility = market.volatility
    buy, sell = unit_weight * positions.open_buy, unit_weight * positions.open_sell

    def measure(weights: Floats) -> Measured:
        high, low = weights + sell, weights - buy
        longer = np.abs(high) >= np.abs(low)
        worst = np.where(longer, high, low)
        return float(volatility @ np.abs(worst)), volatility * np.sign(worst)

    def filled(weights: Floats) -> Measured:
        return float(volatility @ np.abs(weights)), volatility * np.sign(weights)

    kind, before = LimitKind.RISK_BUDGET, unit_weight * positions.expected
    counted = measure(before)[0] - filled(before)[0]
    return Rule(
        kind,
        "portfolio",
        budget,
        budget,
        measure,
        counted=counted,
        size=lambda weights: measure(weights)[0],
        filled=filled,
    )


def _linear(market: Market, joint: JointLimits, buy: Floats, sell: Floats) -> Iterator[Rule]:
    """Two rules for a limit with both bounds; one with a price is soft, and no hard limit."""
    for number, limit in enumerate(joint.linear):
        if limit.soft_price is not None:
            continue
        row = np.zeros(len(market.price))
        for name, value in limit.coefficients.items():
            if (place := market.index.get(name)) is not None:
                row[place] += value
        for sign, bound in ((1.0, limit.upper), (-1.0, limit.lower)):
            if bound is not None:
                pulled = sign * row
                pending = np.maximum(pulled, 0.0) @ sell + np.maximum(-pulled, 0.0) @ buy
                yield Rule(
                    limit.kind,
                    limit.name,
                    bound,
                    sign * bound,
                    _row(pulled),
                    row=number,
                    sign=sign,
                    pending=float(pending),
                    size=_terms(pulled),
                )


def _row(row: Floats) -> Measure:
    return lambda weights: (float(row @ weights), row)


def _terms(row: Floats) -> Callable[[Floats], float]:
    return lambda weights: float(np.abs(row) @ np.abs(weights))


def _curved(
    market: Market,
    joint: JointLimits,
    places: Integers,
    data: ReturnData,
    cash_return: float,
    floor_held: float,
) -> Iterator[Rule]:
    if (joint.wealth_floor is None) != (joint.wealth_floor_probability is None):
        raise MissingInputError(
            "INCOMPLETE_LIMIT", "joint.wealth_floor and wealth_floor_probability go together"
        )
    model: ScenarioReturns | Covariance | None = None
    for name, kind in MEASURED.items():
        if (bound := getattr(joint, name)) is not None:
            is_tail = name not in OF_COVARIANCE
            path = f"joint.{name}"
            model = model or _model(market, places, data, path, needs_scenarios=is_tail)
            measure = _over_market(_measure(joint, name, model, cash_return), places)
            if kind is LimitKind.DRAWDOWN_RISK:
                yield Rule(kind, "portfolio", bound, floor_held, measure, size=lambda weights: 1.0)
            else:
                yield Rule(kind, "portfolio", bound, bound, measure)


def _tails(
    market: Market, joint: JointLimits, places: Integers, data: ReturnData
) -> Iterator[Rule]:
    for number, limit in enumerate(joint.tails):
        is_normal = limit.method is TailMethod.NORMAL
        model = _model(market, places, data, limit_path(limit), needs_scenarios=not is_normal)
        measure = _over_market(tail_measure(limit, model), places)
        row = len(joint.linear) + number
        yield Rule(kind_of_tail(limit), limit.name, limit.bound, limit.bound, measure, row=row)


def kind_of_tail(limit: TailLimit) -> LimitKind:
    """What a limit by a named method bounds."""
    is_shortfall = limit.kind is TailKind.EXPECTED_SHORTFALL
    return LimitKind.CVAR_MAX if is_shortfall else LimitKind.VAR_MAX


def _model(
    market: Market, places: Integers, data: ReturnData, limit: str, *, needs_scenarios: bool
) -> ScenarioReturns | Covariance:
    """Returns of the instruments at `places`; `limit`: the one that asks."""
    if data.scenarios is not None:
        columns = _columns(data.scenarios, market, places, limit, "scenario")
        return ScenarioReturns(data.scenarios.values[:, columns], data.scenarios.probability)
    if data.covariance is not None:
        columns = _columns(data.covariance, market, places, limit, "covariance")
        return Covariance(data.covariance.part(columns))
    needed = "scenario_matrix_id"
    if not needs_scenarios:
        needed = "scenario_matrix_id or covariance_matrix_id"
    text = f"the limit {limit} can't be checked without {needed} in the request"
    raise MissingInputError("MISSING_MATRIX", text)


def _measure(
    joint: JointLimits, name: str, model: ScenarioReturns | Covariance, cash_return: float
) -> Measure:
    """The measure of one limit; raises `MissingInputError` where the data can't give it."""
    if name in OF_COVARIANCE:
        if isinstance(model, ScenarioReturns) and len(model.probability) < 2:
            text = f"the limit joint.{name} needs two or more scenarios; the matrix has one"
            raise MissingInputError("MISSING_SCENARIOS", text)
        if name == "volatility_max":
            return model.volatility
        return model.value_at_risk(joint.var_level or LEVEL)
    if isinstance(model, Covariance):
        text = f"the limit joint.{name} needs scenario_matrix_id: a covariance alone has no tail"
        raise MissingInputError("MISSING_MATRIX", text)
    if name == "cvar_max":
        return model.conditional_value_at_risk(joint.cvar_level or LEVEL)
    if name == "cdar_max":
        return model.conditional_drawdown(joint.cdar_level or LEVEL)
    assert joint.wealth_floor is not None, "asked for"
    assert joint.wealth_floor_probability is not None, "asked for"
    return model.floor_moment(joint.wealth_floor, joint.wealth_floor_probability, cash_return)


def _columns(
    matrix: ReturnMatrix, market: Market, places: Integers, limit: str, what: str
) -> Integers:
    """Where the instruments at `places` are in the matrix."""
    column, ids = matrix.place, market.instrument_ids
    names = [ids[place] for place in places.tolist()]
    for name in names:
        if name not in column:
            raise MissingInputError(
                "MISSING_MATRIX_ENTRY",
                f"{name!r} is sized or held, but not in the {what} matrix, which the limit "
                f"{limit} needs",
            )
    return np.array([column[name] for name in names], dtype=np.int64)


def _over_market(measure: Measure, places: Integers) -> Measure:
    """The same measure of the weights of all instruments; the others are never held."""

    def whole(weights: Floats) -> Measured:
        value, slope = measure(weights[places])
        out = np.zeros_like(weights)
        out[places] = slope
        return value, out

    return whole
