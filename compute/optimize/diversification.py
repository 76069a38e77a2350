"""The largest diversification ratio, stated as a Sharpe ratio.

    sum_i s_i |w_i| / sqrt(w'Sw),      s_i = sqrt(S_ii)

Weights whose sides are known make the numerator linear: it is that of a Sharpe ratio whose means
over cash are the deviations, with the sign of each side (Choueifaty and Coignard 2008, J. Portfolio
Management 35(1)). Costs play no part in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from compute.optimize.objectives import Moments
from compute.optimize.problem import (
    Array,
    Costs,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
    Solution,
    Status,
)

GROSS_ROW = "gross weight"
"""A ratio says nothing of the size of a book; this row does, and is no limit."""

NEAR = 1e-6
"""Of the largest size, which leaves the book some choice."""


def as_sharpe(problem: Problem, side: Array | float = 1.0) -> Problem:
    """A problem of kind MAX_DIVERSIFICATION as one of kind MAX_SHARPE; others as they are.

    side: f64[n], the sign each weight can only have; 0 where it is only on its way to none. The
    deviations are stated as views, so that limits are those of the returns.
    Raises ValueError where there is neither a covariance nor scenarios.
    """
    if problem.objective.kind is not ObjectiveKind.MAX_DIVERSIFICATION:
        return problem
    variance = np.diagonal(Moments(problem).covariance())
    wanted = np.broadcast_to(side * np.sqrt(np.maximum(variance, 0.0)), (problem.size,))
    return replace(
        _expecting(problem, wanted),
        objective=Objective(ObjectiveKind.MAX_SHARPE),
        costs=Costs(),
    )


def _expecting(problem: Problem, excess: Array) -> Problem:
    """The problem with this mean, f64[n], over financing in its objective."""
    mean = Moments(problem).mean()
    return replace(problem, views=excess + problem.financing_rates - mean)


def with_gross(problem: Problem, side: Array, gross: float) -> Problem:
    """The problem with side'w = gross, after its own rows."""
    bound = np.array([gross])
    row = Rows(np.asarray(side, np.float64)[None], bound, bound, (GROSS_ROW,))
    return replace(problem, limits=problem.limits.with_rows(row))


def has_least_gross(problem: Problem) -> bool:
    """Whether the book has to be of one size."""
    rows = problem.limits.rows
    return rows is not None and GROSS_ROW in rows.names


def of_largest_gross(problem: Problem, solve: Callable[[Problem], Solution]) -> Problem:
    """The problem with side'w as large as its limits let it be, and at most as it was asked for."""
    rows = problem.limits.rows
    assert rows is not None, "it has a row for the size"
    place = rows.names.index(GROSS_ROW)
    low = rows.row_min.copy()
    low[place] = -np.inf
    free = _with_least(problem, low)
    side = rows.matrix[place]
    largest = replace(_expecting(free, side), objective=Objective(ObjectiveKind.MAX_RETURN))
    found = solve(largest)
    if found.status is not Status.OPTIMAL:
        return free
    low[place] = (1.0 - NEAR) * float(side @ found.weights)
    return _with_least(problem, low)


def _with_least(problem: Problem, low: Array) -> Problem:
    rows = problem.limits.rows
    assert rows is not None, "it has a row for the size"
    return replace(problem, limits=replace(problem.limits, rows=replace(rows, row_min=low)))
