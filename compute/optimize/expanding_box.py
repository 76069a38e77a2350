"""Weights that nothing bounds: the answer within ever wider bounds, until none of them holds.

Solvers that leave out scenarios at first may let such weights run away, which all of the scenarios
would have held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from compute.optimize.limits import box
from compute.optimize.problem import Problem, Solution, Status

# Bounds for weights that have none, in units of the book.
_EDGES = (10.0, 1e3, 1e5)


def bounded(problem: Problem) -> bool:
    """True if every weight has a lower and an upper bound."""
    return all(bool(np.all(np.isfinite(bound))) for bound in box(problem))


def solve_in_expanding_box(
    problem: Problem, unit: float, solve: Callable[[Problem], Solution | None]
) -> Solution | None:
    """The first optimum that no edge holds, or UNBOUNDED where one always does.

    unit: of the book. None where the widest problem has no optimum either.
    """
    lower, upper = box(problem)
    found: Solution | None = None
    for edge in (e * unit for e in _EDGES):
        limits = replace(
            problem.limits, lower=np.maximum(lower, -edge), upper=np.minimum(upper, edge)
        )
        found = solve(replace(problem, limits=limits))
        if found is None or found.status is not Status.OPTIMAL:
            found = None
        elif np.max(np.abs(found.weights)) <= 0.9 * edge:
            return found
    return None if found is None else replace(found, status=Status.UNBOUNDED)
