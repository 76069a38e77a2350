"""One way in: the right solver for a problem, by its objective, limits and costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from compute.optimize.cutting_planes import solve_cuts
from compute.optimize.exact_points import at_kinks, at_tight_point, settled
from compute.optimize.execution import JUST_IN_TIME, Execution
from compute.optimize.interior_point import solve as solve_smooth
from compute.optimize.interior_point import solve_batch as solve_smooth_batch
from compute.optimize.presolve import Presolved, presolved, restored, stands, without_wide
from compute.optimize.problem import Problem, Solution, Status
from compute.optimize.tail_lp import has_tail, solve_tail, solve_tail_batch, supports
from compute.optimize.warm_start import minimum_variance_start


def solve(
    problem: Problem, warm_start: Solution | None = None, *, execution: Execution = JUST_IN_TIME
) -> Solution:
    """The optimum of a problem with its multipliers, or a typed failure without weights.

    warm_start: an earlier solution of a similar problem. It never changes the answer, and saves
    time where a tail measure takes part; the interior point of smooth problems begins afresh.
    Raises ValueError for a problem that is not well formed, `StoppedError` at the time limit.
    """
    stated = presolved(problem)
    found = restored(stated, _solved(stated.problem, execution, warm_start))
    return _checked(problem, stated, found, execution)


def solve_batch(
    problems: Sequence[Problem], *, execution: Execution = JUST_IN_TIME
) -> list[Solution]:
    """`solve` for many: those that go to one solver share its compiled calls."""
    stated = [presolved(problem) for problem in problems]
    found = _solved_batch([each.problem for each in stated], execution)
    answers = [restored(*pair) for pair in zip(stated, found, strict=True)]
    return [
        _checked(problem, each, answer, execution)
        for problem, each, answer in zip(problems, stated, answers, strict=True)
    ]


def _checked(
    problem: Problem, stated: Presolved, found: Solution, execution: Execution
) -> Solution:
    """The answer to the problem as its caller stated it.

    Where bounds that were left out matter it is solved with them; where the solver gave up it may
    be the one point that the limits leave.
    """
    if not stands(problem, stated, found):
        found = _solved(problem, execution)
    if found.status is Status.NOT_CONVERGED and (wide := without_wide(problem)).far:
        bare = restored(wide, _solved(wide.problem, execution))
        if bare.status is Status.OPTIMAL and stands(problem, wide, bare):
            found = bare
    if found.status is Status.NOT_CONVERGED:
        again = partial(solve, execution=execution)
        tight = at_tight_point(problem, again, execution)
        found = found if tight is None else replace(tight, iterations=found.iterations)
    return settled(problem, at_kinks(problem, found))


def _solved(problem: Problem, execution: Execution, warm_start: Solution | None = None) -> Solution:
    """One problem by its solver."""
    if supports(problem):
        return solve_tail(
            problem,
            warm_start or minimum_variance_start([problem], execution)[0],
            execution=execution,
        )
    if has_tail(problem):
        return solve_cuts(problem, execution)
    return solve_smooth(problem, execution=execution)


def _solved_batch(problems: Sequence[Problem], execution: Execution) -> list[Solution]:
    answers: dict[int, Solution] = {}
    routes: dict[str, list[int]] = {"tail": [], "cuts": [], "smooth": []}
    for index, problem in enumerate(problems):
        curved = "cuts" if has_tail(problem) else "smooth"
        routes["tail" if supports(problem) else curved].append(index)
    solvers: dict[str, Callable[[list[Problem]], list[Solution]]] = {
        "tail": lambda chosen: solve_tail_batch(
            chosen, minimum_variance_start(chosen, execution), execution=execution
        ),
        "cuts": lambda chosen: [solve_cuts(problem, execution) for problem in chosen],
        "smooth": lambda chosen: solve_smooth_batch(chosen, execution=execution),
    }
    for route, indices in routes.items():
        if indices:
            found = solvers[route]([problems[i] for i in indices])
            answers.update(zip(indices, found, strict=True))
    return [answers[i] for i in range(len(problems))]
