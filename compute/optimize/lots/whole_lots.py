"""From continuous weights to whole lots that keep every limit.

A position is lots_i * lot_size_i units at price_i, so weight_i = lots_i * lot_size_i * price_i /
equity. Rounding name by name breaks sums; here the lots are chosen together, by
`outer_approximation`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from compute.optimize.lots.outer_approximation import (
    PATIENT,
    Effort,
    IntegerRules,
    IntegerSolution,
    solve_integer,
    with_room,
)
from compute.optimize.lots.wider import FAR, widened
from compute.optimize.problem import Problem
from compute.optimize.proof.evaluation import largest_violation
from compute.optimize.time_limit import ENDLESS, TimeLimit

Vector = npt.NDArray[np.float64]

# Lots looked at on either side of the continuous weights unless names must be dropped.
REACH_LOTS = 3


@dataclass(frozen=True)
class LotRules:
    """How positions are traded.

    lot_weight: f64[n] > 0, lot size times price over equity. trade_min: f64[n] weights, smallest
    trade worth making, None is any. position_min: f64[n] weights, smallest position worth
    holding. names_max: most names held.
    """

    lot_weight: Vector
    trade_min: Vector | None = None
    position_min: Vector | None = None
    names_max: int | None = None


@dataclass(frozen=True)
class LotSolution:
    """Whole lots with the exact weights they make, or None where no lots keep the limits.

    shortfall: relative loss of objective against the continuous optimum. gap: how much better any
    other lots could be at most, in the same unit; infinite where nothing bounds them. cash_room: by
    how much the least investment was lowered, 0 where lots that reach it were found. violation: the
    largest, of the limits so lowered, fractions of equity.
    """

    lots: npt.NDArray[np.int64] | None
    weights: Vector | None
    objective: float
    shortfall: float
    gap: float
    cash_room: float
    violation: float


def round_to_lots(
    problem: Problem,
    weights: Vector,
    rules: LotRules,
    *,
    tolerance: float = 1e-4,
    effort: Effort = PATIENT,
    time_limit: TimeLimit = ENDLESS,
) -> LotSolution:
    """The best whole lots for `problem`, whose continuous optimum is `weights` [n].

    Every limit holds on the lots themselves. Only where a search finds none, and the budget is
    narrower than the largest lot that is held, its lower end gives way by that lot, and it is said
    (`cash_room`). Lots around `weights` are looked at first, then all. `tolerance` is the
    relative gap at which the search stops, or else when `effort` is used up. ValueError for a lot
    weight that is not positive.
    """
    if not np.all(rules.lot_weight > 0.0):
        raise ValueError("every lot must have a positive weight")
    held = np.abs(weights) > 0.5 * rules.lot_weight
    room = float(rules.lot_weight[held].max(initial=0.0))
    low, high = problem.limits.budget_min, problem.limits.budget_max
    exact = low is not None and high is not None and high - low < room
    dropping = rules.names_max is not None or rules.position_min is not None
    integer = IntegerRules(
        lot=rules.lot_weight,
        trade_min=rules.trade_min,
        position_min=rules.position_min,
        names_max=rules.names_max,
        reach_lots=None if dropping or rules.trade_min is not None else REACH_LOTS,
    )
    # That lots add up to a narrow budget is no search to be patient in.
    found = _searched(
        problem, weights, integer, tolerance, FAR if exact else effort, time_limit, room=0.0
    )
    room = room if exact and found.weights is None else 0.0
    relaxed = replace(problem, limits=with_room(problem.limits, room))
    if room:
        found = _searched(relaxed, weights, integer, tolerance, effort, time_limit, room=room)
    if found.weights is None:
        return LotSolution(None, None, float("nan"), float("inf"), float("inf"), room, float("inf"))
    return LotSolution(
        lots=found.lots,
        weights=found.weights,
        objective=found.objective,
        shortfall=found.shortfall,
        gap=found.gap,
        cash_room=room,
        violation=largest_violation(relaxed, found.weights),
    )


def _searched(
    problem: Problem,
    weights: Vector,
    rules: IntegerRules,
    tolerance: float,
    effort: Effort,
    time_limit: TimeLimit,
    *,
    room: float,
) -> IntegerSolution:
    """Around `weights`, then anywhere; they are no optimum of a problem with room."""
    near = solve_integer(
        problem, weights, rules, tolerance=tolerance, effort=effort, time_limit=time_limit
    )
    return widened(
        problem,
        weights,
        rules,
        near,
        tolerance=tolerance,
        time_limit=time_limit,
        is_optimum=room == 0.0,
    )
