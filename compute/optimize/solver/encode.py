"""From a `Problem` to the padded arrays of the kernel, and what it takes to read the answer back.

Weights are counted in units of `unit` (1 unless the bounds are all tiny, or huge) and rows are
divided by their largest coefficient, so that one absolute tolerance means the same for every
problem.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from compute.optimize.ahead import compiled_programs
from compute.optimize.limits import Linear, distinct, forced, linear
from compute.optimize.objectives import Blocks, Moments, UnsupportedError, blocks
from compute.optimize.problem import Array, Costs, Problem
from compute.optimize.solver.model import Data

ASSETS = (4, 8, 12, 16, 20, 24, 32, 40, 50, 64, 80, 100, 128, 160, 200, 256, 320, 400, 500)
SCENARIOS = (16, 32, 64, 100, 128, 192, 256, 384, 512, 768, 1000, 1280, 1600, 2000)
ROWS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
HELD = 1e-12  # scaled violation below which a row of fixed names counts as kept
UNEVEN = 0.02  # of the largest bound, below which a balance of slope and curvature counts
SHARE_MIN = 1e-3  # of the largest bound, below which no unit is taken where cash is not allowed
STEP = 256  # beyond the ladders sizes are rounded up to multiples of this


@dataclass(frozen=True)
class Encoded:
    """A problem ready for the kernel.

    data: host arrays. blocks: its compiled objective. linear: its linear limits. unit: what one
    kernel weight is worth. row_scale: f64[m], what each row was divided by (in kernel units).
    """

    problem: Problem
    data: Data
    blocks: Blocks
    linear: Linear
    unit: float
    row_scale: Array

    @property
    def structure(self) -> tuple[object, ...]:
        """Equal for problems that one compiled kernel can solve together."""
        return tuple(None if x is None else np.shape(x) for x in self.data)


def bucket(size: int, ladder: tuple[int, ...]) -> int:
    """The padded length for `size`; as it is where a slot pads it."""
    if compiled_programs() is not None:
        return size
    for rung in ladder:
        if size <= rung:
            return rung
    return -(-size // STEP) * STEP


@dataclass(frozen=True)
class Scaled:
    """The linear limits of a problem, its unit, the scale of its rows, and their fields."""

    limits: Linear
    unit: float
    row_scale: Array
    fields: dict[str, Any]


Known = dict[tuple[int, int, int, float], Scaled]
"""Linear limits by the identity of `Limits` and holdings, while these objects are held, and by the
unit that the objective asks for."""


def encode(problem: Problem, compiled: Blocks | None = None, known: Known | None = None) -> Encoded:
    """Pad and scale. `compiled` replaces the objective. UnsupportedError for tail limits.

    known: what problems of the same batch have shown; books often share one set of limits.
    """
    limits, moments = problem.limits, Moments(problem)
    if not limits.cvar_max is limits.cdar_max is limits.drawdown_max is None:
        raise UnsupportedError("tail limits are solved by cuts, not by the smooth solver")
    compiled = compiled if compiled is not None else blocks(problem.objective, moments)
    balance = _balance(compiled, problem.costs)
    scaled = _scaled(problem, compiled.barrier is not None, balance, known)
    constraints, unit, n = scaled.limits, scaled.unit, bucket(problem.size, ASSETS)
    fields: dict[str, Any] = {
        **scaled.fields,
        "linear": _vector(compiled.linear * unit, n),
        "quad": None if compiled.quad is None else _square(compiled.quad, n, unit),
        "growth": np.float64(compiled.growth) if compiled.growth else None,
        "crra": np.array(compiled.crra) if compiled.crra else None,
        "budgets": None if compiled.barrier is None else _vector(compiled.barrier, n),
        "sharpe": np.float64(1.0) if compiled.ratio else None,
    }
    fields |= _trade_fields(problem, constraints, unit, n)
    fields |= _risk_fields(moments, compiled, unit, n)
    return Encoded(problem, Data(**fields), compiled, constraints, unit, scaled.row_scale)


def _scaled(problem: Problem, positive: bool, balance: float, known: Known | None) -> Scaled:
    """The linear limits, padded and scaled, or those known of the same objects."""
    key = (id(problem.limits), id(problem.holdings), problem.size, balance)
    if known is not None and not positive and key in known:
        return known[key]
    limits = forced(distinct(linear(problem)))
    if positive:
        limits = replace(limits, lower=np.maximum(limits.lower, 0.0))
    unit, n = _unit(limits, balance), bucket(problem.size, ASSETS)
    scale = np.abs(limits.rows).max(axis=1) * unit
    scale[scale == 0.0] = 1.0
    fields = {"lower": _vector(limits.lower / unit, n), "upper": _vector(limits.upper / unit, n)}
    scaled = Scaled(limits, unit, scale, fields | _row_fields(limits, scale, unit, n))
    if known is not None and not positive:
        known[key] = scaled
    return scaled


def _unit(constraints: Linear, balance: float) -> float:
    """1, or the largest finite bound of a weight or of their sum where that is far from 1.

    Less where curvature outweighs the slopes of the objective at weights of that size: divided by
    its curvature the objective would be so small that its last digits are left undecided.
    """
    ends = np.concatenate(
        [constraints.lower, constraints.upper, constraints.row_min[:1], constraints.row_max[:1]]
    )
    reach = float(np.max(np.abs(ends), where=np.isfinite(ends), initial=0.0))
    unit = 1.0 if reach == 0.0 or 0.02 <= reach <= 50.0 else reach
    if balance >= UNEVEN * unit:
        return unit
    low, high = np.append(constraints.lower, constraints.row_min), constraints.row_max
    cash = (low <= 0.0).all() and (constraints.upper >= 0.0).all() and (high >= 0.0).all()
    return balance if cash else max(balance, SHARE_MIN * unit)


def _balance(compiled: Blocks, costs: Costs) -> float:
    """The weight at which slopes (or barriers) and curvature are alike; inf from `UNEVEN` on."""
    if compiled.quad is None or compiled.ratio or compiled.growth or compiled.crra:
        return np.inf
    curve = 0.25 * float(np.max(np.diagonal(compiled.quad)))
    slope = float(np.max(np.abs(compiled.linear)))
    for cost in (costs.linear, costs.impact):
        slope = max(slope, 0.0 if cost is None else float(np.max(np.abs(cost))))
    barrier = 0.0 if compiled.barrier is None else float(compiled.barrier.sum())
    if not curve > 0.0 or not max(slope, barrier) > 0.0:
        return np.inf
    alike = max(slope / curve, float(np.sqrt(barrier / curve)))
    return alike if alike < UNEVEN else np.inf


def _vector(values: Array, n: int) -> Array:
    if values.shape[0] == n:
        return np.asarray(values, np.float64)
    padded = np.zeros(n)
    padded[: values.shape[0]] = values
    return padded


def _square(matrix: Array, n: int, unit: float) -> Array:
    k = matrix.shape[0]
    if k == n and unit == 1.0:
        return np.asarray(matrix, np.float64)
    padded = np.zeros((n, n))
    padded[:k, :k] = matrix * unit**2
    return padded


def _row_fields(constraints: Linear, scale: Array, unit: float, n: int) -> dict[str, Any]:
    count, size = constraints.rows.shape
    m = bucket(count, ROWS)
    rows = np.zeros((m, n))
    rows[:count, :size] = constraints.rows * (unit / scale)[:, None]
    low, high, price = np.full(m, -np.inf), np.full(m, np.inf), np.full(m, np.inf)
    low[:count], high[:count] = _row_bounds(constraints, scale)
    price[:count] = constraints.price * scale
    soft = price if np.isfinite(price).any() else None
    return {"rows": rows, "row_min": low, "row_max": high, "price": soft}


def _row_bounds(constraints: Linear, scale: Array) -> tuple[Array, Array]:
    """Scaled bounds, infinite for rows that hold already and have no name left to move."""
    low, high = constraints.row_min / scale, constraints.row_max / scale
    fixed = constraints.lower >= constraints.upper
    if not fixed.any():
        return low, high
    stuck = ~constraints.rows[:, ~fixed].any(axis=1)
    value = constraints.rows[:, fixed] @ constraints.lower[fixed] / scale
    kept = stuck & (value >= low - HELD) & (value <= high + HELD)
    return np.where(kept, -np.inf, low), np.where(kept, np.inf, high)


def _trade_fields(problem: Problem, constraints: Linear, unit: float, n: int) -> dict[str, Any]:
    costs = problem.costs
    linear_costs = costs.linear if costs.linear is not None and costs.linear.any() else None
    impact = costs.impact if costs.impact is not None and costs.impact.any() else None
    fields: dict[str, Any] = {}
    if constraints.gross is not None:
        fields["gross"] = np.float64(constraints.gross / unit)
    if linear_costs is None and impact is None and constraints.turnover is None:
        return fields
    held = np.zeros(problem.size) if problem.holdings is None else problem.holdings
    fields["holdings"] = _vector(held / unit, n)
    if linear_costs is not None:
        fields["cost"] = _vector(linear_costs * unit, n)
    if impact is not None:
        fields["impact"] = _vector(impact * unit**1.5, n)
    if constraints.turnover is not None:
        fields["turnover"] = np.float64(constraints.turnover / unit)
    return fields


def _risk_fields(moments: Moments, compiled: Blocks, unit: float, n: int) -> dict[str, Any]:
    limits, cash = moments.problem.limits, moments.problem.cash_return
    risk = limits.drawdown_risk
    fields: dict[str, Any] = {}
    if limits.volatility_max is not None or limits.var_max is not None:
        fields["cov"] = _square(moments.covariance(), n, unit)
    if limits.volatility_max is not None:
        fields["volatility"] = np.float64(limits.volatility_max)
    if limits.var_max is not None:
        quantile = NormalDist().inv_cdf(limits.var_tail)
        fields["var"] = np.array([quantile, limits.var_max])
        fields["mean"] = _vector(moments.mean() * unit, n)
    if risk is not None and risk.quadratic:
        # The mean of this limit is that of the scenarios, whatever mean the problem states.
        fields["quadratic_exponent"] = np.array([risk.exponent, 0.0])
        fields["second"] = _square(moments.second(), n, unit)
        fields["second_mean"] = _vector(moments.scenario_mean() * unit, n)
    if risk is not None and not risk.quadratic:
        fields["exponent"] = np.array([risk.exponent, np.log1p(cash)])
    if compiled.growth or compiled.crra or "exponent" in fields:
        fields |= _scenario_fields(moments, unit, n)
    return fields


def _scenario_fields(moments: Moments, unit: float, n: int) -> dict[str, Any]:
    """Scenarios across, assets down: both products with the weights then run along memory."""
    cash, scenarios = moments.problem.cash_return, moments.scenarios()
    periods, size = scenarios.shape
    length = bucket(periods, SCENARIOS)
    prob = _vector(moments.probability(), length)
    if length == periods and size == n:
        returns = np.ascontiguousarray(scenarios.T)
    else:
        returns = np.zeros((n, length))
        returns[:size, :periods] = scenarios.T
    if cash != 0.0:
        returns[:size, :periods] = (returns[:size, :periods] - cash) / (1.0 + cash)
    if unit != 1.0:
        returns = returns * unit
    return {"returns": returns, "prob": prob}
