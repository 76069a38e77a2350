"""Whole lots of a joint optimum chosen together, with places and smallest trades.

    maximise the joint objective over   w_i = odd_i + lot_i x whole number,
    at most so many w_i != 0,   each trade none, one that closes, or at least the smallest,

within the limits of the joint problem: by outer approximation with integer programs
(`optimize/lots`). What comes out is a target like any other: limits, cash, lots and the guard
follow, and whoever calls compares it with rounding.
"""

from dataclasses import dataclass, replace

import numpy as np

from compute.inputs import Inputs
from compute.joint.sizing import JointAnswer
from compute.joint.value import variables
from compute.limits.places import taken_places
from compute.limits.rounded_lots import least_order
from compute.lot_search import LotSearch
from compute.market import Integers
from compute.optimize.execution import JUST_IN_TIME, Execution
from compute.optimize.lots.outer_approximation import Effort, IntegerRules, solve_integer
from compute.optimize.lots.whole_lots import REACH_LOTS
from compute.optimize.lots.wider import widened
from compute.optimize.time_limit import OutOfTimeError, TimeLimit

EFFORT = Effort(rounds_max=20, nodes_max=5000, time_limit_s=1.0)
"""Of the search of one decision."""

TOLERANCE = 1e-8
"""Relative gap at which it ends before."""

SHARE = 0.5
"""Of the time that is left, that it may take."""

SLACK = 1e-9
"""Relative: a smallest trade is asked for by this much more, so that rounding doesn't drop it."""


@dataclass(frozen=True)
class LotComparison:
    """The lots that a search found against rounding, by the objective; None: not known.

    is_used: whether they are the sizes, as they keep more limits or are worth no less.
    """

    note: str
    objective_rounded: float
    objective: float | None = None
    shortfall: float | None = None
    gap: float | None = None
    is_used: bool = False


def search_lots(
    inputs: Inputs, answer: JointAnswer, execution: Execution = JUST_IN_TIME
) -> LotSearch:
    """The best whole lots for the problem of a joint answer that has weights.

    Raises `StoppedError` where nobody waits any more; that its own time is over is a note.
    """
    assert answer.weights is not None, "asked for by the caller"
    if why := _not_searched(inputs, answer):
        return LotSearch(note=why)
    lines = np.flatnonzero(inputs.active)
    stated = (
        answer.problem,
        variables(inputs, answer, answer.weights),
        _rules(inputs, answer, lines),
    )
    time_limit = _part_of(execution.time_limit)
    try:
        found = solve_integer(*stated, tolerance=TOLERANCE, effort=EFFORT, time_limit=time_limit)
    except OutOfTimeError:
        return LotSearch(note="no whole lots were found in half of the time that was left")
    try:
        found = widened(*stated, found, tolerance=TOLERANCE, time_limit=time_limit)
    except OutOfTimeError:  # of all lots none is worth more than the optimum
        found = replace(found, gap=max(found.shortfall, 0.0))
    if found.weights is None:
        return LotSearch(note="no whole lots that keep all limits were found near the optimum")
    weight = np.zeros(len(inputs.index))
    weight[lines] = found.weights[: len(lines)]
    return LotSearch(weight, found.shortfall, found.gap)


def _not_searched(inputs: Inputs, answer: JointAnswer) -> str:
    """Why whole lots of the optimum are not what is traded; empty where they are."""
    parameters = inputs.parameters
    if parameters.trade_rate < 1.0:
        return "only a part of the way to the optimum is traded (trade_rate)"
    if parameters.joint_objective is not None and parameters.fraction_multiplier != 1.0:
        return "rules make all weights of the optimum smaller"
    if answer.owner is not None and len(np.unique(answer.owner)) < len(answer.owner):
        return "the margin of single lines has several parts"
    return ""


def _rules(inputs: Inputs, answer: JointAnswer, lines: Integers) -> IntegerRules:
    """What must be whole of the variables of the problem: the lines, then what stays as it is."""
    limit_bounds, index, k = inputs.limit_bounds, inputs.index[lines], len(lines)
    held = answer.problem.holdings
    assert held is not None, "set by the joint method"
    lot, odd, smallest = np.ones(len(held)), held.copy(), np.zeros(len(held))
    lot[:k] = limit_bounds.unit_weight[index] * limit_bounds.market.lot_size[index]
    odd[:k] -= lot[:k] * np.rint(held[:k] / lot[:k])
    odd[:k] = np.where(np.abs(odd[:k]) <= SLACK * lot[:k], 0.0, odd[:k])
    smallest[:k] = limit_bounds.trade_min.weight
    orders = least_order(index, limit_bounds)
    if orders is not None:
        smallest[:k] = np.maximum(smallest[:k], orders * lot[:k])
    has_smallest, most = bool(smallest.any()), _places(inputs, lines)
    if most is not None and len(held) <= most:
        most = None
    return IntegerRules(
        lot=lot,
        odd=odd,
        trade_min=smallest * (1.0 + SLACK) if has_smallest else None,
        names_max=most,
        reach_lots=None if has_smallest or most is not None else REACH_LOTS,
        stays=True,
    )


def _places(inputs: Inputs, lines: Integers) -> int | None:
    """Positions that lines and holdings may make; what only open trades may open has its own."""
    limit_bounds = inputs.limit_bounds
    most = limit_bounds.limits.positions_max
    if most is None:
        return None
    others = taken_places(limit_bounds.market, limit_bounds.positions)
    others[inputs.index[lines]] = False
    others[limit_bounds.before != 0.0] = False
    return max(int(most) - int(others.sum()), 0)


def _part_of(time_limit: TimeLimit) -> TimeLimit:
    left = time_limit.left_s()
    if not np.isfinite(left):
        return time_limit
    kept = (1.0 - SHARE) * left
    return TimeLimit(lambda: time_limit.left_s() - kept, time_limit.is_cancelled)
