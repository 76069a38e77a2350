"""The same small linear programs by the simplex method, where the interior point stalls.

A feasible set without an inside (bounds that add up to the budget, a cap that one book meets) has
multipliers without bound, and interior points lose their digits there. A vertex has no such
trouble, and programs of a hundred rows cost HiGHS a few milliseconds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compute.optimize.execution import JUST_IN_TIME, Execution
from compute.optimize.linear_program import LinearProgram, LpStatus, maximise
from compute.optimize.tail_lp.interior_point import LinearAnswer


def vertex(
    program: LinearProgram, stalled: LinearAnswer, execution: Execution = JUST_IN_TIME
) -> LinearAnswer:
    """The optimum as a vertex with its prices; `stalled` as it is where there is none."""
    found = maximise(program, time_limit=execution.time_limit)
    if found.status is not LpStatus.OPTIMAL:
        return replace(stalled, error=float("inf"))
    point = np.clip(found.point, program.lower, program.upper)
    value = program.rows @ point
    beyond = np.maximum(program.row_min - value, value - program.row_max)
    # What the prices leave of the cost must be carried by a bound: where there is none, a residual.
    price = -found.row_dual
    reduced_cost = program.loss - price @ program.rows
    low, high = np.isfinite(program.lower), np.isfinite(program.upper)
    loose = np.where(low, 0.0, np.maximum(reduced_cost, 0.0)) + np.where(
        high, 0.0, np.maximum(-reduced_cost, 0.0)
    )
    error = max(float(beyond.max(initial=0.0)), float(loose.max(initial=0.0)))
    return LinearAnswer(point, price, stalled.iterations, error)
