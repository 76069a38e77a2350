"""What explains an optimum and never costs it: its shadow prices, or why there are none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compute.optimize.infeasibility.conflict import Explanation, explain
from compute.optimize.presolve import without_redundant
from compute.optimize.problem import ObjectiveKind, Problem
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
