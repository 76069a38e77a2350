"""The linear program that touches a sizing problem at a given portfolio.

For a concave objective f and convex limits g, at a candidate w,

    f(v) <= f(w) + grad f(w)'(v - w)     and     g(v) >= g(w) + grad g(w)'(v - w),

so the linear program over v relaxes the problem: its value bounds every feasible portfolio.
Trading costs, gross, turnover and the tail measures are piecewise linear and enter exactly. Impact
costs have a tangent as well, but no useful one near the holdings, where they bend without end:
their coefficients go along, for a bound that needs no program (`duality_gap.box_terms`).
`certificate` takes proofs from it, `shadow_prices` prices, `outer_approximation` its cuts.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from compute.optimize import measures
from compute.optimize.implied_bounds import FAR, implied_box, sums_of
from compute.optimize.problem import Objective, ObjectiveKind, Problem, TailMeasure
from compute.optimize.proof import risk_parity_reference
from compute.optimize.proof.evaluation import tail_limits
from compute.optimize.proof.objectives import TWINS, log_utility_size, volatility_gradient
from compute.optimize.proof.problem_numbers import ProblemData
from compute.optimize.risk_box import is_asked, within_risk

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Kind = ObjectiveKind


@dataclass(frozen=True)
class Tail:
    """A tail measure: in the objective with `weight`, or below `bound` as a limit."""

    name: str
    kind: Kind
    level: float
    weight: float | None = None
    bound: float | None = None

    @property
    def measure(self) -> TailMeasure:
        """What it is the mean of the worst of."""
        assert self.kind.tail is not None, "of tail measures only"
        return self.kind.tail


@dataclass(frozen=True)
class Tangent:
    """max gradient'v - linear_cost'|v - centre| - sum weight tail(v) - soft prices, over

    row_min <= rows v <= row_max (named), lower <= v <= upper, sum|v| <= gross_max,
    sum|v - centre| <= turnover_max, tail(v) <= bound. `weights` is where it touches; `scale`,
    the size of the objective's slopes before they cancel, measures slopes; `reach` is
    the largest sum |v| (1 where nothing bounds it).
    impact: of the costs whose tangent is in the gradient. log_unit: the logarithm of what the
    objective is counted in: the size of a utility beyond doubles, 0 of all others.
    """

    weights: Vector
    gradient: Vector
    linear_cost: Vector
    impact: Vector
    centre: Vector
    lower: Vector
    upper: Vector
    rows: Matrix
    row_min: Vector
    row_max: Vector
    price: Vector
    names: tuple[str, ...]
    gross_max: float
    turnover_max: float
    tails: tuple[Tail, ...]
    scenarios: Matrix
    probability: Vector
    scale: float
    reach: float
    log_unit: float = 0.0


def tangent(problem: Problem, weights: Vector, ratio: float | None = None) -> Tangent:
    """The tangent program of `problem` at `weights` [n], in the larger-is-better sense.

    MAX_SHARPE is replaced by mean'v - ratio * volatility(v) with the Sharpe ratio of `weights`
    (or `ratio`) held fixed, RISK_BUDGET by the convex program of `risk_parity_reference`.
    ValueError for weights outside the domain of the objective (ruin in a scenario, no positive
    weight to budget).
    """
    data, limits = ProblemData(problem), problem.limits
    objective = problem.objective
    gradient, tails = _gradient(data, objective, weights, ratio)
    if not np.all(np.isfinite(gradient)):
        size = log_utility_size(data, objective, weights)
        if size is None:
            raise ValueError("the objective has no gradient at these weights")
        data = ProblemData(problem, size)
        gradient, tails = _gradient(data, objective, weights, ratio)
    unit = float(np.exp(-data.log_unit))
    linear, impact = (
        None if cost is None else cost * unit
        for cost in (problem.costs.linear, problem.costs.impact)
    )
    if impact is not None:
        gradient = gradient - impact_slope(impact, weights - data.holdings)
    bounds = [
        Tail(name, kind, level, bound=bound) for name, kind, bound, level in tail_limits(problem)
    ]
    tails = (*tails, *bounds)
    rows, row_min, row_max, price, names = _rows(data, weights)
    price = np.multiply(price, unit, out=price.copy(), where=np.isfinite(price))
    lower, upper = _box(data)
    return Tangent(
        weights=weights,
        gradient=gradient,
        linear_cost=np.zeros(data.size) if linear is None else linear,
        impact=np.zeros(data.size) if impact is None else impact,
        centre=data.holdings,
        lower=lower,
        upper=upper,
        rows=rows,
        row_min=row_min,
        row_max=row_max,
        price=price,
        names=names,
        gross_max=np.inf if limits.gross_max is None else limits.gross_max,
        turnover_max=np.inf if limits.turnover_max is None else limits.turnover_max,
        tails=tails,
        scenarios=data.scenarios if tails else np.zeros((0, data.size)),
        probability=data.probability if tails else np.zeros(0),
        scale=_scale(data, objective, gradient, weights),
        reach=_reach(data),
        log_unit=data.log_unit,
    )


def impact_slope(impact: Vector, trade: Vector) -> Vector:
    """d/dx of impact |x|^(3/2) [n]."""
    return np.asarray(1.5 * impact * np.sqrt(np.abs(trade)) * np.sign(trade))


def _scale(data: ProblemData, objective: Objective, gradient: Vector, weights: Vector) -> float:
    """Largest slope of any part of the objective: means, losses, risks, the gradient; > 0.

    At an interior optimum the gradient vanishes, so it can't be the measure of its own residual.
    """
    terms = objective.terms or ((1.0, objective),)
    sizes = [float(np.abs(gradient).max(initial=0.0))]
    for share, term in terms:
        if term.kind.tail is not None:
            sizes.append(share * float(np.abs(data.scenarios).mean()))
        elif term.kind is Kind.RISK_BUDGET:
            sizes.append(float(np.abs(data.covariance @ weights).max()))
        else:
            twin = TWINS[term.kind]
            worth = twin.marginal(data, term, weights)
            sizes.append(share * worth * twin.size(data, _reach(data)))
    return max(sizes) or 1.0


def _box(data: ProblemData) -> tuple[Vector, Vector]:
    """The box [n], within what limits of risk imply where it is far beyond the size of a book."""
    limits, lower, upper = data.problem.limits, data.lower, data.upper
    if not is_asked(limits, lower, upper):
        return lower, upper
    return within_risk(limits, lower, upper, data.covariance, data.mean)


def _reach(data: ProblemData) -> float:
    """The largest sum |w| that the linear limits allow; 1 where they allow any."""
    limits = data.problem.limits
    lower, upper = _box(data)
    reach = float(np.maximum(np.abs(lower), np.abs(upper)).sum())
    if not reach <= FAR:
        lower, upper = implied_box(lower, upper, sums_of(data.problem))
        reach = float(np.maximum(np.abs(lower), np.abs(upper)).sum())
    if limits.gross_max is not None:
        reach = min(reach, limits.gross_max)
    if limits.budget_max is not None and np.all(lower >= 0.0):
        reach = min(reach, limits.budget_max)
    return reach if np.isfinite(reach) and reach > 0.0 else 1.0


def _gradient(
    data: ProblemData, objective: Objective, weights: Vector, ratio: float | None
) -> tuple[Vector, tuple[Tail, ...]]:
    """Gradient [n] of the smooth part, larger is better, and the tail measures beside it."""
    kind = objective.kind
    if kind is Kind.RISK_BUDGET:
        return risk_parity_reference.slope(data, objective, weights), ()
    if kind.tail is not None:
        return np.zeros(data.size), (Tail("objective", kind, objective.tail, weight=1.0),)
    if kind is Kind.COMBINATION:
        gradient, tails = np.zeros(data.size), list[Tail]()
        for index, (share, term) in enumerate(objective.terms):
            slope, inner = _gradient(data, term, weights, None)
            gradient = gradient + share * slope
            tails += [Tail(f"term {index}", t.kind, t.level, weight=share) for t in inner]
        return gradient, tuple(tails)
    return TWINS[kind].gradient(data, objective, weights, ratio), ()


def _rows(
    data: ProblemData, weights: Vector
) -> tuple[Matrix, Vector, Vector, Vector, tuple[str, ...]]:
    """Budget, named rows and the linearised risk limits as one block of named rows."""
    limits = data.problem.limits
    blocks: list[tuple[str, Vector, float, float, float]] = []
    if limits.budget_min is not None or limits.budget_max is not None:
        low = -np.inf if limits.budget_min is None else limits.budget_min
        high = np.inf if limits.budget_max is None else limits.budget_max
        blocks.append(("budget", np.ones(data.size), low, high, np.inf))
    if limits.rows is not None:
        given = limits.rows
        price = np.full(len(given.names), np.inf) if given.price is None else given.price
        blocks += [
            (name, given.matrix[k], given.row_min[k], given.row_max[k], float(price[k]))
            for k, name in enumerate(given.names)
        ]
    blocks += [(name, row, -np.inf, high, np.inf) for name, row, high in risk_cuts(data, weights)]
    rows = np.array([block[1] for block in blocks]).reshape(len(blocks), data.size)
    low_high_price = np.array([block[2:] for block in blocks]).reshape(len(blocks), 3).T
    names = tuple(block[0] for block in blocks)
    return rows, low_high_price[0], low_high_price[1], low_high_price[2], names


def risk_cuts(data: ProblemData, weights: Vector) -> list[tuple[str, Vector, float]]:
    """(name, a, b) with a'v <= b for every v within the smooth risk limits, tight at `weights`."""
    limits, cuts = data.problem.limits, list[tuple[str, Vector, float]]()
    if limits.volatility_max is not None:
        cuts.append(("volatility_max", volatility_gradient(data, weights), limits.volatility_max))
    if limits.var_max is not None:
        quantile = NormalDist().inv_cdf(limits.var_tail)
        slope = quantile * volatility_gradient(data, weights) - data.mean
        cuts.append(("var_max", slope, limits.var_max))
    risk = limits.drawdown_risk
    if risk is not None and risk.quadratic:
        mean = data.probability @ data.scenarios
        cov_weights = data.second_moment @ weights
        half = 0.5 * (risk.exponent + 1.0)
        value = risk.exponent * (half * float(weights @ cov_weights) - float(mean @ weights))
        row = risk.exponent * (2.0 * half * cov_weights - mean)
        cuts.append(("drawdown_risk", row, float(row @ weights) - value))
    elif risk is not None:
        value, slopes = measures.log_mean_power(
            data.floor_wealth(weights), data.probability, risk.exponent
        )
        if np.isfinite(value):
            row = data.scenarios.T @ slopes - data.problem.financing_rates * slopes.sum()
            cuts.append(("drawdown_risk", row, float(row @ weights) - value))
    return cuts
