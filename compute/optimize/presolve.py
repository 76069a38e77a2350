"""Presolve: bounds on every weight that its limits together imply, before any solver sees them.

Interval bound propagation (Savelsbergh 1994, ORSA J. Computing 6(4)): of a row sum_j a_j w_j <= b

    a_i w_i <= b - min sum_{j != i} a_j w_j      over the box known so far,

and likewise for sum |w| <= gross and sum |w - holdings| <= turnover; repeated until nothing moves
much. Every state on the way is valid, so rounds are few and bounded. A solver works in a box of the
size of the book then, whatever number a caller wrote for "no limit".

Implied bounds are handed to a solver with room to spare, so that none of them can bind: the price
of a limit stays with the limit, never with a bound that follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.optimize.problem import Array, Limits, Problem, Solution, Status

Flags = NDArray[np.bool_]

ROUNDS_MAX = 20
# A round that moves no bound by this share of its size is the last one.
MOVED = 1e-3
# A bound that a caller wrote is replaced where it is this many times the one implied, or beyond FAR
# where none is: solvers work with numbers of the size of a book.
LOOSE, FAR = 4.0, 1e4
# From here on a number is no bound at all.
ENDLESS = 1e15
# Room beyond an implied bound, as a share of the largest implied weight.
ROOM = 0.5
# Share of the terms of a sum that its rounding may hide.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Sums:
    """Limits on sums of the weights, for `implied_box`.

    rows: f64[m, n] with bounds f64[m], infinite where there is none. gross: on sum |w|;
    turnover: on sum |w - holdings|; infinite where there is none.
    """

    rows: Array
    row_min: Array
    row_max: Array
    gross: float
    turnover: float
    holdings: Array


def sums_of(problem: Problem) -> Sums:
    """The hard linear limits of a problem; soft rows bound nothing."""
    limits, n = problem.limits, problem.size
    rows, low = np.ones((1, n)), [_or(limits.budget_min, -np.inf)]
    high = [_or(limits.budget_max, np.inf)]
    if (given := limits.rows) is not None:
        hard = slice(None) if given.price is None else np.isinf(given.price)
        rows = np.vstack([rows, given.matrix[hard]])
        low, high = [*low, *given.row_min[hard]], [*high, *given.row_max[hard]]
    return Sums(
        rows,
        np.array(low),
        np.array(high),
        _or(limits.gross_max, np.inf),
        _or(limits.turnover_max, np.inf),
        np.zeros(n) if problem.holdings is None else problem.holdings,
    )


def _or(value: float | None, absent: float) -> float:
    return absent if value is None else float(value)


def implied_box(lower: Array, upper: Array, sums: Sums) -> tuple[Array, Array]:
    """The box f64[n], f64[n] tightened by the sums, -+inf where nothing bounds a weight.

    Where the limits contradict each other the tightening stops before bounds cross.
    """
    lower = np.where(lower <= -ENDLESS, -np.inf, lower)
    upper = np.where(upper >= ENDLESS, np.inf, upper)
    for _ in range(ROUNDS_MAX):
        low, high = _round(lower, upper, sums)
        if np.any(low > high):
            return lower, upper
        moved = _moved(lower, low) or _moved(upper, high)
        lower, upper = low, high
        if not moved:
            break
    return np.where(lower <= -ENDLESS, -np.inf, lower), np.where(upper >= ENDLESS, np.inf, upper)


def _moved(old: Array, new: Array) -> bool:
    changed = old != new
    size = np.maximum(np.abs(old[changed]), np.abs(new[changed]))
    return bool(np.any(np.isinf(size) | (np.abs(old[changed] - new[changed]) > MOVED * size)))


def _round(lower: Array, upper: Array, sums: Sums) -> tuple[Array, Array]:
    """One tightening by every sum, all from the same box."""
    positive, negative = np.maximum(sums.rows, 0.0), np.minimum(sums.rows, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        # What is left for a weight below row_max and above row_min, (m, n).
        least = _terms(positive, lower) + _terms(negative, upper)
        most = _terms(positive, upper) + _terms(negative, lower)
        below = (_slack(sums.row_max, least)) / sums.rows
        above = -(_slack(-sums.row_min, -most)) / sums.rows
    ups, downs = sums.rows > 0.0, sums.rows < 0.0
    high = np.minimum(
        np.where(ups, below, np.inf).min(axis=0, initial=np.inf),
        np.where(downs, above, np.inf).min(axis=0, initial=np.inf),
    )
    low = np.maximum(
        np.where(ups, above, -np.inf).max(axis=0, initial=-np.inf),
        np.where(downs, below, -np.inf).max(axis=0, initial=-np.inf),
    )
    lower, upper = np.maximum(lower, low), np.minimum(upper, high)
    for centre, bound in ((np.zeros_like(lower), sums.gross), (sums.holdings, sums.turnover)):
        if np.isfinite(bound):
            away = np.maximum(np.maximum(lower - centre, centre - upper), 0.0)
            reach = _slack(np.array([bound]), away[None, :])[0]
            lower, upper = np.maximum(lower, centre - reach), np.minimum(upper, centre + reach)
    return lower, upper


def _terms(coefficient: Array, bound: Array) -> Array:
    """coefficient_ij bound_j, 0 where the coefficient is, (m, n)."""
    return np.where(coefficient != 0.0, coefficient * bound, 0.0)


def _slack(bound: Array, least: Array) -> Array:
    """bound_i less the sum of all least_ij but the j-th, (m, n); inf where one of these is -inf."""
    endless = np.isneginf(least)
    known = np.where(endless, 0.0, least)
    others = known.sum(axis=1, keepdims=True) - known
    size = np.abs(known).sum(axis=1, keepdims=True)
    left = np.where(np.isfinite(bound), bound, 0.0)[:, None] - others + ROUNDING * size
    bare = endless.sum(axis=1, keepdims=True) - endless > 0
    return np.where(bare | ~np.isfinite(bound)[:, None], np.inf, left)


@dataclass(frozen=True)
class Presolved:
    """A problem in a box of its own size.

    problem: with the box that a solver gets. low, high: where that box is not the caller's.
    far: where a caller's bound beyond `FAR` is left out although no limit implies another.
    open_low, open_high: where nothing at all bounds a weight.
    """

    problem: Problem
    low: Flags
    high: Flags
    far: bool
    open_low: Flags
    open_high: Flags


def presolved(problem: Problem) -> Presolved:
    """The problem with every bound that says less than its other limits replaced.

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
    wide_low, wide_high = with_room(tight_low, tight_high)
    low = (tight_low > capped_low) & (np.abs(capped_low) > LOOSE * np.abs(wide_low))
    high = (tight_high < capped_high) & (np.abs(capped_high) > LOOSE * np.abs(wide_high))
    stated_low = np.where(low, wide_low, lower)
    stated_high = np.where(high, wide_high, upper)
    far_low, far_high = stated_low < -FAR, stated_high > FAR
    cut_low, cut_high = far_low & (lower > -ENDLESS), far_high & (upper < ENDLESS)
    stated_low = np.where(far_low, -np.inf, stated_low)
    stated_high = np.where(far_high, np.inf, stated_high)
    changed = _finite_sums(limits)
    if np.any(stated_low != lower) or np.any(stated_high != upper):
        changed = replace(changed, lower=stated_low, upper=stated_high)
    return Presolved(
        problem if changed is limits else replace(problem, limits=changed),
        low=low | far_low,
        high=high | far_high,
        far=bool(cut_low.any() or cut_high.any()),
        open_low=np.isneginf(tight_low),
        open_high=np.isposinf(tight_high),
    )


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


def with_room(lower: Array, upper: Array) -> tuple[Array, Array]:
    """An implied box with so much room that none of its bounds binds."""
    ends = np.abs([lower, upper])
    own = np.where(np.isfinite(ends), ends, 0.0).max(axis=0)
    usual = float(np.median(own[own > 0.0])) if np.any(own > 0.0) else 1.0
    room = ROOM * np.where(own > 0.0, own, usual)
    return lower - room, upper + room


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
    """Whether the answer is one to the caller's problem, whose far bounds were left out."""
    if not stated.far or solution.status is Status.INFEASIBLE:
        return True
    limits, weights = problem.limits, solution.weights
    inside = limits.lower is None or bool(np.all(weights >= limits.lower))
    inside &= limits.upper is None or bool(np.all(weights <= limits.upper))
    return solution.status is Status.OPTIMAL and inside


def open_sides(problem: Problem) -> list[str]:
    """The sides of weights that nothing bounds, as `upper[3]` and `lower[3]`."""
    stated = presolved(problem)
    sides = (("upper", stated.open_high), ("lower", stated.open_low))
    return [f"{name}[{asset}]" for name, is_open in sides for asset in np.flatnonzero(is_open)]


def without_redundant(problem: Problem) -> Problem:
    """The problem without bounds of single weights that its other limits imply by far."""
    stated = presolved(problem)
    limits = stated.problem.limits
    if limits.lower is None or limits.upper is None:
        return problem
    bare: Limits = replace(
        problem.limits,
        lower=np.where(stated.low, -np.inf, limits.lower),
        upper=np.where(stated.high, np.inf, limits.upper),
    )
    return replace(problem, limits=bare)
