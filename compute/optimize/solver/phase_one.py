"""Are the limits possible at all? The least total violation of rows and norms inside the box.

    minimise  1'e   subject to   every row, gross, turnover and risk limit holds up to e >= 0

The same interior point solves it, every limit being soft at price 1 and the objective zero.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compute.optimize.limits import box
from compute.optimize.objectives import Blocks
from compute.optimize.problem import Costs, Problem, Solution, Status
from compute.optimize.solver.decode import decode, empty, unpack
from compute.optimize.solver.encode import encode
from compute.optimize.solver.interior import LAG
from compute.optimize.solver.model import Data
from compute.optimize.solver.slots import run_kernel

METHOD = "least violation"
VIOLATION_MIN = 1e-9  # of rows scaled to a largest coefficient of 1
ROUNDING = 1e-12


def infeasibility(problem: Problem) -> Solution | None:
    """INFEASIBLE with its evidence (least violation and its multipliers), or None if feasible."""
    lower, upper = box(problem)
    if np.any(lower > upper):
        crossed = float(np.max(lower - upper))
        return replace(empty(problem, Status.INFEASIBLE, "box"), violation_min=crossed)
    least, solution = _least(problem)
    if solution.status is not Status.OPTIMAL or least <= VIOLATION_MIN:
        return None
    return replace(
        empty(problem, Status.INFEASIBLE, METHOD),
        multipliers=solution.multipliers,
        violation_min=least,
        iterations=solution.iterations,
        residual=solution.residual,
    )


def least_violation(problem: Problem) -> float:
    """The least total violation, scaled; 0 where it is within rounding or was not found."""
    least, solution = _least(problem)
    found = solution.status is Status.OPTIMAL and least > ROUNDING
    return least if found else 0.0


def _least(problem: Problem) -> tuple[float, Solution]:
    encoded = encode(replace(problem, costs=Costs()), Blocks(np.zeros(problem.size)))
    ones = np.ones(encoded.data.rows.shape[0])
    data = Data(**{**encoded.data._asdict(), "price": ones, "price_tail": np.float64(1.0)})
    encoded = replace(encoded, data=data)
    answer = unpack(data, run_kernel(data, LAG))
    return float(np.sum(answer.e)), decode(encoded, answer, METHOD)
