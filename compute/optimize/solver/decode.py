"""From the kernel's answer to a `Solution`: weights, status, and what leaves digits open.

All arrays may have a leading axis, of the problems of a stack.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np

from compute.optimize.limits import box
from compute.optimize.objectives import evaluate
from compute.optimize.problem import Array, Multipliers, Problem, Solution, Status
from compute.optimize.solver.answer import Answer
from compute.optimize.solver.encode import Encoded, over
from compute.optimize.solver.kernel import DUAL_TOLERANCE, MU_TOLERANCE, TOLERANCE
from compute.optimize.solver.prices import multipliers, ratio_scale

SNAP = 1e-12  # a weight this close to a bound that holds it is put on the bound
ACCEPTED = 1e-10  # scaled KKT error above which a solve has not converged
DECIDED = 5e-9  # of the objective, above which a sum of complementarity leaves digits open
FIELDS = tuple(field.name for field in fields(Multipliers))
NUMBERS = tuple(field.name for field in fields(Multipliers) if field.type == "float")


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
    worth = (answer.scale * ratio_scale(encoded, weights)).T[0] * abs(value)
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
