"""What a joint answer is worth on whole lots, against keeping the book as it is."""

import numpy as np

from compute.inputs import Inputs
from compute.joint.margin import Divided
from compute.joint.sizing import JointAnswer
from compute.market import Floats
from compute.optimize.proof.evaluation import largest_violation, objective_value

ROUNDING = 1e-12
"""Relative to the larger objective: a difference of this size is none."""

KEPT = 1e-9
"""A book no further beyond a limit than this may be kept."""


def joint_objective(inputs: Inputs, answer: JointAnswer, weight: Floats) -> float:
    """The objective at the weights (n,) of the lines, costs taken off."""
    return objective_value(answer.problem, variables(inputs, answer, weight))


def is_worse_than_keeping(inputs: Inputs, answer: JointAnswer, weight: Floats) -> bool:
    """Whether lots at `weight` (n,) are worth less than no trade at all, where that is allowed.

    Rounding to lots can cost more than a small rebalancing gains.
    """
    kept = inputs.limit_bounds.before[inputs.index]
    if largest_violation(answer.problem, variables(inputs, answer, kept)) > KEPT:
        return False
    now, then = joint_objective(inputs, answer, kept), joint_objective(inputs, answer, weight)
    lost = now - then if answer.problem.objective.kind.maximised else then - now
    return lost > ROUNDING * max(abs(now), abs(then))


def variables(inputs: Inputs, answer: JointAnswer, weight: Floats) -> Floats:
    """Weights (v,) of the problem's variables where the lines have the weights (n,)."""
    problem, lines = answer.problem, np.flatnonzero(inputs.active)
    assert problem.holdings is not None, "set by the joint method"
    if answer.owner is None:
        weights = np.array(problem.holdings)
        weights[: len(lines)] = weight[lines]
        return weights
    whole: Floats = np.bincount(answer.owner, weights=problem.holdings).astype(np.float64)
    whole[: len(lines)] = weight[lines]
    return Divided(problem, answer.owner).parted(whole)
