"""From the kernel's answer to a `Solution`: weights, multipliers, status.

All arrays may have a leading axis, of the problems of a stack.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.optimize.limits import box
from compute.optimize.objectives import evaluate
from compute.optimize.problem import Array, Multipliers, Problem, Solution, Status
from compute.optimize.solver.encode import Encoded, over
from compute.optimize.solver.forced import row_prices
from compute.optimize.solver.kernel import DUAL_TOLERANCE, MU_TOLERANCE, TOLERANCE
from compute.optimize.solver.model import Data
from compute.optimize.solver.newton import Parts, pieces, sizes

SNAP = 1e-12  # a weight this close to a bound that holds it is put on the bound
Mask = NDArray[np.bool_]
ACCEPTED = 1e-10  # scaled KKT error above which a solve has not converged
DECIDED = 5e-9  # of the objective, above which a sum of complementarity leaves digits open
FIELDS = tuple(field.name for field in fields(Multipliers))
NUMBERS = tuple(field.name for field in fields(Multipliers) if field.type == "float")


@dataclass(frozen=True)
class Answer:
    """The kernel's vector taken apart, on the host; see `kernel.pack` for what is in it."""

    w: Array
    gradient: Array
    y: Array
    z: Array
    e: Array
    errors: Array  # f64[3], see `interior.error`
    iterations: Array
    scale: Array  # f64[1]

    @property
    def error(self) -> Array:
        """The largest of the errors."""
        return np.asarray(self.errors.max(axis=-1))


def unpack(data: Data, vector: Array) -> Answer:
    """The parts of a packed vector, `data` giving the lengths."""
    n, m, k = data.lower.shape[-1], data.rows.shape[-2], sum(sizes(data))
    lengths = (n, n, m, k, 0 if data.price is None else k, 3, 1, 1)
    w, gradient, y, z, e, errors, iterations, scale = pieces(vector, lengths)
    return Answer(w, gradient, y, z, e, errors, iterations[..., 0], scale)


def empty(problem: Problem, status: Status, method: str) -> Solution:
    """A solution without weights."""
    return Solution(
        status, np.full(problem.size, np.nan), float("nan"), None, 0, float("inf"), method=method
    )


def decode(encoded: Encoded, answer: Answer, method: str) -> Solution:
    """Read an answer on the host; NOT_CONVERGED (without weights) above ACCEPTED."""
    residual, iterations = float(answer.error), int(answer.iterations)
    if residual <= ACCEPTED:
        weights = snapped(encoded, answer)
        value = float(evaluate(encoded.problem, encoded.blocks, weights))
        if math.isfinite(value):  # neither a riskless ratio nor a book that loses everything
            found: dict[str, Any] = multipliers(encoded, answer, weights)
            numbers = {name: float(found[name][0]) for name in NUMBERS}
            prices = Multipliers(**(found | numbers))
            return Solution(
                Status.OPTIMAL, weights, value, prices, iterations, residual, method=method
            )
    failed = empty(encoded.problem, Status.NOT_CONVERGED, method)
    return replace(failed, iterations=iterations, residual=residual)


def decode_stack(encoded: Encoded, answer: Answer, method: str) -> Iterator[Solution | None]:
    """The same for every problem of a stack; None where it has to be looked at by itself.

    It has not converged, leaves digits open, or has names that a row leaves no choice.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # of those that have not
        weights = snapped(encoded, answer)
        value = np.asarray(evaluate(encoded.problem, encoded.blocks, weights))
        found: dict[str, Any] = multipliers(encoded, answer, weights)
    found |= {name: found[name][:, 0].tolist() for name in NUMBERS}
    good = (answer.error <= ACCEPTED) & np.isfinite(value)
    good &= openness(encoded, answer, weights, value) <= 1.0
    low, high = box(encoded.problem)
    good &= ~((encoded.linear.lower >= encoded.linear.upper) & (low < high)).any(axis=-1)
    iterations, residual = answer.iterations.astype(int).tolist(), answer.error.tolist()
    good = good.tolist()
    rows = zip(*(found[name] for name in FIELDS), strict=True)
    each = zip(good, weights, value.tolist(), rows, iterations, residual, strict=True)
    for is_good, book, worth, prices, steps, error in each:
        if is_good:
            priced = Multipliers(*prices)
            yield Solution(Status.OPTIMAL, book, worth, priced, steps, error, method=method)
        else:
            yield None


def openness(encoded: Encoded, answer: Answer, weights: Array, value: Array | float) -> Array:
    """How far an answer is from one that its certificate can do with, which is at 1 or below.

    The largest of the errors over the tolerances of the kernel, and the gap that they leave over
    what the objective is worth (a barrier's is worth nothing to a certificate).
    """
    # Of one problem these are numbers, and arithmetic takes a tenth of the time of a reduction.
    dual, primal, mu = answer.errors.T
    far = np.maximum(np.maximum(dual / DUAL_TOLERANCE, primal / TOLERANCE), mu / MU_TOLERANCE)
    if encoded.blocks.barrier is not None:
        return np.asarray(far)
    worth = (answer.scale * _ratio_scale(encoded, weights)).T[0] * abs(value)
    share = mu * (answer.z.shape[-1] / DECIDED) * (worth > 0.0) / (worth + 1e-300)
    return np.maximum(far, share)


def snapped(encoded: Encoded, answer: Answer) -> Array:
    """Weights in natural units, inside the box, and exactly on bounds and holdings that hold them.

    Where every trade costs, one too small to matter would cost more than it is worth.
    """
    linear, unit = encoded.linear, over(encoded.unit, 1)
    weights, slack = answer.w[..., : encoded.problem.size] * unit, SNAP * unit
    if encoded.data.kinked:
        held = encoded.problem.holdings
        held = np.zeros_like(weights) if held is None else held
        weights = np.where(np.abs(weights - held) < slack, held, weights)
    weights = np.where(weights - linear.lower < slack, linear.lower, weights)
    return np.where(linear.upper - weights < slack, linear.upper, weights)


def multipliers(encoded: Encoded, answer: Answer, weights: Array) -> dict[str, Array]:
    """Shadow prices in natural units: duals divided by the objective's scale and the unit.

    By field of `Multipliers`, single numbers as f64[1].
    """
    data, linear = encoded.data, encoded.linear
    count, ratio = linear.rows.shape[-2], _ratio_scale(encoded, weights)
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


def _ratio_scale(encoded: Encoded, weights: Array) -> Array | float:
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
