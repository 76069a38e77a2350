"""What explains an optimum and never costs it: its shadow prices, or why there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from compute.optimize.dispatch import solve
from compute.optimize.exact_points import at_tight_point
from compute.optimize.execution import Execution
from compute.optimize.infeasibility.conflict import Explanation, explain
from compute.optimize.limits import of_asset
from compute.optimize.presolve import without_redundant
from compute.optimize.problem import ObjectiveKind, Problem, Solution, Status
from compute.optimize.proof.certificate import Certificate
from compute.optimize.sensitivity.shadow_prices import ShadowPrice, shadow_prices
from compute.optimize.time_limit import ENDLESS, TimeLimit

UNEXPLAINED = "which limits conflict can't be told: they differ too much in size"
NO_PROOF = "no shadow prices: the weights are not proven to be optimal"


def conflict(problem: Problem, time_limit: TimeLimit = ENDLESS) -> Explanation | None:
    """Why no weights keep the limits; None where they are too ill-conditioned to tell."""
    try:
        return explain(without_redundant(problem), time_limit)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        return None


def recognised(
    problem: Problem, solution: Solution, execution: Execution
) -> tuple[Solution, Explanation | None]:
    """A solution without weights for what it is, and why its limits conflict where they do.

    A solver may give up where limits contradict each other at very different sizes, or find a
    conflict in dust that no digit shows. None also where which conflict can't be told.
    """
    if solution.status not in (Status.INFEASIBLE, Status.NOT_CONVERGED):
        return solution, None
    why = conflict(problem, execution.time_limit)
    if why is None:
        return solution, None
    if why.conflict:
        return replace(solution, status=Status.INFEASIBLE), why
    if solution.status is Status.INFEASIBLE:
        solver = partial(solve, execution=execution)
        found = at_tight_point(problem, solver, execution)
        return found or replace(solution, status=Status.NOT_CONVERGED), None
    return solution, None


def priced(
    problem: Problem,
    weights: npt.NDArray[np.float64],
    proof: Certificate,
    time_limit: TimeLimit = ENDLESS,
) -> tuple[dict[str, ShadowPrice], str]:
    """The shadow prices of an optimum, and why there are none where there should be some."""
    if not proof.is_optimal:
        return {}, NO_PROOF
    if problem.objective.kind is ObjectiveKind.RISK_BUDGET:
        return {}, ""
    try:
        return shadow_prices(problem, weights, time_limit=time_limit), ""
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        return {}, f"no shadow prices: {error}"


def named(limit: str, ids: Sequence[str]) -> str:
    """The limit's name with the instrument for its number: `upper[3]` is `upper[AAPL]`."""
    own = of_asset(limit)
    return limit if own is None else f"{own[0]}[{ids[own[1]]}]"
