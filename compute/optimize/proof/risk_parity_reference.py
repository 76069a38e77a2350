"""Which book is best where limits cut risk budgets off: a convex program, in plain NumPy.

The budgets are met by one long book v up to its size, the minimiser of the logarithmic barrier
(Spinu 2013), taken at the sum the limits ask for. Where limits do not allow v no book has the
shares asked for, and nothing convex measures how far they are missed. Optimal is then, after
Richard and Roncalli (2019),

    the w inside the limits with the least  1/2 w'Sw - lambda b'log w,   lambda = v'Sv,

which is v wherever v is allowed. It has bounds like any convex program, so it can be proven; the
shares it misses remain the value that is reported.
"""

from __future__ import annotations

import numpy as np

from compute.optimize.problem import Objective
from compute.optimize.proof.problem_numbers import Matrix, ProblemData, Vector

STEPS_MAX = 200
DECREMENT = 1e-22  # of the square of Newton's decrement, the distance left
NEAR = 1e-10  # below which full steps converge and differences of the function are rounding


def slope(data: ProblemData, objective: Objective, weights: Vector) -> Vector:
    """Gradient [n] of lambda b'log w - 1/2 w'Sw; NaN outside its domain, w > 0."""
    if not np.all(weights > 0.0):
        return np.full(data.size, np.nan)
    gradient = level(data, objective) * _shares(data, objective) / weights
    return np.asarray(gradient - data.covariance @ weights)


def level(data: ProblemData, objective: Objective) -> float:
    """lambda: the variance of the book that meets the budgets; 0 where no book does."""
    limits = data.problem.limits
    sums = (limits.budget_max, limits.budget_min)
    aimed = [total for total in sums if total is not None and np.isfinite(total) and total > 0.0]
    book = _barrier_book(data.covariance, _shares(data, objective))
    if book is None:
        return 0.0
    book = book * ((aimed or [1.0])[0] / book.sum())
    return float(book @ data.covariance @ book)


def _shares(data: ProblemData, objective: Objective) -> Vector:
    budgets = np.ones(data.size) if objective.budgets is None else objective.budgets
    return np.asarray(budgets / budgets.sum())


def _barrier_book(covariance: Matrix, shares: Vector) -> Vector | None:
    """The minimiser of 1/2 x'Sx - b'log x by Newton's method with backtracking; None without."""
    volatility = np.sqrt(np.diagonal(covariance))
    if not np.all(volatility > 0.0):
        return None
    matrix = covariance / np.outer(volatility, volatility)

    def value(at: Vector) -> float:
        return float(0.5 * at @ matrix @ at - shares @ np.log(at))

    y = np.sqrt(shares)
    for _ in range(STEPS_MAX):
        gradient = matrix @ y - shares / y
        step = np.linalg.solve(matrix + np.diag(shares / y**2), gradient)
        left = float(gradient @ step)
        if left <= DECREMENT:
            return np.asarray(y / volatility)
        length = min(1.0, 0.9 / max(float(np.max(step / y)), 1e-300))
        while left > NEAR and value(y - length * step) > value(y) - 0.1 * length * left:
            length *= 0.5
        y = y - length * step
    return None
