"""Rows of a joint problem that one decision can't keep, because of what it may not trade.

A holding outside the request can put a group, a net or a linear limit beyond its bound by itself.
The row is then approached as far as the lines reach, as an instrument's own limit is
(`joint/box.py`): each line with a part in it is fixed at the nearest end of its bounds, and the row
asks for nothing more. Everything else stays a problem that has an optimum.

Where a signal or a risk rule asks that a position is made smaller, and that takes the book further
from a limit that it can't keep then, the position may stay: limits go first, as in the waterfall.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compute.inputs import Inputs
from compute.joint.box import Box, Side
from compute.joint.cuts import Named, limit_of
from compute.joint.limits import MARGIN_ROW
from compute.limits.cures import own_bounds
from compute.limits.policy import LimitKind
from compute.market import Floats, Integers
from compute.optimize.problem import Limits, Rows

SLACK = 1e-12
"""Relative to the terms of a row: what is missed by less is kept."""

SIGNED = {
    LimitKind.STRESS_LOSS_MAX,
    LimitKind.LINEAR,
    LimitKind.NET_MIN,
    LimitKind.NET_MAX,
    LimitKind.GROUP_NET_MIN,
    LimitKind.GROUP_NET_MAX,
}
"""Limits on sums of signed weights; others are on sums of sizes."""
_NO_OWNER: Integers = np.empty(0, dtype=np.int64)


class RowEnd(NamedTuple):
    """One end of a row as an upper bound, row'w <= most; sign: -1 for the lower end, turned."""

    place: int
    name: str
    sign: float
    row: Floats
    most: float


def hard_ends(rows: Rows) -> Iterator[RowEnd]:
    """The ends of every row without a price, where they are bounded."""
    for place in np.flatnonzero(np.isinf(_prices(rows))):
        for end, bound, sign in (("max", rows.row_max, 1.0), ("min", rows.row_min, -1.0)):
            most = float(sign * bound[place])
            if np.isfinite(most):
                name, row = f"{rows.names[place]} {end}", sign * rows.matrix[place]
                yield RowEnd(int(place), name, sign, row, most)


def unforced(
    inputs: Inputs,
    lines: Integers,
    everything: Integers,
    limits: Callable[[], Limits],
    box: Box,
) -> Box:
    """The box in which positions may stay that hard rows need, whatever asks to make them smaller.

    lines: (k,), the first of the variables `everything` (v,). limits: those of the book, which are
    seldom asked for. A position beyond an instrument's own limit goes on towards that.
    """
    bounds, index = inputs.limit_bounds, inputs.index[lines]
    before = bounds.before[everything]
    own = np.clip(before[: len(lines)], *own_bounds(bounds, index)) - before[: len(lines)]
    own = before[: len(lines)] + np.clip(own, -bounds.sell_max[index], bounds.buy_max[index])
    above, below = own > box.upper.weight, own < box.lower.weight
    rows = limits().rows if (above | below).any() else None
    if rows is None:
        return box
    for end in hard_ends(rows):
        named = limit_of(end.name, inputs, box, _NO_OWNER)
        if named.kind not in SIGNED or rows.names[end.place] == MARGIN_ROW:
            continue
        least, nearest = _least(end.row, box, before)
        if least > end.most + SLACK * float(np.abs(end.row) @ np.abs(nearest)):
            row = end.row[: len(lines)]
            box = _stretched(box, own, above & (row < 0.0), below & (row > 0.0), named)
    return box


def _stretched(
    box: Box, own: Floats, raised: NDArray[np.bool_], lowered: NDArray[np.bool_], named: Named
) -> Box:
    """The box with upper ends of `raised` lines and lower ends of `lowered` ones at `own`, (k,).

    Each line keeps to one side of zero.
    """

    def end(side: Side, moved: NDArray[np.bool_], kept: NDArray[np.bool_]) -> Side:
        weight = np.where(moved, own, side.weight)
        return Side(
            np.where(kept & (np.sign(weight) * np.sign(own) < 0.0), 0.0, weight),
            np.where(moved, int(named.kind), side.kind),
            np.where(moved, named.bound, side.own),
            np.where(moved, named.group, side.group),
        )

    return Box(end(box.lower, lowered, raised), end(box.upper, raised, lowered))


def within_reach(inputs: Inputs, limits: Limits, box: Box, before: Floats) -> tuple[Limits, Box]:
    """The limits and bounds with every hard row that the book is beyond, and stays, approached.

    box: of the lines, the first variables. before: (v,) what is held and reserved; the variables
    that are no lines stay there. A row that the book keeps now is left as it is, also where no
    sizes keep it.
    """
    rows = limits.rows
    if rows is None:
        return limits, box
    low, high = rows.row_min.copy(), rows.row_max.copy()
    for place, name, sign, row, most in hard_ends(rows):
        if rows.names[place] == MARGIN_ROW:
            continue  # without free capital lines are only reduced (`margin.only_reducing`)
        least, nearest = _least(row, box, before)
        slack = SLACK * float(np.abs(row) @ np.abs(nearest))
        if least <= most + slack:
            continue
        named = limit_of(name, inputs, box, _NO_OWNER)
        now = value_now(row, before, named)
        if now <= most + slack:
            continue
        bound = high if sign > 0.0 else low
        if least > now + slack:  # another row asks for more of it: nothing is kept
            bound[place] = sign * now
            continue
        bound[place] = sign * np.inf
        box = _fixed(box, nearest, row != 0.0, named)
    return replace(limits, rows=_with_bounds(rows, low, high)), box


def _least(row: Floats, box: Box, before: Floats) -> tuple[float, Floats]:
    """The smallest value of a row within the bounds, and the weights (v,) that have it."""
    k = len(box.lower.weight)
    nearest = before.copy()
    nearest[:k] = np.where(row[:k] > 0.0, box.lower.weight, box.upper.weight)
    nearest[row == 0.0] = 0.0
    if np.isinf(nearest).any():
        return -np.inf, np.zeros_like(row)
    return float(row @ nearest), nearest


def value_now(row: Floats, before: Floats, named: Named) -> float:
    """The value of a row now: what counts sizes counts them on whichever side they are."""
    if named.kind in SIGNED:
        return float(row @ before)
    return float(np.abs(row) @ np.abs(before))


def _fixed(box: Box, nearest: Floats, member: NDArray[np.bool_], named: Named) -> Box:
    """The box with the lines among `member` (v,) fixed, by that limit."""
    k = len(box.lower.weight)
    free = member[:k] & (box.lower.weight < box.upper.weight)

    def end(side: Side) -> Side:
        return Side(
            np.where(free, nearest[:k], side.weight),
            np.where(free, int(named.kind), side.kind),
            np.where(free, named.bound, side.own),
            np.where(free, named.group, side.group),
        )

    return Box(end(box.lower), end(box.upper))


def _prices(rows: Rows) -> Floats:
    """Of each row, infinite for those that have to hold."""
    return np.full(len(rows.names), np.inf) if rows.price is None else rows.price


def _with_bounds(rows: Rows, low: Floats, high: Floats) -> Rows | None:
    """The rows that still have a bound."""
    kept = np.flatnonzero(np.isfinite(low) | np.isfinite(high))
    if len(kept) == 0:
        return None
    names = tuple(rows.names[place] for place in kept)
    return Rows(rows.matrix[kept], low[kept], high[kept], names, _prices(rows)[kept])
