"""Why a problem with possible limits got no answer, and the answer by another way if there is one.

A Sharpe ratio is found along the frontier (`sharpe_frontier`), what is piecewise linear as a
linear program, which ends at a vertex. Limits that only just meet, or miss each other by less than
counts as a conflict, are loosened by that much. What is left has no end, no
book that survives every scenario, or no answer that this solver can find.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from compute.optimize.execution import JUST_IN_TIME, Execution
from compute.optimize.interior_point.canonicalize import Encoded, encode
from compute.optimize.interior_point.output import Answer
from compute.optimize.interior_point.phase_one import least_violation
from compute.optimize.interior_point.recover import decode, empty
from compute.optimize.interior_point.sharpe_frontier import along_frontier
from compute.optimize.objectives import RUINED, SCENARIO_KINDS, Blocks, Moments
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
from compute.optimize.tail_lp.solve import piecewise_linear, solve_tail

METHOD = "interior point"
LEAST = (1e-12, 1e-10)  # what sums of weights are loosened by, far below what counts as a violation
FAR = 1e6  # weights beyond this, in units of the kernel, are on their way to infinity

Run = Callable[[Encoded], Answer]


def without_answer(
    encoded: Encoded,
    first: Answer,
    second: Solution,
    run: Run,
) -> Solution:
    """The last word on a problem whose limits do not conflict and whose iteration failed.

    first: the first attempt's answer; second: the second's solution; run: runs the kernel.
    """

    def best(problem: Problem, blocks: Blocks) -> Solution:
        stated = encode(problem, blocks, encoded.levels, execution=encoded.execution)
        return decode(stated, run(stated), METHOD)

    problem = encoded.problem
    missing = 2.0 * least_violation(problem, encoded.execution)
    gives = [max(missing, least) * float(encoded.unit) for least in LEAST]
    loose = [replace(problem, limits=loosened(problem.limits, give)) for give in gives]
    if encoded.blocks.ratio:
        found = along_frontier(encoded, best)
        if found.status is Status.NOT_CONVERGED:
            found = along_frontier(replace(encoded, problem=loose[-1]), best)
        return found
    if piecewise_linear(problem):
        vertex = solve_tail(problem, execution=encoded.execution)
        if vertex.status in (Status.OPTIMAL, Status.UNBOUNDED):
            return vertex
    if ruined(problem, encoded.execution):
        return empty(problem, Status.RUIN, METHOD)
    for give, looser in zip(gives, loose, strict=True):
        found = best(looser, encoded.blocks)
        if found.status is Status.OPTIMAL:
            return replace(found, method=f"{METHOD}, sums loosened by {give:.0e}")
    if np.max(np.abs(np.nan_to_num(first.weights, nan=np.inf))) > FAR * float(encoded.unit):
        return replace(second, status=Status.UNBOUNDED)
    failed = empty(problem, Status.NOT_CONVERGED, METHOD)
    return replace(failed, iterations=second.iterations, residual=float(first.error))


def loosened(limits: Limits, give: float) -> Limits:
    """The limits on sums with `give` more room each, natural units; boxes stay as they are."""

    def up(bound: float | None) -> float | None:
        return None if bound is None else bound + give

    rows, floor = limits.rows, limits.budget_min
    if rows is not None:
        room = give * np.abs(rows.matrix).max(axis=1)
        rows = Rows(rows.matrix, rows.row_min - room, rows.row_max + room, rows.names, rows.price)
    return replace(
        limits,
        rows=rows,
        budget_min=None if floor is None else floor - give,
        budget_max=up(limits.budget_max),
        gross_max=up(limits.gross_max),
        turnover_max=up(limits.turnover_max),
    )


def ruined(problem: Problem, execution: Execution = JUST_IN_TIME) -> bool:
    """True if growth is wanted and every book within the linear limits loses everything somewhere.

    The least worst loss is a linear program: the mean of a tail that holds one scenario.
    """
    kinds = {problem.objective.kind, *(term.kind for _, term in problem.objective.terms)}
    if problem.scenarios is None or not kinds & SCENARIO_KINDS:
        return False
    cash, odds = problem.cash_return, Moments(problem).probability()
    least = float(np.min(odds[odds > 0.0]))
    linear = replace(problem.limits, volatility_max=None, var_max=None, drawdown_risk=None)
    worst = replace(
        problem,
        objective=Objective(ObjectiveKind.MIN_CVAR, tail=1.0 - 0.5 * least),
        limits=linear,
        costs=Costs(),
        scenarios=problem.scenarios - problem.objective_rates,
    )
    found = solve_tail(worst, execution=execution)
    return found.status is Status.OPTIMAL and found.objective >= 1.0 + cash - RUINED
