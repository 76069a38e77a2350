"""From the kernel's answer to a `Solution`: weights, prices, status, and what leaves digits open.

All arrays may have a leading axis, of the problems of a stack.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from compute.optimize.interior_point.canonicalize import Encoded
from compute.optimize.interior_point.forcing_rows import row_prices
from compute.optimize.interior_point.kernel import DUAL_TOLERANCE, MU_TOLERANCE, TOLERANCE
from compute.optimize.interior_point.output import Answer
from compute.optimize.limits import box, over
from compute.optimize.objectives import evaluate
from compute.optimize.problem import Array, Multipliers, Problem, Solution, Status

SNAP = 1e-12  # a weight this close to a bound that holds it is put on the bound
SNAP_PRICED = 1e-14  # the same where a soft limit may cost thousands of times the objective
ACCEPTED = 1e-10  # scaled KKT error above which a solve has not converged
ROUNDED = 1e-15  # of wealth; a utility of risk aversion rho makes rho times as much of it
DECIDED = 5e-9  # of the objective, above which a sum of complementarity leaves digits open
OF_TAILS: dict[str, Any] = dict.fromkeys(("cvar_max", "cdar_max", "drawdown_max"), 0.0)
OF_NORMS = ("gross_max", "turnover_max", "drawdown_risk", "volatility_max", "var_max")


def empty(problem: Problem, status: Status, method: str) -> Solution:
    """A solution without weights."""
    return Solution(
        status, np.full(problem.size, np.nan), float("nan"), None, 0, float("inf"), method=method
    )


def decode(encoded: Encoded, answer: Answer, method: str) -> Solution:
    """Read an answer on the host; NOT_CONVERGED (without weights) above ACCEPTED."""
    residual, iterations = float(answer.error), int(answer.iterations)
    if residual <= accepted(encoded):
        weights = snapped(encoded, answer)
        value = float(evaluate(encoded.problem, encoded.blocks, weights))
        if math.isfinite(value):  # neither a riskless ratio nor a book that loses everything
            prices = multipliers_of(encoded, answer, weights)
            return Solution(
                Status.OPTIMAL, weights, value, prices, iterations, residual, method=method
            )
    failed = empty(encoded.problem, Status.NOT_CONVERGED, method)
    return replace(failed, iterations=iterations, residual=residual)


def multipliers_of(encoded: Encoded, answer: Answer, weights: Array) -> Multipliers:
    """The prices of one problem."""
    return Multipliers(**OF_TAILS, **multipliers(encoded, answer, weights))


def accepted(encoded: Encoded) -> float:
    """The error above which a solve has not converged: no answer is better than rounding."""
    crra = encoded.blocks.crra
    return ACCEPTED if crra is None else max(ACCEPTED, ROUNDED * crra[1])


def decode_stack(encoded: Encoded, answer: Answer, method: str) -> Iterator[Solution | None]:
    """The same for every problem of a stack; None where it has to be looked at by itself.

    It has not converged, leaves digits open, or there are doubts about its limits.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # of those that have not
        weights = snapped(encoded, answer)
        value = np.asarray(evaluate(encoded.problem, encoded.blocks, weights))
        found = multipliers(encoded, answer, weights)
        good = (answer.doubtful == 0.0) & (answer.error <= ACCEPTED) & np.isfinite(value)
        good &= openness(encoded, answer, value) <= 1.0
    iterations, residual = answer.iterations.astype(int).tolist(), answer.error.tolist()
    rows = zip(*found.values(), strict=True)
    each = zip(good.tolist(), weights, value.tolist(), rows, iterations, residual, strict=True)
    for is_good, book, worth, prices, steps, error in each:
        if is_good:
            priced = Multipliers(**OF_TAILS, **dict(zip(found, prices, strict=True)))
            yield Solution(Status.OPTIMAL, book, worth, priced, steps, error, method=method)
        else:
            yield None


def openness(encoded: Encoded, answer: Answer, value: Array | float) -> Array:
    """How far an answer is from one that its certificate can do with, which is at 1 or below.

    The largest of the errors over the tolerances of the kernel, and the gap that they leave over
    what the objective is worth (a barrier's is worth nothing to a certificate).
    """
    # Of one problem these are numbers, and arithmetic takes a tenth of the time of a reduction.
    dual, primal, mu = answer.errors.T
    far = np.maximum(np.maximum(dual / DUAL_TOLERANCE, primal / TOLERANCE), mu / MU_TOLERANCE)
    return np.maximum(far, undecided(encoded, answer, value))


def undecided(encoded: Encoded, answer: Answer, value: Array | float) -> Array:
    """The gap that complementarity leaves over what the objective is worth, over `DECIDED`."""
    mu = answer.errors.T[2]
    worth = answer.scale * np.abs(value)
    share = mu * (answer.pairs / DECIDED) * (worth > 0.0) / (worth + 1e-300)
    return np.zeros_like(mu) if encoded.blocks.barrier is not None else np.asarray(share)


def snapped(encoded: Encoded, answer: Answer) -> Array:
    """Weights inside the box, and exactly on bounds and holdings that hold them.

    Where every trade costs, one too small to matter would cost more than it is worth.
    """
    linear, weights = encoded.linear, answer.weights
    near = SNAP if encoded.data.price is None else SNAP_PRICED
    slack = near * over(encoded.unit, 1)
    if encoded.data.kinked:
        held = encoded.problem.holdings
        held = np.zeros_like(weights) if held is None else held
        weights = np.where(np.abs(weights - held) < slack, held, weights)
    weights = np.where(weights - linear.lower < slack, linear.lower, weights)
    return np.where(linear.upper - weights < slack, linear.upper, weights)


def multipliers(encoded: Encoded, answer: Answer, weights: Array) -> dict[str, Any]:
    """The prices by field of `Multipliers`, but for `OF_TAILS`; numbers in a list for a stack."""
    problem, data, linear = encoded.problem, encoded.data, encoded.linear
    if encoded.is_forced:
        answer = _with_forced(encoded, answer, weights)
    trade_slope, gross_slope = answer.trade_slope, answer.gross_slope
    if data.holdings is None and problem.holdings is not None:
        trade_slope = np.sign(weights - problem.holdings)
    found: dict[str, Any] = {
        "lower": answer.lower,
        "upper": answer.upper,
        "trade_max": np.zeros_like(weights),
        "trade_slope": trade_slope,
        "gross_slope": gross_slope,
        "row_min": answer.row_min[..., 1:],
        "row_max": answer.row_max[..., 1:],
        "budget_min": answer.row_min.T[0].tolist(),
        "budget_max": answer.row_max.T[0].tolist(),
        **dict(zip(OF_NORMS, answer.numbers.T.tolist(), strict=True)),
    }
    if problem.limits.trade_max is not None:
        found |= _participation(encoded, answer)
    if linear.gross_row is not False:
        # The gross limit of a long-only book is a row, whose slope is 1 even at w = 0.
        row, price = linear.gross_row, answer.row_max.T[0]
        found["budget_max"] = np.where(row, 0.0, price).tolist()
        found["gross_max"] = np.where(row, price, answer.numbers.T[0]).tolist()
        found["gross_slope"] = np.where(over(row, 1), 1.0, gross_slope)
    return found


def _with_forced(encoded: Encoded, answer: Answer, weights: Array) -> Answer:
    """The prices of one problem where names that a row leaves no choice lean on that row."""
    linear = encoded.linear
    low, high = row_prices(linear, box(encoded.problem), weights, answer.reduced_cost)
    reduced_cost, fixed = (
        answer.reduced_cost + (high - low) @ linear.rows,
        linear.lower >= linear.upper,
    )
    return answer._replace(
        lower=np.where(fixed, np.maximum(reduced_cost, 0.0), answer.lower),
        upper=np.where(fixed, np.maximum(-reduced_cost, 0.0), answer.upper),
        row_min=answer.row_min + low,
        row_max=answer.row_max + high,
    )


def _participation(encoded: Encoded, answer: Answer) -> dict[str, Array]:
    """Prices of bounds that participation holds tighter than the box are those of `trade_max`."""
    linear, limits = encoded.linear, encoded.problem.limits
    own_low = -np.inf if limits.lower is None else limits.lower
    own_high = np.inf if limits.upper is None else limits.upper
    low = np.where(linear.lower > own_low, answer.lower, 0.0)
    high = np.where(linear.upper < own_high, answer.upper, 0.0)
    return {
        "lower": answer.lower - low,
        "upper": answer.upper - high,
        "trade_max": low + high,
    }
