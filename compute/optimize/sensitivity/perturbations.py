"""Families of problems that sensitivities are asked along: one number moves, the rest stays.

Each returns p(e), the problem with the number raised by e times the unit that comes with it, so
that one step of finite differences suits means and variances alike.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compute.optimize.execution import JUST_IN_TIME, Execution
from compute.optimize.problem import FactorCovariance, Limits, Problem, Solution
from compute.optimize.sensitivity import Sides, sensitivity

SCALARS = (
    *("budget_min", "budget_max", "gross_max", "turnover_max", "volatility_max", "var_max"),
    *("cvar_max", "cdar_max", "drawdown_max"),
)
COLUMNS = ("lower", "upper", "trade_max")


def to_mean(
    problem: Problem, solution: Solution, asset: int, execution: Execution = JUST_IN_TIME
) -> Sides:
    """d weights / d expected return of one asset, which moves in every scenario alike."""

    def family(step: float) -> Problem:
        moved = problem
        if problem.mean is not None:
            mean = problem.mean.copy()
            mean[asset] += step
            moved = replace(moved, mean=mean)
        if problem.scenarios is not None:
            scenarios = problem.scenarios.copy()
            scenarios[:, asset] += step
            moved = replace(moved, scenarios=scenarios)
        return moved

    return sensitivity(solution, family, execution)


def to_covariance(
    problem: Problem,
    solution: Solution,
    first: int,
    second: int,
    execution: Execution = JUST_IN_TIME,
) -> Sides:
    """d weights / d covariance of a pair (both entries), or variance where they are the same.

    ValueError where the problem states no covariance.
    """
    given = problem.covariance
    if given is None:
        raise ValueError("the problem states no covariance; give the one that is to move")
    dense = given.dense() if isinstance(given, FactorCovariance) else given
    unit = float(np.sqrt(dense[first, first] * dense[second, second])) or 1.0

    def family(step: float) -> Problem:
        moved = dense.copy()
        moved[first, second] += step * unit
        if first != second:
            moved[second, first] += step * unit
        return replace(problem, covariance=moved)

    sides = sensitivity(solution, family, execution)
    return Sides(left=sides.left / unit, right=sides.right / unit)


def to_limit(
    problem: Problem,
    solution: Solution,
    name: str,
    asset: int | None = None,
    execution: Execution = JUST_IN_TIME,
) -> Sides:
    """d weights / d bound of a limit, named as its shadow price is: `gross_max`, `ROW max`, ...

    asset: of `lower`, `upper` and `trade_max`. ValueError for a limit the problem doesn't have.
    """

    def family(step: float) -> Problem:
        return replace(problem, limits=_raised(problem.limits, name, asset, step))

    family(0.0)
    return sensitivity(solution, family, execution)


def _raised(limits: Limits, name: str, asset: int | None, step: float) -> Limits:
    if asset is not None and name in COLUMNS and getattr(limits, name) is not None:
        column = getattr(limits, name).copy()
        column[asset] += step
        return replace(limits, **{name: column})
    if name in SCALARS and getattr(limits, name) is not None:
        return replace(limits, **{name: getattr(limits, name) + step})
    rows, (row, _, side) = limits.rows, name.rpartition(" ")
    if rows is None or row not in rows.names or side not in ("min", "max"):
        raise ValueError(f"no limit {name!r} to move")
    bound = getattr(rows, f"row_{side}").copy()
    bound[rows.names.index(row)] += step
    return replace(limits, rows=replace(rows, **{f"row_{side}": bound}))
