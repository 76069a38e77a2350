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
from compute.joint.cuts import RISK_BUDGET_ROW, Named, limit_of
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
    ends = list(hard_ends(rows))
    reach = _without_growth(inputs, rows, ends, box, before)
    for end in ends:
        named = limit_of(end.name, inputs, box, _NO_OWNER)
        if named.kind not in SIGNED or rows.names[end.place] == MARGIN_ROW:
            continue
        least, nearest = _least(end.row, reach, before)
        if least > end.most + SLACK * float(np.abs(end.row) @ np.abs(nearest)):
            row = end.row[: len(lines)]
            box = _stretched(box, own, above & (row < 0.0), below & (row > 0.0), named)
            reach = _without_growth(inputs, rows, ends, box, before)
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
    sizes keep it. The risk budget comes first, as its stage is the last one. Where lines fixed for
    one of the other rows would hold another out of its reach, or turnover, none is fixed for them
    and they stay: how near they come together is for `joint/nearest.py`. Nothing grows then in a
    sum of sizes that is out of reach.
    """
    rows = limits.rows
    if rows is None:
        return limits, box
    budget, others = (
        [end for end in hard_ends(rows) if (rows.names[end.place] == RISK_BUDGET_ROW) is wanted]
        for wanted in (True, False)
    )
    first, box = _approached(inputs, rows, budget, box, before)
    all_rows, fixed = _approached(inputs, first, others, box, before)
    missed = any(_is_held_out(end, box, fixed, before) for end in hard_ends(rows))
    if missed or _is_too_much(limits.turnover_max, box, fixed, before):
        all_rows, fixed = first, _without_growth(inputs, rows, others, box, before)
    return replace(limits, rows=_bounded(all_rows)), fixed


def _approached(
    inputs: Inputs, rows: Rows, ends: list[RowEnd], box: Box, before: Floats
) -> tuple[Rows, Box]:
    """The rows without bounds that are out of reach, of these ends, and lines fixed for each."""
    low, high = rows.row_min.copy(), rows.row_max.copy()
    for place, name, sign, row, most in ends:
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
    return replace(rows, row_min=low, row_max=high), box


def _is_held_out(end: RowEnd, box: Box, fixed: Box, before: Floats) -> bool:
    """Whether lines that are fixed keep a row further from its bound than `box` lets it come."""
    (could, _), (least, nearest) = (_least(end.row, ends, before) for ends in (box, fixed))
    slack = SLACK * float(np.abs(end.row) @ np.abs(nearest))
    return least > max(end.most, could) + slack


def _is_too_much(turnover: float | None, box: Box, fixed: Box, before: Floats) -> bool:
    """Whether the way to lines that are fixed is more than `turnover`, that into `box` less."""

    def way(ends: Box) -> float:
        now = before[: len(ends.lower.weight)]
        return float(np.abs(np.clip(now, ends.lower.weight, ends.upper.weight) - now).sum())

    return turnover is not None and way(fixed) > max(turnover, way(box)) * (1.0 + SLACK)


def _without_growth(
    inputs: Inputs, rows: Rows, ends: list[RowEnd], box: Box, before: Floats
) -> Box:
    """The box in which no line grows that is in a sum of sizes beyond its bound and out of reach.

    ends: those of the rows that are looked at. A line that its own bounds ask to grow is left to
    them.
    """
    k = len(box.lower.weight)
    least, most = np.minimum(before[:k], 0.0), np.maximum(before[:k], 0.0)
    for end in ends:
        named = limit_of(end.name, inputs, box, _NO_OWNER)
        could, nearest = _least(end.row, box, before)
        reached = end.most + SLACK * float(np.abs(end.row) @ np.abs(nearest))
        if named.kind in SIGNED or rows.names[end.place] == MARGIN_ROW:
            continue
        if min(could, value_now(end.row, before, named)) <= reached:
            continue
        low, high = np.maximum(box.lower.weight, least), np.minimum(box.upper.weight, most)
        member = (end.row[:k] != 0.0) & (low <= high)
        low = np.where(member, low, box.lower.weight)
        high = np.where(member, high, box.upper.weight)
        box = Box(_moved(box.lower, low, named), _moved(box.upper, high, named))
    return box


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
        return _moved(side, nearest[:k], named, free)

    return Box(end(box.lower), end(box.upper))


def _moved(
    side: Side, weight: Floats, named: Named, moved: NDArray[np.bool_] | None = None
) -> Side:
    """The ends at `weight` (k,) by that limit, where `moved`, None: where they are elsewhere."""
    moved = weight != side.weight if moved is None else moved
    return Side(
        np.where(moved, weight, side.weight),
        np.where(moved, int(named.kind), side.kind),
        np.where(moved, named.bound, side.own),
        np.where(moved, named.group, side.group),
    )


def _prices(rows: Rows) -> Floats:
    """Of each row, infinite for those that have to hold."""
    return np.full(len(rows.names), np.inf) if rows.price is None else rows.price


def _bounded(rows: Rows) -> Rows | None:
    """The rows that still have a bound."""
    kept = np.flatnonzero(np.isfinite(rows.row_min) | np.isfinite(rows.row_max))
    if len(kept) == 0:
        return None
    names = tuple(rows.names[place] for place in kept)
    low, high = rows.row_min[kept], rows.row_max[kept]
    return Rows(rows.matrix[kept], low, high, names, _prices(rows)[kept])
