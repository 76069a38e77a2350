"""The efficient frontier: the least risk for every return, solved as one batch.

Point k minimises the risk objective with the extra row mean'w >= r_k, r_k spread evenly from the
return of the least risky book to the highest return the limits allow (Markowitz 1952).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from compute.optimize.problem import (
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
    Solution,
    Status,
)
from compute.optimize.proof.evaluation import objective_value
from compute.optimize.proof.problem_numbers import ProblemData
from compute.optimize.time_limit import ENDLESS, TimeLimit

Vector = npt.NDArray[np.float64]
Kind = ObjectiveKind
Solver = Callable[[Sequence[Problem]], list[Solution]]

RISKS = frozenset(kind for kind in Kind if kind.tail is not None or kind is Kind.MIN_VARIANCE)
ROW = "frontier return"


@dataclass(frozen=True)
class Frontier:
    """Points in order of return: weights [k, n], expected return [k] and risk [k] a period.

    mean: the return of the book, interest on its cash included.

    risk: the objective's own unit, costs left out; for MIN_VARIANCE the volatility, for a
    COMBINATION the weighted sum of its terms, variances as such. price: [k] gain in the objective
    per unit of return given up, the frontier's slope; NaN where a point has no multipliers.
    solutions: as solved, for certificates.
    """

    weights: npt.NDArray[np.float64]
    mean: Vector
    risk: Vector
    price: Vector
    solutions: tuple[Solution, ...]


def is_risk(objective: Objective) -> bool:
    """Whether a frontier can be traced of it: a risk, or a combination of nothing else."""
    if objective.kind is Kind.COMBINATION:
        return bool(objective.terms) and all(term.kind in RISKS for _, term in objective.terms)
    return objective.kind in RISKS


def trace(
    problem: Problem, count: int, solve_batch: Solver, time_limit: TimeLimit = ENDLESS
) -> Frontier:
    """`count` >= 2 points of the frontier of a risk objective over its limits.

    `solve_batch` is the joint solver (handed in, so that this module does not depend on one).
    ValueError if the objective is not a risk (`is_risk`) or `count` < 2; ArithmeticError with the
    status if an end of the frontier cannot be solved, for instance because the limits conflict.
    `StoppedError` at the time limit, which is that of `solve_batch`: already after the second
    point where by its time all of them would take too long.
    """
    if not is_risk(problem.objective):
        raise ValueError(f"{problem.objective.kind.name} is not a risk to be minimised")
    if count < 2:
        raise ValueError("a frontier has at least two points")
    data, cash = ProblemData(problem), problem.cash_return
    reward = replace(problem, objective=Objective(Kind.MAX_RETURN))
    (safest,), (richest,) = solve_batch([problem]), solve_batch([reward])
    for end in (safest, richest):
        if end.status is not Status.OPTIMAL:
            raise ArithmeticError(end.status.value)
    low, high = (cash + float(data.excess @ end.weights) for end in (safest, richest))
    # The last return is asked for less the solver's rounding, or the limits leave no room at all.
    high = max(low, high - 1e-9 * max(abs(high - low), abs(high)))
    targets = np.linspace(low, high, count)
    asked = [with_return(problem, target) for target in targets[1:]]
    solved = []
    if count > 2 and math.isfinite(time_limit.left_s()):
        began = time_limit.left_s()
        solved = solve_batch(asked[:1])
        periods = 0 if problem.scenarios is None else len(problem.scenarios)
        words = f"{count} points of {problem.size} instruments and {periods} scenarios"
        time_limit.expect((count - 2) * (began - time_limit.left_s()), words)
    solved += solve_batch(asked[len(solved) :])
    if solved[-1].status is Status.NOT_CONVERGED:
        # Next to no portfolio earns the last return: of a millionth less there are enough.
        lower = high - 1e-6 * max(abs(high - low), abs(high))
        solved[-1:] = solve_batch([with_return(problem, lower)])
    points = [safest, *solved]
    for point in points:
        if point.status is not Status.OPTIMAL:
            raise ArithmeticError(point.status.value)
    weights = np.array([point.weights for point in points])
    bare = replace(problem, costs=replace(problem.costs, linear=None, impact=None))
    sense = -1.0 if problem.objective.kind.maximised else 1.0  # a combination counts risks as lost
    risk = sense * np.array([objective_value(bare, row) for row in weights])
    if problem.objective.kind is Kind.MIN_VARIANCE:
        risk = np.sqrt(np.maximum(risk, 0.0))
    prices = np.array([0.0, *(_price(point) for point in solved)])
    return Frontier(weights, cash + weights @ data.excess, risk, prices, tuple(points))


def with_return(problem: Problem, least: float) -> Problem:
    """The problem with the row cash + excess'w >= least added, named `frontier return`."""
    mean, least = ProblemData(problem).excess[None, :], least - problem.cash_return
    row = Rows(mean, np.array([least]), np.array([np.inf]), (ROW,))
    return replace(problem, limits=problem.limits.with_rows(row))


def _price(point: Solution) -> float:
    return float("nan") if point.multipliers is None else float(point.multipliers.row_min[-1])
