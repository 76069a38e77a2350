"""Limits as the solver sees them: a box, a stack of rows, and a few norms.

Every limit that is linear in the weights becomes a bound or a row here: participation tightens the
box, gross exposure of a long-only book is its sum and shares the first row with the budget.

A problem may be a stack of problems of one form (`batching.stacked`): whatever differs between them
has a leading axis then, here as in the answer.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.optimize.problem import Array, DrawdownRisk, Limits, Problem

# A number, or f64[batch] of a stack whose problems differ in it.
Scalar = float | Array

# A row whose room is below this share of its size leaves none.
FORCED = 1e-14
# Ratios of weighted sums of parallel rows differ by rounding alone, which is a smaller share than
# ALIKE unless less than CANCELLED of a row is left of its sum.
ALIKE, CANCELLED = 1e-9, 1e-3
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
    gross: Scalar | None
    turnover: Scalar | None
    gross_row: bool | NDArray[np.bool_]


_OF_ASSET = re.compile(r"(lower|upper|trade_max)\[(\d+)\]")


def of_asset(name: str) -> tuple[str, int] | None:
    """Which limit of which asset `upper[3]` names; None: the name is of another limit.

    Rows have names that callers chose, in brackets or not: ` min` or ` max` always follows those.
    """
    found = _OF_ASSET.fullmatch(name)
    return None if found is None else (found[1], int(found[2]))


def bound_of(limits: Limits, name: str) -> float:
    """The bound of a limit that is there, by its name among the shadow prices.

    `upper[3]`, `ROW max`, `gross_max`; 0 for `drawdown_risk`, whose bound is on a logarithm.
    """
    if (own := of_asset(name)) is not None:
        return float(getattr(limits, own[0])[own[1]])
    row, _, side = name.rpartition(" ")
    if limits.rows is not None and row in limits.rows.names:
        return float(getattr(limits.rows, f"row_{side}")[limits.rows.names.index(row)])
    bound = getattr(limits, name)
    return 0.0 if isinstance(bound, DrawdownRisk) else float(bound)


def over(values: Any, axes: int) -> Any:
    """A number as it is; numbers of a stack so that they apply along that many further axes."""
    return values.reshape(-1, *axes * (1,)) if isinstance(values, np.ndarray) else values


def everywhere(flags: Any) -> bool:
    """True if all are; of one problem it is one flag, for which `all` takes ten times as long."""
    return bool(flags if flags.ndim == 0 else flags.all())


def finite(bound: Scalar | None, absent: float) -> Scalar:
    """A scalar bound with None read as absent; ValueError on NaN."""
    if bound is None:
        return absent
    if np.isnan(bound).any() if isinstance(bound, np.ndarray) else math.isnan(bound):
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
        meeting = np.zeros(crossed.shape)
        np.add(0.5 * lower, 0.5 * upper, out=meeting, where=crossed)
        crossed &= lower - upper <= CROSSED * np.maximum(np.abs(lower), 1e-3)
        lower, upper = np.where(crossed, meeting, lower), np.where(crossed, meeting, upper)
    return lower, upper


def equal_weights(problem: Problem, total: float = 1.0) -> Array:
    """Equal weights that sum to `total`, moved into the box: f64[n]."""
    moved: Array = np.clip(np.full(problem.size, total / problem.size), *box(problem))
    return moved


def linear(problem: Problem) -> Linear:
    """Collect the linear limits; the budget is row 0.

    ValueError for a soft row that asks for at least more than at most: it has no price.
    """
    limits = problem.limits
    lower, upper = box(problem)
    budget = finite(limits.budget_min, -np.inf), finite(limits.budget_max, np.inf)
    turnover = None if limits.turnover_max is None else finite(limits.turnover_max, np.inf)
    gross: Scalar | None = None
    gross_row: bool | NDArray[np.bool_] = False
    if limits.gross_max is not None:
        most = finite(limits.gross_max, np.inf)
        long_only = np.isfinite(most) & (lower >= 0.0).all(axis=-1)
        gross_row = long_only & (most < budget[1])
        budget = budget[0], np.where(gross_row, most, budget[1])
        gross = np.where(long_only, np.inf, most)
    rows, row_min, row_max, price = _rows(problem, *budget)
    return Linear(
        lower=lower,
        upper=upper,
        rows=rows,
        row_min=row_min,
        row_max=row_max,
        price=price,
        gross=gross if gross is not None and np.isfinite(gross).any() else None,
        turnover=turnover if turnover is not None and np.isfinite(turnover).any() else None,
        gross_row=gross_row,
    )


def _rows(problem: Problem, low: Scalar, high: Scalar) -> tuple[Array, Array, Array, Array]:
    """The budget, within low and high, and the named rows: matrix, bounds, prices."""
    named, n = problem.limits.rows, problem.size
    if named is None:
        none = np.zeros(0)
        return np.ones((1, n)), _below(low, none), _below(high, none), np.full(1, np.inf)
    price = np.full(named.row_min.shape[-1], np.inf) if named.price is None else named.price
    if named.price is not None and np.any((named.row_min > named.row_max) & np.isfinite(price)):
        raise ValueError("a soft row is bounded below by more than above")
    *lead, count, _ = named.matrix.shape
    rows = np.ones((*lead, count + 1, n))
    rows[..., 1:, :] = named.matrix
    return rows, _below(low, named.row_min), _below(high, named.row_max), _below(np.inf, price)


def _below(first: Scalar, others: Array) -> Array:
    """One entry, then the others."""
    whole = np.empty((*(np.shape(first) or others.shape[:-1]), others.shape[-1] + 1))
    whole[..., 0], whole[..., 1:] = first, others
    return whole


def distinct(limits: Linear) -> Linear:
    """The limits without the sides of hard rows that a multiple of the same row holds tighter.

    A group of all names beside the budget says nothing more where the budget is exact, and two
    parallel sides a hair apart leave no inside between them.
    """
    if limits.rows.shape[-2] < 2 or (limits.price < np.inf).all() or not _parallel(limits.rows):
        return limits
    of_each = np.vectorize(_distinct, signature="(m,n),(m),(m),(m)->(m),(m)")
    row_min, row_max = of_each(limits.rows, limits.row_min, limits.row_max, limits.price)
    return replace(limits, row_min=row_min, row_max=row_max)


def _parallel(rows: Array) -> bool:
    """False if surely no row f64[..., m, n] is a multiple of another.

    Of multiples two weighted sums have the same ratio, whatever the weights.
    """
    sums = rows @ marks(rows.shape[-1])
    first, second = sums[..., 0], sums[..., 1]
    if (np.abs(second) <= CANCELLED * np.abs(rows).max(axis=-1)).any():
        return True  # next to nothing is left of the sum, or the row is empty
    ratios = np.sort(first / second, axis=-1)
    return bool((ratios[..., 1:] - ratios[..., :-1] <= ALIKE * np.abs(ratios).max()).any())


@lru_cache
def marks(size: int) -> Array:
    """Weights that have nothing to do with each other, f64[size, 2]."""
    return np.sqrt(np.arange(2.0, 2.0 * size + 2.0)).reshape(size, 2) % 1.0


def _distinct(rows: Array, low: Array, high: Array, price: Array) -> tuple[Array, Array]:
    """The bounds f64[m] of one problem's rows, infinite where another row holds them tighter."""
    sides = {True: low.copy(), False: high.copy()}  # lowest values, highest values
    seen: dict[bytes, list[tuple[int, float]]] = {}
    for k, row in enumerate(rows):
        if row.any() and price[k] == np.inf:
            scale = float(row[np.argmax(row != 0.0)])
            seen.setdefault((row / scale + 0.0).tobytes(), []).append((k, scale))
    for same in (group for group in seen.values() if len(group) > 1):
        for is_low in (True, False):
            # Divided by a negative number a lowest value is a highest one.
            own = [(is_low == (scale > 0.0), k, scale) for k, scale in same]
            values = [(low if side else high)[k] / scale for side, k, scale in own]
            tightest = int(np.argmax(values) if is_low else np.argmin(values))
            for side, k, _ in own[:tightest] + own[tightest + 1 :]:
                sides[side][k] = -np.inf if side else np.inf
    return sides[True], sides[False]


def forced(limits: Linear) -> Linear:
    """The limits with every name fixed that a hard row leaves no choice.

    A row that can only just be kept holds all its names at their bounds (a budget of the sum of
    the upper bounds). Such a set has no inside, and its prices have no bound.
    """
    lower, upper = limits.lower, limits.upper
    reach = np.maximum(np.abs(lower), np.abs(upper))
    # Of a book with an open bound nothing is forced; of crossed bounds the solver says so.
    closed = np.asarray(np.isfinite(reach).all(axis=-1) & (lower <= upper).all(axis=-1))
    if not closed.any():
        return limits
    if not closed.all():
        lower, upper, reach = (np.where(closed[..., None], x, 0.0) for x in (lower, upper, reach))
    size = np.abs(limits.rows)
    middle = np.matvec(limits.rows, 0.5 * (lower + upper))
    either = np.matvec(size, 0.5 * (upper - lower))
    near = FORCED * np.matvec(size, reach)
    above, below = middle + either - limits.row_min, limits.row_max - (middle - either)
    if not (np.minimum(above, below) <= near).any():
        return limits
    hard = np.isinf(limits.price) & closed[..., None]
    full, empty = hard & (np.abs(above) <= near), hard & (np.abs(below) <= near)
    full, empty = full[..., None], empty[..., None]
    raised, sunk = limits.rows > 0.0, limits.rows < 0.0
    high = ((full & raised) | (empty & sunk)).any(axis=-2)
    low = ((full & sunk) | (empty & raised)).any(axis=-2)
    # Where two rows pull a name apart the limits conflict, by rounding at least: not said here.
    lower = np.where(high & ~low, limits.upper, limits.lower)
    upper = np.where(low & ~high, limits.lower, limits.upper)
    if (lower == limits.lower).all() and (upper == limits.upper).all():
        return limits
    return forced(replace(limits, lower=lower, upper=upper))
