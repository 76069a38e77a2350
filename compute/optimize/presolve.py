"""Presolve: a problem in a box of the size of its book, before any solver sees it.

A solver works with the bounds that all limits together imply (`implied_bounds`), whatever number a
caller wrote for "no limit". Implied bounds are handed to it with room to spare, so that none of
them can bind: the price of a limit stays with the limit, never with a bound that follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.optimize.implied_bounds import ENDLESS, FAR, implied_box, sums_of, with_room
from compute.optimize.objectives import Moments
from compute.optimize.problem import (
    Array,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Solution,
    Status,
)
from compute.optimize.risk_box import is_asked, within_risk

Flags = NDArray[np.bool_]

# A bound that a caller wrote is replaced where it is this many times the one implied, or beyond FAR
# where none is: solvers work with numbers of the size of a book.
LOOSE = 4.0
# Only where limits force it is a trade made that costs more than its own value. Solvers take it to
# cost that much: next to 1e8 they would not see what other lines earn.
DEAR = 1.0
# Of trades of such lines, in weights: less is none.
UNTRADED = 1e-9
# Where a solver gave up, bounds beyond this are left out: few books come near them.
WIDE = 100.0


@dataclass(frozen=True)
class Presolved:
    """A problem in a box of its own size.

    problem: with the box that a solver gets. low, high: where that box is not the caller's.
    far: where a caller's bound beyond `FAR` is left out although no limit implies another.
    open_low, open_high: where nothing at all bounds a weight. dear: where a caller's cost is more
    than `DEAR`, which it is taken to be.
    """

    problem: Problem
    low: Flags
    high: Flags
    far: bool
    open_low: Flags
    open_high: Flags
    dear: Flags


def presolved(problem: Problem) -> Presolved:
    """The problem with every bound that says less than its other limits replaced or left out.

    Bounds that other limits imply leave room, so that none of them binds; bounds beyond `FAR` that
    nothing implies are left out, and so are those that are no numbers of a book (`ENDLESS`).
    """
    limits = problem.limits
    n = problem.size
    lower = np.full(n, -np.inf) if limits.lower is None else np.asarray(limits.lower, np.float64)
    upper = np.full(n, np.inf) if limits.upper is None else np.asarray(limits.upper, np.float64)
    held = np.zeros(n) if problem.holdings is None else problem.holdings
    capped_low, capped_high = lower, upper
    if limits.trade_max is not None:
        capped_low = np.maximum(lower, held - limits.trade_max)
        capped_high = np.minimum(upper, held + limits.trade_max)
    tight_low, tight_high = implied_box(capped_low, capped_high, sums_of(problem))
    if is_asked(limits, tight_low, tight_high):
        moments = Moments(problem)
        risks = moments.covariance(), moments.mean()
        tight_low, tight_high = within_risk(limits, tight_low, tight_high, *risks)
    wide_low, wide_high = with_room(tight_low, tight_high)
    low = (tight_low > capped_low) & (np.abs(capped_low) > LOOSE * np.abs(wide_low))
    high = (tight_high < capped_high) & (np.abs(capped_high) > LOOSE * np.abs(wide_high))
    stated_low = np.where(low, wide_low, lower)
    stated_high = np.where(high, wide_high, upper)
    far_low, far_high = stated_low < -FAR, stated_high > FAR
    cut_low, cut_high = far_low & (lower > -ENDLESS), far_high & (upper < ENDLESS)
    stated_low = np.where(far_low, -np.inf, stated_low)
    stated_high = np.where(far_high, np.inf, stated_high)
    changed = _within_reach(_finite_sums(limits), stated_low, stated_high, held)
    if np.any(stated_low != lower) or np.any(stated_high != upper):
        changed = replace(changed, lower=stated_low, upper=stated_high)
    costs, dear = problem.costs, np.zeros(n, dtype=bool)
    if costs.linear is not None and (costs.linear > DEAR).any():
        dear = costs.linear > DEAR
        costs = replace(costs, linear=np.minimum(costs.linear, DEAR))
    objective = _without_nothing(problem.objective)
    is_same = changed is limits and costs is problem.costs and objective is problem.objective
    return Presolved(
        problem if is_same else replace(problem, objective=objective, limits=changed, costs=costs),
        low=low | far_low,
        high=high | far_high,
        far=bool(cut_low.any() or cut_high.any()),
        open_low=np.isneginf(tight_low),
        open_high=np.isposinf(tight_high),
        dear=dear,
    )


def _without_nothing(objective: Objective) -> Objective:
    """The objective; that of a risk that costs nothing as the return it is, a linear one."""
    is_linear = objective.kind is ObjectiveKind.MEAN_VARIANCE and objective.risk_aversion == 0.0
    return Objective(ObjectiveKind.MAX_RETURN) if is_linear else objective


def _finite_sums(limits: Limits) -> Limits:
    """The limits without bounds on sums that are no numbers of a book."""
    absent: dict[str, Any] = {
        name: None
        for name in ("budget_min", "budget_max", "gross_max", "turnover_max")
        if (bound := getattr(limits, name)) is not None and abs(bound) >= ENDLESS
    }
    rows = limits.rows
    if rows is not None:
        low = np.where(rows.row_min <= -ENDLESS, -np.inf, rows.row_min)
        high = np.where(rows.row_max >= ENDLESS, np.inf, rows.row_max)
        if np.any(low != rows.row_min) or np.any(high != rows.row_max):
            absent["rows"] = replace(rows, row_min=low, row_max=high)
    return replace(limits, **absent) if absent else limits


def _within_reach(limits: Limits, lower: Array, upper: Array, held: Array) -> Limits:
    """The limits without bounds on sums that are far beyond all that the box allows.

    They can't bind, and a solver takes its unit from them: 1e9 would be one as good as infinity.
    """
    ends = np.maximum(np.abs(lower), np.abs(upper))
    traded = np.maximum(np.abs(lower - held), np.abs(upper - held))
    reach = {
        "budget_min": -float(lower.sum()),
        "budget_max": float(upper.sum()),
        "gross_max": float(ends.sum()),
        "turnover_max": float(traded.sum()),
    }
    size = LOOSE * reach["gross_max"]
    if not np.isfinite(size):
        return limits
    absent: dict[str, Any] = {}
    for name, most in reach.items():
        bound = getattr(limits, name)
        sign = -1.0 if name == "budget_min" else 1.0
        if bound is not None and sign * bound > max(size, LOOSE * most):
            absent[name] = None
    rows = limits.rows
    if rows is not None:
        room = LOOSE * (np.abs(rows.matrix) @ ends)
        low = np.where(rows.row_min < -room, -np.inf, rows.row_min)
        high = np.where(rows.row_max > room, np.inf, rows.row_max)
        if np.any(low != rows.row_min) or np.any(high != rows.row_max):
            absent["rows"] = replace(rows, row_min=low, row_max=high)
    return replace(limits, **absent) if absent else limits


def restored(stated: Presolved, solution: Solution) -> Solution:
    """A solution of the stated problem as one of the caller's: replaced bounds have no price."""
    given = solution.multipliers
    if given is None or not (stated.low.any() or stated.high.any()):
        return solution
    own = replace(
        given,
        lower=np.where(stated.low, 0.0, given.lower),
        upper=np.where(stated.high, 0.0, given.upper),
    )
    return replace(solution, multipliers=own)


def stands(problem: Problem, stated: Presolved, solution: Solution) -> bool:
    """Whether the answer is one to the caller's problem.

    That is not so where it needs bounds that were left out, or trades lines at less than they cost:
    where it trades none of these, it is worth the same at their own cost and all else no more.
    """
    if not (stated.far or stated.dear.any()) or solution.status is Status.INFEASIBLE:
        return True
    limits, weights = problem.limits, solution.weights
    if solution.status is Status.OPTIMAL and stated.dear.any():
        held = np.zeros(problem.size) if problem.holdings is None else problem.holdings
        if np.any(np.abs(weights - held)[stated.dear] > UNTRADED):
            return False
    inside = limits.lower is None or bool(np.all(weights >= limits.lower))
    inside &= limits.upper is None or bool(np.all(weights <= limits.upper))
    return solution.status is Status.OPTIMAL and inside


def without_wide(problem: Problem) -> Presolved:
    """The problem without bounds beyond `WIDE`, for solvers that those lead astray."""
    limits, n = problem.limits, problem.size
    lower = np.full(n, -np.inf) if limits.lower is None else np.asarray(limits.lower, np.float64)
    upper = np.full(n, np.inf) if limits.upper is None else np.asarray(limits.upper, np.float64)
    low, high = (lower < -WIDE) & (lower < upper), (upper > WIDE) & (lower < upper)
    bare = replace(limits, lower=np.where(low, -np.inf, lower), upper=np.where(high, np.inf, upper))
    stated = presolved(replace(problem, limits=bare))
    cut = bool((low & np.isfinite(lower)).any() or (high & np.isfinite(upper)).any())
    return replace(stated, low=stated.low | low, high=stated.high | high, far=cut)


def open_sides(problem: Problem) -> list[str]:
    """The sides of weights that nothing bounds, as `upper[3]` and `lower[3]`."""
    stated = presolved(problem)
    sides = (("upper", stated.open_high), ("lower", stated.open_low))
    return [f"{name}[{asset}]" for name, is_open in sides for asset in np.flatnonzero(is_open)]


def without_redundant(problem: Problem) -> Problem:
    """The problem without bounds of single weights that its other limits imply by far.

    Nor has it bounds that are no numbers of a book; those of huge books stay.
    """
    stated = presolved(problem)
    implied, own = stated.problem.limits, problem.limits
    if implied.lower is None or implied.upper is None:
        return problem
    lower = -np.inf if own.lower is None else own.lower
    upper = np.inf if own.upper is None else own.upper
    low = (stated.low & np.isfinite(implied.lower)) | (np.abs(lower) >= ENDLESS)
    high = (stated.high & np.isfinite(implied.upper)) | (np.abs(upper) >= ENDLESS)
    bare: Limits = replace(
        own, lower=np.where(low, -np.inf, lower), upper=np.where(high, np.inf, upper)
    )
    return replace(problem, limits=bare)
