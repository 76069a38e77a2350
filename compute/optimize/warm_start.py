"""A first answer for tail problems that have none: it says which scenarios to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compute.optimize.execution import Execution
from compute.optimize.interior_point import solve_batch
from compute.optimize.problem import Costs, Objective, ObjectiveKind, Problem, Solution

# Of larger books the quadratic problem takes longer than the program it saves.
_NAMES_MAX = 128


def minimum_variance_start(
    problems: Sequence[Problem], execution: Execution
) -> list[Solution | None]:
    """The book of least variance inside the limits of each, where that saves a program.

    Its worst scenarios are nearly those of the book of least CVaR. Of drawdowns, whose peaks move
    with the weights, it says nothing, nor of a book with other aims: None there.
    """
    least = Objective(ObjectiveKind.MIN_VARIANCE)
    if execution.programs is not None:
        return [None] * len(problems)  # it saves no program where none has to be compiled
    told = [i for i, problem in enumerate(problems) if _alike(problem)]
    found = solve_batch(
        [replace(problems[i], objective=least, costs=Costs()) for i in told], execution=execution
    )
    answers = dict(zip(told, found, strict=True))
    return [answers.get(i) for i in range(len(problems))]


def _alike(problem: Problem) -> bool:
    limits, scenarios, given = problem.limits, problem.scenarios, problem.scenario_probability
    if problem.objective.kind is not ObjectiveKind.MIN_CVAR:
        return False
    if not limits.cvar_max is limits.cdar_max is limits.drawdown_max is None:
        return False
    periods = 0 if scenarios is None else len(scenarios)
    spread = given is None or float(given.max()) < 1.0
    return problem.size <= _NAMES_MAX and periods > problem.size and spread
