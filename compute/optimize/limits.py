"""Limits as the solver sees them: a box, a stack of rows, and a few norms.

Every limit that is linear in the weights becomes a bound or a row here: participation tightens the
box, gross exposure of a long-only book is its sum and shares the first row with the budget.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from compute.optimize.problem import Array, Problem

# A row whose room is below this share of its size leaves none.
FORCED = 1e-14
# Bounds that cross by less than this share of their size are one bound.
CROSSED = 1e-12


@dataclass(frozen=True)
class Linear:
    """The linear part: box f64[n], rows f64[m, n] with bounds and prices f64[m].

    gross, turnover: what remains of those limits, None where a bound or row already holds them.
    gross_row: whether row 0 carries the gross limit of a long-only book, tighter than its budget.
    """

    lower: Array
    upper: Array
    rows: Array
    row_min: Array
    row_max: Array
    price: Array
    gross: float | None
    turnover: float | None
    gross_row: bool


def finite(bound: float | None, absent: float) -> float:
    """A scalar bound with None read as absent; ValueError on NaN."""
    if bound is None:
        return absent
    if np.isnan(bound):
        raise ValueError("a limit is NaN")
    return bound


def box(problem: Problem) -> tuple[Array, Array]:
    """Lower and upper bound of every weight, participation included.

    Bounds that cross by rounding alone meet in the middle.
    """
    limits, n = problem.limits, problem.size
    lower = np.full(n, -np.inf) if limits.lower is None else limits.lower
    upper = np.full(n, np.inf) if limits.upper is None else limits.upper
    if limits.trade_max is not None:
        held = np.zeros(n) if problem.holdings is None else problem.holdings
        lower = np.maximum(lower, held - limits.trade_max)
        upper = np.minimum(upper, held + limits.trade_max)
    crossed = lower > upper
    if crossed.any():
        meeting = np.zeros_like(lower)
        np.add(0.5 * lower, 0.5 * upper, out=meeting, where=crossed)
        crossed &= lower - upper <= CROSSED * np.maximum(np.abs(lower), 1e-3)
        lower, upper = np.where(crossed, meeting, lower), np.where(crossed, meeting, upper)
    return lower, upper


def linear(problem: Problem) -> Linear:
    """Collect the linear limits; the budget is row 0.

    ValueError for a soft row that asks for at least more than at most: it has no price.
    """
    limits, n = problem.limits, problem.size
    lower, upper = box(problem)
    gross = finite(limits.gross_max, np.inf)
    turnover = finite(limits.turnover_max, np.inf)
    long_only = bool(np.isfinite(gross) and (lower >= 0.0).all())
    rows, row_min = [np.ones((1, n))], [[finite(limits.budget_min, -np.inf)]]
    budget_max = finite(limits.budget_max, np.inf)
    row_max, price = [[min(budget_max, gross) if long_only else budget_max]], [[np.inf]]
    if limits.rows is not None:
        named = limits.rows
        rows.append(named.matrix)
        row_min.append(list(named.row_min))
        row_max.append(list(named.row_max))
        soft = named.price if named.price is not None else np.full(len(named.row_min), np.inf)
        if np.any((named.row_min > named.row_max) & np.isfinite(soft)):
            raise ValueError("a soft row is bounded below by more than above")
        price.append(list(soft))
    return Linear(
        lower=lower,
        upper=upper,
        rows=np.concatenate(rows),
        row_min=np.concatenate(row_min),
        row_max=np.concatenate(row_max),
        price=np.concatenate(price),
        gross=gross if np.isfinite(gross) and not long_only else None,
        turnover=turnover if np.isfinite(turnover) else None,
        gross_row=long_only and gross < budget_max,
    )


def distinct(limits: Linear) -> Linear:
    """The limits without the sides of hard rows that a multiple of the same row holds tighter.

    A group of all names beside the budget says nothing more where the budget is exact, and two
    parallel sides a hair apart leave no inside between them.
    """
    largest = np.abs(limits.rows).max(axis=1)
    if len(largest) < 2 or (limits.price < np.inf).all():
        return limits
    row_min, row_max = limits.row_min.copy(), limits.row_max.copy()
    seen: dict[bytes, list[tuple[int, float]]] = {}
    for k, row in enumerate(limits.rows):
        if largest[k] > 0.0 and limits.price[k] == np.inf:
            scale = float(row[np.argmax(np.abs(row) > 0.0)])
            seen.setdefault((row / scale + 0.0).tobytes(), []).append((k, scale))
    for same in (group for group in seen.values() if len(group) > 1):
        lows = [_side(limits, k, scale, scale > 0.0) for k, scale in same]
        highs = [_side(limits, k, scale, scale < 0.0) for k, scale in same]
        for at, (k, scale) in enumerate(same):
            if at != int(np.argmax(lows)):
                (row_min if scale > 0.0 else row_max)[k] = -np.inf if scale > 0.0 else np.inf
            if at != int(np.argmin(highs)):
                (row_max if scale > 0.0 else row_min)[k] = np.inf if scale > 0.0 else -np.inf
    return replace(limits, row_min=row_min, row_max=row_max)


def _side(limits: Linear, row: int, scale: float, low: bool) -> float:
    """One bound of a row after division by `scale`."""
    return float((limits.row_min if low else limits.row_max)[row] / scale)


def forced(limits: Linear) -> Linear:
    """The limits with every name fixed that a hard row leaves no choice.

    A row that can only just be kept holds all its names at their bounds (a budget of the sum of
    the upper bounds). Such a set has no inside, and its prices have no bound.
    """
    if not (np.isfinite(limits.lower).all() and np.isfinite(limits.upper).all()):
        return limits
    if (limits.lower > limits.upper).any():
        return limits  # nothing satisfies them: the solver says so
    up, down = np.maximum(limits.rows, 0.0), np.minimum(limits.rows, 0.0)
    most = up @ limits.upper + down @ limits.lower
    least = up @ limits.lower + down @ limits.upper
    near = FORCED * (up - down) @ np.maximum(np.abs(limits.lower), np.abs(limits.upper))
    hard = np.isinf(limits.price)
    full = hard & (np.abs(most - limits.row_min) <= near)
    empty = hard & (np.abs(least - limits.row_max) <= near)
    if not (full.any() or empty.any()):
        return limits
    pull = np.concatenate([limits.rows[full], -limits.rows[empty]])
    high, low = (pull > 0.0).any(axis=0), (pull < 0.0).any(axis=0)
    # Where two rows pull a name apart the limits conflict, by rounding at least: not said here.
    lower = np.where(high & ~low, limits.upper, limits.lower)
    upper = np.where(low & ~high, limits.lower, limits.upper)
    if (lower == limits.lower).all() and (upper == limits.upper).all():
        return limits
    return forced(replace(limits, lower=lower, upper=upper))
