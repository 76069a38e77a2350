"""From a `Problem` to the padded arrays of the kernel, and what it takes to read the answer back.

Weights are counted in units (`scaling`) and rows are divided by their largest coefficient, so that
one absolute tolerance means the same for every problem. A stack of problems (`batching.stacked`) is
encoded as one is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from compute.optimize.execution import JUST_IN_TIME, Execution
from compute.optimize.interior_point.epigraph import Levels
from compute.optimize.interior_point.problem_data import Data
from compute.optimize.interior_point.scaling import balance, unit_of
from compute.optimize.limits import Linear, Scalar, distinct, forced, linear, over
from compute.optimize.objectives import Blocks, Moments, UnsupportedError, blocks
from compute.optimize.problem import Array, Problem
from compute.shapes import padded

ASSETS = (4, 8, 12, 16, 20, 24, 32, 40, 50, 64, 80, 100, 128, 160, 200, 256, 320, 400, 500)
SCENARIOS = (16, 32, 64, 100, 128, 192, 256, 384, 512, 768, 1000, 1280, 1600, 2000)
ROWS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
HELD = 1e-12  # scaled violation below which a row of fixed names counts as kept
STEP = 256  # beyond the ladders sizes are rounded up to multiples of this


@dataclass(frozen=True)
class Encoded:
    """A problem ready for the kernel, or a stack of them.

    data: host arrays. blocks: its compiled objective. linear: its linear limits, below them the
    rows of the levels. unit: what one kernel weight is worth, f64[batch] if that differs in a
    stack. is_forced: a row leaves some name no choice (`limits.forced`).
    """

    problem: Problem
    data: Data
    blocks: Blocks
    linear: Linear
    unit: Scalar
    is_forced: bool
    levels: Levels | None = None
    execution: Execution = JUST_IN_TIME

    @property
    def shape(self) -> tuple[int, int]:
        """How many names and rows there are before padding, levels being rows."""
        return self.problem.size, self.linear.rows.shape[-2]


def bucket(size: int, ladder: tuple[int, ...], execution: Execution) -> int:
    """The padded length for `size`; as it is where a program at hand pads it."""
    if execution.programs is not None:
        return size
    for rung in ladder:
        if size <= rung:
            return rung
    return -(-size // STEP) * STEP


def encode(
    problem: Problem,
    compiled: Blocks | None = None,
    levels: Levels | None = None,
    unit: Scalar | None = None,
    *,
    screened: bool = True,
    finer: float = 1.0,
    first: Array | None = None,
    execution: Execution = JUST_IN_TIME,
) -> Encoded:
    """Pad and scale. UnsupportedError for tail limits.

    `compiled` replaces the objective, `unit` what the weights are counted in; `finer`: see
    `problem_data.Data`. With weights `first` to start at utilities are in logarithms. Unless
    `screened` limits without an inside are left for the kernel to have doubts about (`screening`).
    """
    limits, moments, size = problem.limits, Moments(problem), problem.size
    if not limits.cvar_max is limits.cdar_max is limits.drawdown_max is None:
        raise UnsupportedError("tail limits are solved by cuts, not by the smooth solver")
    compiled = compiled if compiled is not None else blocks(problem.objective, moments)
    constraints, is_forced = linear(problem), False
    if screened:
        stated = distinct(constraints)
        constraints = forced(stated)
        is_forced = constraints is not stated
    if compiled.barrier is not None:
        constraints = replace(constraints, lower=np.maximum(constraints.lower, 0.0))
    if unit is None:
        unit = unit_of(constraints, balance(compiled, problem.costs))
    slope, level, known = compiled.linear, None, constraints
    if levels is not None:
        constraints, slope = levels.beside(constraints), np.append(slope, -levels.price)
        level = (np.arange(len(slope)) >= size).astype(np.float64)
        box, rows = (known.lower, known.upper), constraints.rows[:, :size]
        known = replace(constraints, lower=box[0], upper=box[1], rows=rows)
    n = bucket(slope.shape[-1], ASSETS, execution)
    scale = np.abs(constraints.rows).max(axis=-1)
    scale[scale == 0.0] = 1.0
    box = constraints.lower, constraints.upper
    if not _is_one(unit):
        scale = scale * over(unit, 1)
        slope, box = slope * over(unit, 1), (box[0] / over(unit, 1), box[1] / over(unit, 1))
    fields: dict[str, Any] = {
        "unit": np.asarray(unit, np.float64),
        "finer": np.float64(finer),
        "screened": np.float64(screened),
        "lower": padded(box[0], n),
        "upper": padded(box[1], n),
        "linear": padded(slope, n),
        "level": None if level is None else padded(level, n),
        "quad": None if compiled.quad is None else _square(compiled.quad, n, unit),
        "growth": np.float64(compiled.growth) if compiled.growth else None,
        "crra": _utility(compiled.crra, first is not None) if compiled.crra else None,
        "first": None if first is None else padded(first / over(unit, 1), n),
        "budgets": None if compiled.barrier is None else padded(compiled.barrier, n),
        "sharpe": np.float64(1.0) if compiled.ratio else None,
        **_row_fields(constraints, scale, unit, n, execution),
        **_trade_fields(problem, constraints, unit, n),
        **_risk_fields(moments, compiled, unit, n, execution),
    }
    return Encoded(problem, Data(**fields), compiled, known, unit, is_forced, levels, execution)


def _utility(crra: tuple[float, float], logs: bool) -> Array:
    """The kernel's field of it; in logarithms a factor of the utility moves no optimum."""
    return np.array([1.0, crra[1], 1.0] if logs else [*crra, 0.0])


def _square(matrix: Array, n: int, unit: Scalar) -> Array:
    return padded(matrix if _is_one(unit) else matrix * over(unit, 2) ** 2, n, n)


def _is_one(unit: Scalar) -> bool:
    return not isinstance(unit, np.ndarray) and unit == 1.0


def _row_fields(
    constraints: Linear, scale: Array, unit: Scalar, n: int, execution: Execution
) -> dict[str, Any]:
    m = bucket(constraints.rows.shape[-2], ROWS, execution)
    low, high = _row_bounds(constraints, scale)
    price = constraints.price * scale
    return {
        "rows": padded(constraints.rows * (over(unit, 1) / scale)[..., None], m, n),
        "row_min": padded(low, m, fill=-np.inf),
        "row_max": padded(high, m, fill=np.inf),
        "row_scale": padded(scale, m, fill=1.0),
        "price": padded(price, m, fill=np.inf) if np.isfinite(price).any() else None,
    }


def _row_bounds(constraints: Linear, scale: Array) -> tuple[Array, Array]:
    """Scaled bounds, infinite for rows that hold already and have no name left to move."""
    low, high = constraints.row_min / scale, constraints.row_max / scale
    fixed = constraints.lower >= constraints.upper
    if not fixed.any():
        return low, high
    stuck = ~(constraints.rows.astype(bool) & ~fixed[..., None, :]).any(axis=-1)
    value = np.matvec(constraints.rows, np.where(fixed, constraints.lower, 0.0)) / scale
    kept = stuck & (value >= low - HELD) & (value <= high + HELD)
    return np.where(kept, -np.inf, low), np.where(kept, np.inf, high)


def _trade_fields(problem: Problem, constraints: Linear, unit: Scalar, n: int) -> dict[str, Any]:
    costs, gross, turnover = problem.costs, constraints.gross, constraints.turnover
    linear_costs = costs.linear if costs.linear is not None and costs.linear.any() else None
    impact = costs.impact if costs.impact is not None and costs.impact.any() else None
    fields: dict[str, Any] = {} if gross is None else {"gross": np.asarray(gross / unit)}
    if linear_costs is None and impact is None and turnover is None:
        return fields
    held = np.zeros(problem.size) if problem.holdings is None else problem.holdings
    fields["holdings"] = padded(held / over(unit, 1), n)
    if linear_costs is not None:
        fields["cost"] = padded(linear_costs * over(unit, 1), n)
    if impact is not None:
        fields["impact"] = padded(impact * over(unit, 1) ** 1.5, n)
    if turnover is not None:
        fields["turnover"] = np.asarray(turnover / unit)
    return fields


def _risk_fields(
    moments: Moments, compiled: Blocks, unit: Scalar, n: int, execution: Execution
) -> dict[str, Any]:
    limits, cash = moments.problem.limits, moments.problem.cash_return
    risk, per_name = limits.drawdown_risk, over(unit, 1)
    fields: dict[str, Any] = {}
    if limits.volatility_max is not None or limits.var_max is not None:
        fields["cov"] = _square(moments.covariance(), n, unit)
    if limits.volatility_max is not None:
        fields["volatility"] = np.asarray(limits.volatility_max, np.float64)
    if limits.var_max is not None:
        quantile = NormalDist().inv_cdf(limits.var_tail)
        fields["var"] = np.stack(np.broadcast_arrays(quantile, limits.var_max), axis=-1)
        fields["mean"] = padded(moments.mean() * per_name, n)
    if risk is not None and risk.quadratic:
        # The mean of this limit is that of the scenarios, whatever mean the problem states.
        fields["quadratic_exponent"] = np.array([risk.exponent, 0.0])
        fields["second"] = _square(moments.second(), n, unit)
        fields["second_mean"] = padded(moments.scenario_mean() * per_name, n)
    if risk is not None and not risk.quadratic:
        fields["exponent"] = np.array([risk.exponent, np.log1p(cash)])
        if moments.problem.views is not None:
            fields["floor_shift"] = padded(-moments.problem.views / (1.0 + cash) * per_name, n)
    if compiled.growth or compiled.crra or "exponent" in fields:
        fields |= _scenario_fields(moments, unit, n, execution)
    return fields


def _scenario_fields(
    moments: Moments, unit: Scalar, n: int, execution: Execution
) -> dict[str, Any]:
    """Scenarios across, assets down: both products with the weights then run along memory."""
    cash, across = moments.problem.cash_return, np.matrix_transpose(moments.scenarios())
    rates = moments.problem.objective_rates
    if cash != 0.0 or rates.any():
        across = (across - rates[..., None]) / (1.0 + cash)
    if not _is_one(unit):
        across = across * over(unit, 2)
    length = bucket(across.shape[-1], SCENARIOS, execution)
    returns = np.ascontiguousarray(padded(across, n, length))
    return {"returns": returns, "prob": padded(moments.probability(), length)}
