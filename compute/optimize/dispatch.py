"""One way in: the right solver for a problem, by its objective, limits and costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compute.optimize.cuts import solve_cuts
from compute.optimize.problem import Problem, Solution
from compute.optimize.solver import solve as solve_smooth
from compute.optimize.solver import solve_batch as solve_smooth_batch
from compute.optimize.start import calmest
from compute.optimize.tail import has_tail, solve_tail, solve_tail_batch, supports
from compute.optimize.time_limit import ENDLESS, TimeLimit


def solve(
    problem: Problem, warm_start: Solution | None = None, *, time_limit: TimeLimit = ENDLESS
) -> Solution:
    """The optimum of a problem with its multipliers, or a typed failure without weights.

    warm_start: an earlier solution of a similar problem. It never changes the answer, and saves
    time where a tail measure takes part; the interior point of smooth problems begins afresh.
    Raises ValueError for a problem that is not well formed, `StoppedError` at the time limit.
    """
    if supports(problem):
        return solve_tail(problem, warm_start or calmest([problem])[0], time_limit=time_limit)
    if has_tail(problem):
        return solve_cuts(problem, time_limit)
    return solve_smooth(problem, time_limit=time_limit)


def solve_batch(problems: Sequence[Problem], *, time_limit: TimeLimit = ENDLESS) -> list[Solution]:
    """`solve` for many: those that go to one solver share its compiled calls."""
    answers: dict[int, Solution] = {}
    routes: dict[str, list[int]] = {"tail": [], "cuts": [], "smooth": []}
    for index, problem in enumerate(problems):
        curved = "cuts" if has_tail(problem) else "smooth"
        routes["tail" if supports(problem) else curved].append(index)
    solvers: dict[str, Callable[[list[Problem]], list[Solution]]] = {
        "tail": lambda chosen: solve_tail_batch(chosen, calmest(chosen), time_limit=time_limit),
        "cuts": lambda chosen: [solve_cuts(problem, time_limit) for problem in chosen],
        "smooth": lambda chosen: solve_smooth_batch(chosen, time_limit=time_limit),
    }
    for route, indices in routes.items():
        if indices:
            found = solvers[route]([problems[i] for i in indices])
            answers.update(zip(indices, found, strict=True))
    return [answers[i] for i in range(len(problems))]
