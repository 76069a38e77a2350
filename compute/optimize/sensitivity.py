"""How the sizes move with the inputs: implicit differentiation at the KKT point, one-sided.

Along a family of problems p(e) with the solution w at e = 0, the directional derivative d of the
sizes solves the quadratic program (Bonnans and Shapiro 2000, section 5.2)

    minimise  1/2 d'Hd + h'd    H = Hessian of the Lagrangian, h = its derivative along p
    subject to  limits with a positive price move with their bound,
                limits that hold without a price may only be left inwards,
                limits that are slack do not matter.

Where no limit holds without a price this is linear and the derivative is the same on both sides.
At a kink (a limit about to bind, a trade about to start) left and right differ, and both are given.
The quadratic program is solved by the same solver as the problem itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from compute.optimize.objectives import UnsupportedError, costs
from compute.optimize.problem import (
    Array,
    Limits,
    Multipliers,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
    Solution,
    Status,
)
from compute.optimize.solver import solve
from compute.optimize.solver.encode import Encoded, encode
from compute.optimize.solver.model import hessian, terms

STEP = 1e-6  # of the central difference of data along the family, at fixed weights
HELD = 1e-6  # a slack below this holds its limit (without a price it ends near sqrt(mu))
EDGE = 1.0 - 1e-4  # of a kink's slope, beyond which the weight may leave it
PRICED = 1e-5  # a price above this, relative to the largest gradient, is positive
DEGENERATE = 1e-2  # a bound whose price is within this of curvature times slack, either way

Family = Callable[[float], Problem]


@dataclass(frozen=True)
class Sides:
    """Derivatives f64[n] of the weights as the parameter falls (left) and rises (right).

    NaN where the quadratic program has no answer (a linear objective at a degenerate vertex).
    """

    left: Array
    right: Array


def sensitivity(solution: Solution, family: Family) -> Sides:
    """d weights / d e of the problems `family(e)` around e = 0, of which `solution` is optimal.

    The family may change means, covariance, scenarios, limits, costs or holdings, smoothly and
    without changing which of them are present. ValueError unless the solution is OPTIMAL.
    """
    if solution.status is not Status.OPTIMAL or solution.multipliers is None:
        raise ValueError("only an optimal solution has sensitivities")
    right = _one_side(solution, solution.multipliers, family)
    left = _one_side(solution, solution.multipliers, lambda step: family(-step))
    return Sides(left=-left, right=right)


@dataclass(frozen=True)
class _View:
    """Everything about one problem at fixed weights that may change along the family."""

    gradient: Array  # of the Lagrangian's smooth part
    limits: Array  # f64[q], nonlinear limit values
    lower: Array
    upper: Array
    rows: Array  # f64[m], values less row_max
    rows_low: Array  # f64[m], values less row_min
    held: Array
    norms: Array  # (turnover, gross) bounds
    rate: Array  # linear cost per name


def _one_side(solution: Solution, prices: Multipliers, family: Family) -> Array:
    """The directional derivative as the parameter rises."""
    base, weights = family(0.0), solution.weights
    encoded = encode(base)
    if encoded.blocks.ratio:
        assert encoded.blocks.quad is not None
        prices = _scaled(prices, float(np.sqrt(weights @ encoded.blocks.quad @ weights)))
    if base.objective.kind is ObjectiveKind.RISK_BUDGET or encoded.blocks.barrier is not None:
        raise UnsupportedError("sensitivities of risk budgets are not available")
    ahead, behind = (_view(family(side * STEP), weights, prices) for side in (1.0, -1.0))
    now, moved = _view(base, weights, prices), {}
    for name in ("gradient", "limits", "lower", "upper", "rows", "rows_low", "held", "norms"):
        with np.errstate(invalid="ignore"):
            moved[name] = (getattr(ahead, name) - getattr(behind, name)) / (2.0 * STEP)
    problem = _program(base, encoded, now, moved, weights, prices)
    return solve(problem).weights


def _scaled(prices: Multipliers, factor: float) -> Multipliers:
    """Prices of the Sharpe ratio times `factor`; slopes stay as they are."""
    fields = {
        name: value if name.endswith("slope") else value * factor
        for name, value in vars(prices).items()
    }
    return Multipliers(**fields)


def _limit_duals(encoded: Encoded, prices: Multipliers) -> Array:
    """Prices of the nonlinear limits in the kernel's order and scale."""
    data, duals = encoded.data, []
    if data.exponent is not None:
        duals.append(prices.drawdown_risk * float(data.exponent[0]))
    if data.volatility is not None:
        duals.append(prices.volatility_max)
    if data.var is not None:
        duals.append(prices.var_max)
    if data.quadratic_exponent is not None:
        duals.append(prices.drawdown_risk * float(data.quadratic_exponent[0]))
    return np.array(duals)


def _row_prices(encoded: Encoded, prices: Multipliers) -> tuple[Array, Array]:
    """Prices of the rows' lower and upper bounds, the budget first."""
    budget = prices.budget_max + (prices.gross_max if encoded.linear.gross_row else 0.0)
    low = np.concatenate([[prices.budget_min], prices.row_min])
    return low, np.concatenate([[budget], prices.row_max])


def _smooth(
    problem: Problem, weights: Array, prices: Multipliers
) -> tuple[Array, Array, Array, Array]:
    """Lagrangian gradient f64[n] and Hessian f64[n, n]; limits f64[q], slopes f64[q, n]."""
    encoded, n = encode(problem), problem.size
    data: Any = encoded.data
    padded: Any = np.zeros(data.lower.shape[0])
    padded[:n] = weights / encoded.unit
    one: Any = np.ones(())
    duals: Any = _limit_duals(encoded, prices)
    held = np.zeros(n) if problem.holdings is None else problem.holdings
    toll = np.zeros(n) if problem.costs.linear is None else problem.costs.linear
    # What trading costs, and how fast that rises: the kernel has these outside of its gradient.
    trade, bend = weights - held, np.zeros(n)
    paid = toll * prices.trade_slope
    if problem.costs.impact is not None:
        size = np.sqrt(np.abs(trade))
        paid = paid + 1.5 * problem.costs.impact * size * np.sign(trade)
        np.divide(0.75 * problem.costs.impact, size, out=bend, where=size > 1e-6)
    ratio: Array | float = 0.0
    aversion: Any = one
    if encoded.blocks.ratio:
        assert encoded.blocks.quad is not None
        pull = encoded.blocks.quad @ weights
        variance, reward = float(weights @ pull), encoded.blocks.linear - paid
        total = float(encoded.blocks.linear @ weights) - costs(problem, weights)
        aversion = np.float64(total / variance)
        # With it, the curvature of reward (1/2 log variance - log reward), whose gradient this is.
        ratio = np.outer(reward, reward) / total - 2.0 * total * np.outer(pull, pull) / variance**2
    point = terms(data, padded, one, aversion)
    curve = np.array(hessian(data, padded, point, duals, one, aversion))[:n, :n] / encoded.unit**2
    slopes = np.asarray(point.slopes)[:, :n] / encoded.unit
    gradient = np.asarray(point.gradient)[:n] / encoded.unit + paid + np.asarray(duals) @ slopes
    curve = curve + ratio + np.diag(bend)
    return gradient, curve, np.asarray(point.limits), slopes


def _view(problem: Problem, weights: Array, prices: Multipliers) -> _View:
    """Everything that may change along the family, at fixed weights."""
    encoded = encode(problem)
    constraints = encoded.linear
    gradient, _, limits, _ = _smooth(problem, weights, prices)
    values = constraints.rows @ weights
    row_low, row_high = _row_prices(encoded, prices)
    held = np.zeros(problem.size) if problem.holdings is None else problem.holdings
    norms = [np.inf if x is None else x for x in (constraints.turnover, constraints.gross)]
    toll = np.zeros(problem.size) if problem.costs.linear is None else problem.costs.linear
    return _View(
        gradient + (row_high - row_low) @ constraints.rows,
        limits,
        constraints.lower,
        constraints.upper,
        values - constraints.row_max,
        values - constraints.row_min,
        held,
        np.array(norms),
        toll,
    )


def _program(
    base: Problem,
    encoded: Encoded,
    now: _View,
    moved: dict[str, Array],
    weights: Array,
    prices: Multipliers,
) -> Problem:
    """The quadratic program of the directional derivative."""
    _, curve, _, slopes = _smooth(base, weights, prices)
    priced = PRICED * max(float(np.max(np.abs(now.gradient))), 1e-12)
    bend = np.maximum(np.diagonal(curve), DEGENERATE * priced)
    lower, upper = _box_moves(now, moved, weights, prices, priced, bend)
    rows, low, high = [], [], []

    def add(row: Array, slack: float, move: float, price: float, side: int) -> None:
        if not abs(slack) < HELD:
            return
        rows.append(row)
        low.append(move if price > priced or side < 0 else -np.inf)
        high.append(move if price > priced or side > 0 else np.inf)

    first = encoded.linear.rows
    row_low, row_high = _row_prices(encoded, prices)
    equal = encoded.linear.row_min >= encoded.linear.row_max
    for k, row in enumerate(first):
        add(row, now.rows[k], -moved["rows"][k], np.inf if equal[k] else row_high[k], 1)
        if not equal[k]:
            add(row, now.rows_low[k], -moved["rows_low"][k], row_low[k], -1)
    for k, price in enumerate(_limit_duals(encoded, prices)):
        add(slopes[k], now.limits[k], -moved["limits"][k], price, 1)
    trade = weights - now.held
    slack = float(np.abs(trade).sum()) - now.norms[0]
    push = moved["norms"][0] + float(prices.trade_slope @ moved["held"])
    add(prices.trade_slope, slack, push, prices.turnover_max, 1)
    if encoded.linear.gross is not None:
        slack = float(np.abs(weights).sum()) - now.norms[1]
        add(prices.gross_slope, slack, moved["norms"][1], prices.gross_max, 1)
    matrix = np.array(rows).reshape(len(rows), base.size)
    binding = np.array([a == b for a, b in zip(low, high, strict=True)], bool)
    if encoded.blocks.ratio and binding.any():
        # The ratio is convex only along its limits; what they fix may be curved at will.
        curve = curve + float(np.trace(np.abs(curve))) * matrix[binding].T @ matrix[binding]
    named = Rows(matrix, np.array(low), np.array(high), tuple(map(str, range(len(rows)))))
    limits = Limits(lower=lower, upper=upper, rows=named if rows else None)
    return Problem(
        Objective(ObjectiveKind.MEAN_VARIANCE), limits, mean=-moved["gradient"], covariance=curve
    )


def _box_moves(
    now: _View,
    moved: dict[str, Array],
    weights: Array,
    prices: Multipliers,
    priced: float,
    bend: Array,
) -> tuple[Array, Array]:
    """Bounds on d: held bounds and kinks move with their parameter, priced ones exactly.

    An interior point ends between a bound and its price where neither is zero in the end: their
    ratio is then the curvature `bend` [n], while it is vast or tiny where one of them is.
    """
    lower, upper = np.full_like(weights, -np.inf), np.full_like(weights, np.inf)
    fixed = now.lower >= now.upper
    below, above = weights - now.lower, now.upper - weights
    dear = (prices.lower + prices.trade_max, prices.upper + prices.trade_max)
    low = (below < HELD) | (dear[0] > DEGENERATE * bend * below)
    high = (above < HELD) | (dear[1] > DEGENERATE * bend * above)
    sure = [
        (price > priced) & (price * DEGENERATE > bend * slack)
        for price, slack in zip(dear, (below, above), strict=True)
    ]
    lower = np.where(low, moved["lower"], lower)
    upper = np.where(high, moved["upper"], upper)
    upper = np.where((low & sure[0]) | fixed, lower, upper)
    lower = np.where(high & sure[1] & ~fixed, upper, lower)
    families = (
        (now.held, prices.trade_slope, now.rate + prices.turnover_max, moved["held"]),
        (np.zeros_like(weights), prices.gross_slope, prices.gross_max, np.zeros_like(weights)),
    )
    for centre, slope, rate, move in families:
        kink = (np.abs(weights - centre) < HELD) & (rate > priced) & ~fixed
        # Inside (-1, 1) the weight stays at the kink; at an end it may leave on that side.
        lower = np.where(kink & (slope > -EDGE), np.maximum(lower, move), lower)
        upper = np.where(kink & (slope < EDGE), np.minimum(upper, move), upper)
    return lower, upper
