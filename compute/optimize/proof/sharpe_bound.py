"""How much higher a Sharpe ratio can be than that of given weights: the ratio's part of the proof.

The certificate's tangent program bounds mean'v - ratio sigma(v) over all feasible books v. Here
that becomes a bound on the ratio itself, by the least risk a book can have or over the cone of
feasible directions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import sparse

from compute.optimize.linear_program import LinearProgram, LpStatus, maximise
from compute.optimize.problem import Problem
from compute.optimize.proof import duality_gap
from compute.optimize.proof.linearization import Tangent, impact_slope
from compute.optimize.proof.lp_relaxation import best_dual, relaxation
from compute.optimize.proof.objectives import volatility_gradient
from compute.optimize.proof.problem_numbers import ProblemData

Vector = npt.NDArray[np.float64]

# Share of a book's volatility that every feasible book has, below which it counts as none.
LEAST = 1e-3
# Tangents of the volatility that are tried to find that share.
CUTS_MAX = 30
# Bounds of names further apart than this fool a linear program over rays: at its tolerances a book
# that the smallest bound keeps tiny is none.
APART_MAX = 1e6
# Of a linear program whose reduced costs are rounding: far from the 1e-8 of the certificate still.
ROUNDED = 1e-9


def ratio_gap(problem: Problem, program: Tangent, ratio: float, excess_gap: float) -> float:
    """How much higher a feasible Sharpe ratio can be, given mean'v - ratio sigma(v) <= excess_gap.

    sigma(v) >= s'v with s = S w / sigma(w). Where the least s'v over the limits is positive,
    excess_gap over it bounds the rest; beside impact costs those books count that earn their costs.
    Where the limits allow a riskless book it is not, and the ratio, unchanged by scaling a book, is
    bounded over the cone of feasible directions:
    mean'v / sigma(v) <= 1 / min {s'y : y = k v, v feasible, k >= 0, mean'y = 1}.
    Infinite where bounds are too far apart to tell (`APART_MAX`).
    """
    slope = volatility_gradient(ProblemData(problem), program.weights)
    none = np.zeros_like(slope)
    flat = replace(program, gradient=-slope, linear_cost=none, impact=none)
    if program.impact.any() and (least := _least_risk(problem, program)) > 0.0:
        return excess_gap / least
    dual = best_dual(flat)
    if dual is not None:
        least = float(slope @ program.weights) - sum(duality_gap.gap_terms(flat, dual).values())
        # A least volatility of rounding size says nothing.
        if least > LEAST * float(slope @ program.weights):
            return excess_gap / least
    inside = duality_gap.bounded(program)  # a bound that others imply is none, whatever its number
    if _apart(inside) > APART_MAX:
        return float("inf")
    inner = relaxation(inside).build()
    cost_change = np.zeros(len(inner.cost))
    cost_change[: len(slope)] = slope
    worth = inner.cost * program.scale + ratio * cost_change
    constant = ratio * float(slope @ program.weights) - _linear_worth(program, ratio * slope)
    # All is counted in its own size, or tolerances would swallow what is small.
    unit = float(np.abs(slope).max()) or 1.0
    size = float(np.abs(worth).max()) or 1.0
    cone = _cone(inner, worth / size, constant / size, program.reach)
    cone = replace(cone, cost=np.append(-cost_change / unit, 0.0))
    found = maximise(cone)
    if found.status is LpStatus.UNBOUNDED:  # by a ray whose worth is rounding
        found = maximise(cone, tolerance=ROUNDED)
    if found.status is not LpStatus.OPTIMAL or not found.value < 0.0:
        return float("inf")
    return max(-size / (unit * found.value) - ratio, 0.0)


def _apart(program: Tangent) -> float:
    """The largest bound of a name over the smallest, of those that are neither 0 nor infinite."""
    ends = np.abs(np.concatenate([program.lower, program.upper]))
    ends = ends[np.isfinite(ends) & (ends > 0.0)]
    return float(ends.max() / ends.min()) if ends.size else 1.0


def _least_risk(problem: Problem, program: Tangent) -> float:
    """A volatility below which no book within the limits earns its costs, or 0 where there is none.

    sigma(v) >= s'v at any book s is taken at; such books are found one after another (Kelley 1960).
    """
    data, none = ProblemData(problem), np.zeros_like(program.weights)
    excess = data.excess
    enough = LEAST * data.volatility(program.weights)
    flat = replace(_earning(program, excess), gradient=none, linear_cost=none, impact=none)
    slopes = [volatility_gradient(data, program.weights)]
    for _ in range(CUTS_MAX):
        builder = relaxation(duality_gap.bounded(flat))
        builder.columns("risk", 1, 0.0, np.inf, -1.0)
        above = np.ones((len(slopes), 1))
        builder.rows("above", {"weights": -np.array(slopes), "risk": above}, 0.0, np.inf)
        found = maximise(builder.build())
        if found.status is not LpStatus.OPTIMAL or -found.value > enough:
            return -found.value if found.status is LpStatus.OPTIMAL else 0.0
        book = found.point[builder.column_slice("weights")]
        if data.volatility(book) <= enough:
            return 0.0
        slopes.append(volatility_gradient(data, book))
    return 0.0


def _earning(program: Tangent, mean: Vector) -> Tangent:
    """`program` with only books whose mean is not below their costs, by the tangent at no book.

    From holdings to an empty book there is impact: it does not earn its costs.
    """
    slope = mean + program.linear_cost * np.sign(program.centre)
    slope = slope - impact_slope(program.impact, -program.centre)
    held = np.abs(program.centre)
    costs = float(program.linear_cost @ held + program.impact @ held**1.5)
    size = float(np.abs(slope).max()) or 1.0
    return replace(
        program,
        rows=np.vstack([program.rows, slope / size]),
        row_min=np.append(program.row_min, costs / size),
        row_max=np.append(program.row_max, np.inf),
        price=np.append(program.price, np.inf),
        names=(*program.names, "earns its costs"),
    )


def _linear_worth(program: Tangent, risk: Vector) -> float:
    """What the tangent of the ratio's numerator is worth without its constant; risk: S sigma'(w).

    The constant is what impact costs add, whose tangent does not pass through the origin.
    """
    slope = program.gradient + risk
    value, costs = program.rows @ program.weights, program.linear_cost
    excess = np.maximum(np.maximum(value - program.row_max, program.row_min - value), 0.0)
    soft = np.isfinite(program.price)
    worth = slope @ program.weights - costs @ np.abs(program.weights - program.centre)
    return float(worth - program.price[soft] @ excess[soft])


def _cone(program: LinearProgram, worth: Vector, constant: float, reach: float) -> LinearProgram:
    """{(y, k reach): y / k within `program`, k >= 0, worth'y + constant k = 1}, without a cost."""
    size = len(program.cost)
    blocks, rows = [worth[None, :]], [np.full((1, 1), constant)]
    box = np.eye(size)
    for matrix, bound, sign in (
        (program.rows.toarray(), program.row_max, 1.0),
        (program.rows.toarray(), program.row_min, -1.0),
        (box, program.upper, 1.0),
        (box, program.lower, -1.0),
    ):
        keep = np.isfinite(bound)
        blocks.append(sign * matrix[keep])
        rows.append(-sign * bound[keep, None])
    matrix = sparse.csr_array(np.hstack([np.vstack(blocks), np.vstack(rows) / reach]))
    high = np.zeros(matrix.shape[0])
    high[0] = 1.0
    low = np.full(matrix.shape[0], -np.inf)
    low[0] = 1.0
    free = np.full(size + 1, np.inf)
    return LinearProgram(np.zeros(size + 1), matrix, low, high, np.append(-free[1:], 0.0), free)
