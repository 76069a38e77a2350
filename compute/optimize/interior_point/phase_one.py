"""Are the limits possible at all? The least total violation of rows and norms inside the box.

    minimise  1'e   subject to   every hard row, gross, turnover and risk limit holds up to e >= 0

The same interior point solves it, every limit being soft at price 1 and the objective zero. Limits
that are soft by themselves may be broken: they take no part.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compute.optimize.execution import Execution
from compute.optimize.interior_point.canonicalize import encode
from compute.optimize.interior_point.compiled_shapes import run_kernel
from compute.optimize.interior_point.iteration import LAG
from compute.optimize.interior_point.problem_data import Data
from compute.optimize.interior_point.recover import decode, empty
from compute.optimize.limits import box
from compute.optimize.objectives import Blocks
from compute.optimize.problem import (
    Costs,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
    Solution,
    Status,
)

METHOD = "least violation"
VIOLATION_MIN = 1e-9  # of rows scaled to a largest coefficient of 1
ROUNDING = 1e-12


def infeasibility(problem: Problem, execution: Execution) -> Solution | None:
    """INFEASIBLE with its evidence (least violation and its multipliers), or None if feasible.

    A violation far beyond doubt needs no convergence, which is then without multipliers.
    """
    lower, upper = box(problem)
    if np.any(lower > upper):
        crossed = float(np.max(lower - upper))
        return replace(empty(problem, Status.INFEASIBLE, "box"), violation_min=crossed)
    least, doubt, solution = _least(problem, execution)
    if not least - doubt > VIOLATION_MIN:
        return None  # there is none, or it is too little to say so
    return replace(
        empty(problem, Status.INFEASIBLE, METHOD),
        multipliers=solution.multipliers,
        violation_min=least,
        iterations=solution.iterations,
        residual=solution.residual,
    )


def least_violation(problem: Problem, execution: Execution) -> float:
    """The least total violation, scaled; 0 where it is within rounding or was not found."""
    least, _, solution = _least(problem, execution)
    found = solution.status is Status.OPTIMAL and least > ROUNDING
    return least if found else 0.0


def _least(problem: Problem, execution: Execution) -> tuple[float, float, Solution]:
    """The least violation, how far it may be from the least, and the weights it is found at."""
    # Of nothing but the limits: an objective may have no value where these are met best.
    nothing = Objective(ObjectiveKind.MAX_RETURN)
    hard = replace(problem, objective=nothing, costs=Costs(), limits=_hard(problem.limits))
    encoded = encode(hard, Blocks(np.zeros(problem.size)), execution=execution)
    ones = np.ones(encoded.data.rows.shape[0])
    data = Data(**{**encoded.data._asdict(), "price": ones, "price_tail": np.float64(1.0)})
    encoded = replace(encoded, data=data)
    answer = run_kernel(encoded, LAG)
    solution = decode(encoded, answer, METHOD)
    return float(answer.violation), float(answer.pairs) * float(answer.error), solution


def _hard(limits: Limits) -> Limits:
    """The limits with those rows that have a price lifted."""
    rows = limits.rows
    if rows is None or rows.price is None:
        return limits
    soft = np.isfinite(rows.price)
    low, high = np.where(soft, -np.inf, rows.row_min), np.where(soft, np.inf, rows.row_max)
    return replace(limits, rows=Rows(rows.matrix, low, high, rows.names))
