"""Shadow prices of every limit in natural units, from the duals of the kernel.

All arrays may have a leading axis, of the problems of a stack.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.optimize.limits import box
from compute.optimize.problem import Array
from compute.optimize.solver.answer import Answer
from compute.optimize.solver.encode import Encoded, over
from compute.optimize.solver.forced import row_prices
from compute.optimize.solver.model import Data
from compute.optimize.solver.newton import Parts, pieces, sizes

Mask = NDArray[np.bool_]


def multipliers(encoded: Encoded, answer: Answer, weights: Array) -> dict[str, Array]:
    """Shadow prices in natural units: duals divided by the objective's scale and the unit.

    By field of `Multipliers`, single numbers as f64[1].
    """
    data, linear = encoded.data, encoded.linear
    count, ratio = linear.rows.shape[-2], ratio_scale(encoded, weights)
    scale = answer.scale * ratio
    per_row, per_weight = encoded.row_scale * scale, scale * over(encoded.unit, 1)
    parts: Any = Parts._make(pieces(answer.z, sizes(data)))
    rows_low = (parts.row_low + np.maximum(-answer.y, 0.0))[..., :count] / per_row
    rows_high = (parts.row_high + np.maximum(answer.y, 0.0))[..., :count] / per_row
    zero = np.zeros_like(scale)
    gross = zero if data.gross is None else parts.gross / per_weight
    turnover = zero if data.turnover is None else parts.turnover / per_weight
    fixed = linear.lower >= linear.upper
    trade = _trade(encoded, parts, weights, (per_weight, ratio), turnover, fixed)
    sized = _gross(encoded, parts, weights, per_weight, gross, fixed)
    pull = answer.gradient[..., : weights.shape[-1]] / per_weight + trade[0] + sized[0]
    if fixed.any() and pull.ndim == 1:
        added = row_prices(linear, box(encoded.problem), weights, pull)
        pull = pull + (added[1] - added[0]) @ linear.rows
        rows_low, rows_high = rows_low + added[0], rows_high + added[1]
    lower, upper, traded = _bounds(encoded, parts, per_weight, pull, fixed)
    budget = rows_high[..., :1]
    if linear.gross_row is not False:
        row = over(linear.gross_row, 1)
        gross, budget = np.where(row, budget, gross), np.where(row, 0.0, budget)
    return {
        "lower": lower,
        "upper": upper,
        "budget_min": rows_low[..., :1],
        "budget_max": budget,
        "row_min": rows_low[..., 1:],
        "row_max": rows_high[..., 1:],
        "gross_max": gross,
        "turnover_max": turnover,
        "trade_max": traded,
        "cvar_max": zero,
        "cdar_max": zero,
        "drawdown_max": zero,
        "volatility_max": zero,
        "var_max": zero,
        "drawdown_risk": zero,
        "trade_slope": trade[1],
        "gross_slope": sized[1],
        **_limit_prices(data, parts.limits),
    }


def ratio_scale(encoded: Encoded, weights: Array) -> Array | float:
    """The kernel maximises mu'w - g/2 w'Sw at the g where that is the Sharpe ratio times this."""
    if not encoded.blocks.ratio or encoded.blocks.quad is None:
        return 1.0
    variance = np.vecdot(weights, np.matvec(encoded.blocks.quad, weights))
    return np.sqrt(variance)[..., None]


def _limit_prices(data: Data, duals: Array) -> dict[str, Array]:
    """Prices of the nonlinear limits, in the order in which the kernel stacks them."""
    order = (
        ("drawdown_risk", data.exponent, True),
        ("volatility_max", data.volatility, False),
        ("var_max", data.var, False),
        ("drawdown_risk", data.quadratic_exponent, True),
    )
    prices: dict[str, Array] = {}
    for name, bound, powered in order:
        if bound is not None:
            # The kernel divides the drawdown-risk limit by its exponent.
            at, scale = len(prices), np.asarray(bound)[..., :1] if powered else 1.0
            prices[name] = duals[..., at : at + 1] / scale
    return prices


def _trade(
    encoded: Encoded,
    parts: Any,
    weights: Array,
    scales: tuple[Array, Array | float],
    turnover: Array,
    fixed: Mask,
) -> tuple[Array, Array]:
    """d(costs + turnover price)/dw as it stands in the KKT conditions, and its slope in [-1, 1]."""
    problem, (per_weight, ratio) = encoded.problem, scales
    trade = weights if problem.holdings is None else weights - problem.holdings
    slope = np.sign(trade)
    pull, inner = np.zeros_like(weights), slope
    if encoded.data.kinked:
        rate = turnover
        if problem.costs.linear is not None:
            rate = rate + problem.costs.linear / ratio
        pull = (parts.trade_up - parts.trade_down)[..., : problem.size] / per_weight
        pull = np.where(fixed, rate * slope, pull)
        inner = np.divide(pull, rate, out=slope.copy(), where=rate > 0.0)
        np.clip(inner, -1.0, 1.0, out=inner)
    if problem.costs.impact is not None:
        pull = pull + 1.5 * problem.costs.impact * np.sqrt(np.abs(trade)) * slope / ratio
    return pull, inner


def _gross(
    encoded: Encoded, parts: Any, weights: Array, per_weight: Array, price: Array, fixed: Mask
) -> tuple[Array, Array]:
    """The same for gross_max: price times an element of the subdifferential of |w|."""
    slope, row = np.sign(weights), encoded.linear.gross_row
    pull = np.zeros_like(weights)
    if encoded.data.gross is not None:
        pull = (parts.gross_up - parts.gross_down)[..., : weights.shape[-1]] / per_weight
        pull = np.where(fixed, price * slope, pull)
        inner = np.divide(pull, price, out=slope.copy(), where=price > 0.0)
        slope = np.clip(inner, -1.0, 1.0)
    if row is False:
        return pull, slope
    # The gross limit of a long-only book is a row, whose slope is 1 even at w = 0.
    of_row = over(row, 1)
    return np.where(of_row, 0.0, pull), np.where(of_row, 1.0, slope)


def _bounds(
    encoded: Encoded, parts: Any, per_weight: Array, reduced: Array, fixed: Mask
) -> tuple[Array, Array, Array]:
    """Split bound prices into lower, upper and participation; fixed names take all of theirs."""
    linear, limits = encoded.linear, encoded.problem.limits
    n = reduced.shape[-1]
    low, high = parts.low[..., :n] / per_weight, parts.high[..., :n] / per_weight
    if fixed.any():
        low = np.where(fixed, np.maximum(reduced, 0.0), low)
        high = np.where(fixed, np.maximum(-reduced, 0.0), high)
    if limits.trade_max is None:
        return low, high, np.zeros_like(low)
    own_low = -np.inf if limits.lower is None else limits.lower
    own_high = np.inf if limits.upper is None else limits.upper
    from_low = np.where(linear.lower > own_low, low, 0.0)
    from_high = np.where(linear.upper < own_high, high, 0.0)
    return low - from_low, high - from_high, from_low + from_high
