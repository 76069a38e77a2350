"""From the kernel's answer to a `Solution`: weights, multipliers, status."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from compute.optimize.objectives import evaluate
from compute.optimize.problem import Array, Multipliers, Problem, Solution, Status
from compute.optimize.solver.encode import Encoded
from compute.optimize.solver.model import Data
from compute.optimize.solver.newton import Parts, sizes

SNAP = 1e-11  # a weight this close to a bound that holds it is put on the bound
ACCEPTED = 1e-10  # scaled KKT error above which a solve has not converged


@dataclass(frozen=True)
class Answer:
    """The kernel's vector taken apart, on the host; see `kernel.pack` for what is in it."""

    w: Array
    gradient: Array
    y: Array
    z: Array
    e: Array
    error: float
    iterations: int
    scale: float


def unpack(data: Data, vector: Array) -> Answer:
    """The parts of a packed vector, `data` giving the lengths."""
    n, m, k = data.lower.shape[0], data.rows.shape[0], sum(sizes(data))
    lengths = (n, n, m, k, 0 if data.price is None else k, 5)
    w, gradient, y, z, e, tail = _pieces(vector, lengths)
    *errors, iterations, scale = tail.tolist()
    error = max(errors) if all(size == size for size in errors) else float("nan")
    return Answer(w, gradient, y, z, e, error, int(iterations), scale)


def _pieces(vector: Array, lengths: tuple[int, ...]) -> list[Array]:
    """Consecutive views of the given lengths."""
    pieces, at = [], 0
    for length in lengths:
        pieces.append(vector[at : at + length])
        at += length
    return pieces


def families(data: Data, vector: Array) -> Any:
    """`Parts` of a host vector: the same names as in the kernel, with NumPy arrays."""
    return Parts._make(_pieces(vector, sizes(data)))


def empty(problem: Problem, status: Status, method: str) -> Solution:
    """A solution without weights."""
    return Solution(
        status, np.full(problem.size, np.nan), float("nan"), None, 0, float("inf"), method=method
    )


def decode(encoded: Encoded, answer: Answer, method: str) -> Solution:
    """Read an answer on the host; NOT_CONVERGED (without weights) above ACCEPTED."""
    problem = encoded.problem
    residual, iterations = answer.error, answer.iterations
    if not residual <= ACCEPTED:
        failed = empty(problem, Status.NOT_CONVERGED, method)
        return replace(failed, iterations=iterations, residual=residual)
    weights = snapped(encoded, answer)
    value = evaluate(problem, encoded.blocks, weights)
    if not np.isfinite(value):  # a riskless ratio, a book that loses everything
        failed = empty(problem, Status.NOT_CONVERGED, method)
        return replace(failed, iterations=iterations, residual=residual)
    prices = multipliers(encoded, answer, weights)
    return Solution(Status.OPTIMAL, weights, value, prices, iterations, residual, method=method)


def snapped(encoded: Encoded, answer: Answer) -> Array:
    """Weights in natural units, exactly on the bounds that hold them, and inside the box."""
    size, linear = encoded.problem.size, encoded.linear
    weights = answer.w[:size] * encoded.unit
    slack = SNAP * encoded.unit
    weights = np.where(weights - linear.lower < slack, linear.lower, weights)
    weights = np.where(linear.upper - weights < slack, linear.upper, weights)
    return np.clip(weights, linear.lower, linear.upper)


def multipliers(encoded: Encoded, answer: Answer, weights: Array) -> Multipliers:
    """Shadow prices in natural units: duals divided by the objective's scale and the unit."""
    linear, size = encoded.linear, encoded.problem.size
    count, scale = linear.rows.shape[0], answer.scale * _ratio_scale(encoded, weights)
    per_weight = scale * encoded.unit
    parts = families(encoded.data, answer.z)
    per_row = encoded.row_scale * scale
    rows_low = (parts.row_low + np.maximum(-answer.y, 0.0))[:count] / per_row
    rows_high = (parts.row_high + np.maximum(answer.y, 0.0))[:count] / per_row
    gross = float(rows_high[0]) if linear.gross_row else _one(parts.gross) / per_weight
    turnover = _one(parts.turnover) / per_weight
    trade_pull, trade_slope = _trade(encoded, parts, weights, per_weight, turnover)
    gross_pull, gross_slope = _gross(encoded, parts, weights, per_weight, gross)
    reduced = answer.gradient[:size] / per_weight + trade_pull + gross_pull
    sides = (parts.low[:size] / per_weight, parts.high[:size] / per_weight)
    lower, upper, trade = _bounds(encoded, sides, reduced)
    return Multipliers(
        lower=lower,
        upper=upper,
        budget_min=float(rows_low[0]),
        budget_max=0.0 if linear.gross_row else float(rows_high[0]),
        row_min=rows_low[1:],
        row_max=rows_high[1:],
        gross_max=gross,
        turnover_max=turnover,
        trade_max=trade,
        cvar_max=0.0,
        cdar_max=0.0,
        drawdown_max=0.0,
        trade_slope=trade_slope,
        gross_slope=gross_slope,
        **_limit_prices(encoded, np.asarray(parts.limits)),
    )


def _ratio_scale(encoded: Encoded, weights: Array) -> float:
    """The kernel maximises mu'w - g/2 w'Sw at the g where that is the Sharpe ratio times this."""
    if not encoded.blocks.ratio or encoded.blocks.quad is None:
        return 1.0
    return float(np.sqrt(weights @ encoded.blocks.quad @ weights))


def _one(values: Array) -> float:
    return float(values[0]) if values.shape[0] else 0.0


def _limit_prices(encoded: Encoded, duals: Array) -> dict[str, float]:
    """Prices of the nonlinear limits, in the order in which the kernel stacks them."""
    data, prices = encoded.data, dict.fromkeys(("volatility_max", "var_max", "drawdown_risk"), 0.0)
    order = (
        ("drawdown_risk", data.exponent, True),
        ("volatility_max", data.volatility, False),
        ("var_max", data.var, False),
        ("drawdown_risk", data.quadratic_exponent, True),
    )
    position = 0
    for name, bound, powered in order:
        if bound is None:
            continue
        # The kernel divides the drawdown-risk limit by its exponent.
        prices[name] = float(duals[position]) / (float(bound[0]) if powered else 1.0)
        position += 1
    return prices


def _trade(
    encoded: Encoded, parts: Any, weights: Array, per_weight: float, turnover: float
) -> tuple[Array, Array]:
    """d(costs + turnover price)/dw as it stands in the KKT conditions, and its slope in [-1, 1]."""
    problem, size = encoded.problem, encoded.problem.size
    held = np.zeros(size) if problem.holdings is None else problem.holdings
    slope = np.sign(weights - held)
    if encoded.data.holdings is None:
        return np.zeros(size), slope
    rate = np.full(size, turnover)
    if problem.costs.linear is not None:
        rate = rate + problem.costs.linear / _ratio_scale(encoded, weights)
    pull = np.asarray((parts.trade_up - parts.trade_down)[:size]) / per_weight
    bend = np.zeros(size)
    if problem.costs.impact is not None:
        bend = 1.5 * problem.costs.impact * np.sqrt(np.abs(weights - held)) * slope
        bend = bend / _ratio_scale(encoded, weights)
    fixed = encoded.linear.lower >= encoded.linear.upper
    pull = np.where(fixed, rate * slope + bend, pull)
    inner = np.divide(pull - bend, rate, out=slope.copy(), where=rate > 0.0)
    return pull, np.clip(inner, -1.0, 1.0)


def _gross(
    encoded: Encoded, parts: Any, weights: Array, per_weight: float, price: float
) -> tuple[Array, Array]:
    """The same for gross_max: price times an element of the subdifferential of |w|."""
    size, slope = encoded.problem.size, np.sign(weights)
    if encoded.data.gross is None:
        # The gross limit of a long-only book is a row, whose slope is 1 even at w = 0.
        return np.zeros(size), np.ones(size) if encoded.linear.gross_row else slope
    pull = np.asarray((parts.gross_up - parts.gross_down)[:size]) / per_weight
    fixed = encoded.linear.lower >= encoded.linear.upper
    pull = np.where(fixed, price * slope, pull)
    if price <= 0.0:
        return pull, slope
    return pull, np.clip(pull / price, -1.0, 1.0)


def _bounds(
    encoded: Encoded, sides: tuple[Array, Array], reduced: Array
) -> tuple[Array, Array, Array]:
    """Split bound prices into lower, upper and participation; fixed names take all of theirs."""
    linear, limits = encoded.linear, encoded.problem.limits
    fixed = linear.lower >= linear.upper
    low = np.where(fixed, np.maximum(reduced, 0.0), sides[0])
    high = np.where(fixed, np.maximum(-reduced, 0.0), sides[1])
    trade = np.zeros_like(low)
    if limits.trade_max is None:
        return low, high, trade
    own_low = -np.inf if limits.lower is None else limits.lower
    own_high = np.inf if limits.upper is None else limits.upper
    from_low = np.where(linear.lower > own_low, low, 0.0)
    from_high = np.where(linear.upper < own_high, high, 0.0)
    return low - from_low, high - from_high, from_low + from_high
