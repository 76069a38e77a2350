"""Lots beyond the window of a search: better ones, or how much better they can be at most.

A search that looks a few lots around the continuous weights is quick, and its own bound is on those
lots alone. Coarse lots beside fine ones are often best far from there. So the same program is
solved without the window too; and since whole lots are never worth more than the continuous
optimum, the shortfall itself bounds what any others could recover.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from compute.optimize.lots.outer_approximation import (
    Effort,
    IntegerRules,
    IntegerSolution,
    solve_integer,
)
from compute.optimize.problem import Problem
from compute.optimize.time_limit import ENDLESS, TimeLimit

Vector = npt.NDArray[np.float64]

FAR = Effort(rounds_max=10, nodes_max=2000, time_limit_s=0.5)
"""Of the search without a window."""


def widened(
    problem: Problem,
    weights: Vector,
    rules: IntegerRules,
    near: IntegerSolution,
    *,
    tolerance: float,
    time_limit: TimeLimit = ENDLESS,
    is_optimum: bool = True,
) -> IntegerSolution:
    """The better of `near` and what a search without its window finds; the gap is to all lots.

    is_optimum: whether `weights` [n] are the optimum of `problem` without the rules, so that no
    lots are worth more. near, rules, tolerance: as in `solve_integer`, which found `near`.
    """
    if rules.reach_lots is None:
        return near
    if near.weights is not None and is_optimum and near.shortfall <= tolerance:
        return replace(near, gap=max(near.shortfall, 0.0))
    far = solve_integer(
        problem,
        weights,
        replace(rules, reach_lots=None),
        tolerance=tolerance,
        effort=FAR,
        time_limit=time_limit,
    )
    best = far
    if far.weights is None or (near.weights is not None and near.shortfall <= far.shortfall):
        best = near
    rounds = near.rounds + far.rounds
    if best.weights is None:
        return replace(best, rounds=rounds)
    # Both shortfalls are from one start in one unit, so the bound of the far search is of either.
    gap = far.gap + best.shortfall - far.shortfall if far.weights is not None else float("inf")
    if is_optimum:
        gap = min(gap, best.shortfall)
    return replace(best, gap=max(gap, 0.0), rounds=rounds)
