"""Bounds on every weight that its limits together imply.

Interval bound propagation (Savelsbergh 1994, ORSA J. Computing 6(4)): of a row sum_j a_j w_j <= b

    a_i w_i <= b - min sum_{j != i} a_j w_j      over the box known so far,

and likewise for sum |w| <= gross and sum |w - holdings| <= turnover; repeated until nothing moves
much. Every state on the way is valid, so rounds are few and bounded. Part of the statement of a
problem, like `problem` and `measures`: presolve and proof both read it, and it reads neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compute.optimize.problem import Array, Problem

ROUNDS_MAX = 20
# A round that moves no bound by this share of its size is the last one.
MOVED = 1e-3
# Beyond this, in weights, a number is not the size of a book.
FAR = 1e4
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
        moved = False
        for tightened in (_by_norms, _by_rows):
            low, high = tightened(lower, upper, sums)
            if np.any(low > high):
                return lower, upper
            moved |= _moved(lower, low) or _moved(upper, high)
            lower, upper = low, high
        if not moved:
            break
    return np.where(lower <= -ENDLESS, -np.inf, lower), np.where(upper >= ENDLESS, np.inf, upper)


def _moved(old: Array, new: Array) -> bool:
    changed = old != new
    size = np.maximum(np.abs(old[changed]), np.abs(new[changed]))
    return bool(np.any(np.isinf(size) | (np.abs(old[changed] - new[changed]) > MOVED * size)))


def _by_norms(lower: Array, upper: Array, sums: Sums) -> tuple[Array, Array]:
    """One tightening by gross and turnover."""
    for centre, bound in ((np.zeros_like(lower), sums.gross), (sums.holdings, sums.turnover)):
        if np.isfinite(bound):
            away = np.maximum(np.maximum(lower - centre, centre - upper), 0.0)
            reach = _slack(np.array([bound]), away[None, :])[0]
            lower, upper = np.maximum(lower, centre - reach), np.minimum(upper, centre + reach)
    return lower, upper


def _by_rows(lower: Array, upper: Array, sums: Sums) -> tuple[Array, Array]:
    """One tightening by every row, all from the same box."""
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
    return np.maximum(lower, low), np.minimum(upper, high)


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


def with_room(lower: Array, upper: Array) -> tuple[Array, Array]:
    """An implied box with so much room that none of its bounds binds."""
    ends = np.abs([lower, upper])
    own = np.where(np.isfinite(ends), ends, 0.0).max(axis=0)
    usual = float(np.median(own[own > 0.0])) if np.any(own > 0.0) else 1.0
    room = ROOM * np.where(own > 0.0, own, usual)
    return lower - room, upper + room
