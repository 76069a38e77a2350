"""Problems of one form as one problem, whose arrays have a leading axis.

What is made of a problem is made of a whole stack then by the same functions, with as many NumPy
calls as for one. What all problems share, one object, is made once and has no leading axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import numpy as np
from jax import lax

from compute.optimize.problem import FactorCovariance, ObjectiveKind, Problem

SIDE_BY_SIDE_MAX = 32  # unknowns up to which problems are iterated side by side
# A mean-variance stack may differ in its risk aversion; what other kinds read is alike in one.
_AVERSE = ObjectiveKind.MEAN_VARIANCE


def form(problem: Problem) -> tuple[object, ...]:
    """Equal for problems that can be stacked: the same parts, of the same shapes and settings."""
    objective, limits, costs = problem.objective, problem.limits, problem.costs
    rows, given = limits.rows, problem.covariance
    kind = objective.kind
    return (
        kind,
        objective.risk_aversion if kind is not _AVERSE else None,
        id(objective) if objective.terms else None,
        problem.cash_return,
        None if problem.financing is None else problem.financing.tobytes(),
        None if problem.views is None else problem.views.tobytes(),
        limits.var_tail,
        limits.drawdown_risk,
        limits.budget_min is None,
        limits.budget_max is None,
        limits.gross_max is None,
        limits.turnover_max is None,
        limits.volatility_max is None,
        limits.var_max is None,
        limits.cvar_max is limits.cdar_max is limits.drawdown_max is None,
        _shape(problem.mean),
        _shape(given.specific if isinstance(given, FactorCovariance) else given),
        _shape(problem.scenarios),
        _shape(problem.scenario_probability),
        _shape(problem.holdings),
        _shape(costs.linear),
        _shape(costs.impact),
        _shape(objective.budgets),
        _shape(limits.lower),
        _shape(limits.upper),
        _shape(limits.trade_max),
        rows and (rows.matrix.shape, rows.price is None),
    )


def _shape(array: Any) -> tuple[int, ...] | None:
    return None if array is None else array.shape


class Stack:
    """Objects of one form seen as one of them; each attribute is stacked when it is asked for."""

    def __init__(self, members: Sequence[Any]) -> None:
        self.members = members

    def __getattr__(self, name: str) -> Any:
        value = _together([getattr(member, name) for member in self.members])
        setattr(self, name, value)
        return value


def _together(values: Sequence[Any]) -> Any:
    first = values[0]
    if all(value is first for value in values):
        return first
    if isinstance(first, np.ndarray):
        return np.stack(values)
    if isinstance(first, FactorCovariance):
        return np.stack([value.dense() for value in values])
    if isinstance(first, float | int | bool):
        return first if all(value == first for value in values) else np.array(values, np.float64)
    return Stack(values)


def stacked(problems: Sequence[Problem]) -> Problem:
    """The problems, all of one `form`, as one that reads like any other."""
    return cast(Problem, Stack(problems))


def of_each(solve: Callable[..., jax.Array], size: int) -> Callable[..., jax.Array]:
    """`solve` for every problem of a stack, of `size` unknowns each.

    Small ones side by side. Large ones one after another: a matrix of one problem fits the cache
    and those of a stack do not, and batched LAPACK calls of 100 unknowns have waited for each
    other for ever in XLA's threads.
    """
    if size <= SIDE_BY_SIDE_MAX:
        return jax.vmap(solve)

    def in_turn(*stacks: Any) -> jax.Array:
        return lax.map(lambda one: solve(*one), stacks)

    return in_turn
