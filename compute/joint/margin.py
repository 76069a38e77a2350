"""The margin row of the joint problem, exact also where a line may be reduced or increased.

What a line needs (`compute.money.margin.need`) is convex and piecewise linear in its weight: a
sale that is not filled gives nothing back, a purchase takes its margin and fee. The row

    sum_i need_i(w_i) <= free

is first relaxed to one tangent a line, which is exact for every line that the optimum does not
turn around. Only where the relaxed optimum needs more than is free, each line is divided into
pieces on which its need is linear, as variables of their own with the same return: as the slopes
rise, the cheaper pieces fill first, and the row is exact.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compute.inputs import Inputs
from compute.joint.box import Box
from compute.limits.policy import LimitKind
from compute.market import Floats, Integers
from compute.money.margin import need, uses_proceeds
from compute.optimize.problem import Costs, Problem, Rows

LENGTH_MIN = 1e-12
"""Shorter pieces, in weight, are none."""

FREE_MIN = 1e-12
"""Less free capital, as a fraction of equity, is none."""

WEIGHT_MAX = 1e6
"""Stands for the end of a line without a bound: far beyond what any capital pays for, and near
enough that a slope from there to the last kink loses no digits that count."""


@dataclass(frozen=True)
class LineNeeds:
    """What k lines need of the free capital, as fractions of equity.

    points: (k, c) rising weights from the lower to the upper bound of the line, between which its
    need is linear; need: (k, c) there. before: (k,) the weights held and reserved.
    """

    points: Floats
    need: Floats
    before: Floats
    free: float

    @property
    def are_payable(self) -> bool:
        """Whether any sizes at all leave the row satisfied."""
        least = float(self.need.min(axis=1).sum())
        # Where sales give nothing back and nothing is free, the row leaves no room inside.
        return least <= self.free and (self.free > FREE_MIN or least < -FREE_MIN)

    def tangents(self) -> tuple[Floats, Floats]:
        """Slope of the piece on which each line grows, (k,), and the height of its line at 0."""
        long = self.points[:, -1] > 0.0
        beyond = np.where(long, np.maximum(self.before, 0.0), np.minimum(self.before, 0.0))[:, None]
        length = np.diff(self.points, axis=1)
        grows = np.where(
            long[:, None], self.points[:, 1:] > beyond, self.points[:, :-1] < beyond
        ) & (length > LENGTH_MIN)
        # The first piece beyond what is held; where there is none, the longest.
        first = np.where(long, grows.argmax(axis=1), length.shape[1] - 1 - grows[:, ::-1].argmax(1))
        piece = np.where(grows.any(axis=1), first, length.argmax(axis=1))
        row = np.arange(len(piece))
        at, step = self.points[row, piece], length[row, piece]
        rise = self.need[row, piece + 1] - self.need[row, piece]
        slope = np.where(step > LENGTH_MIN, rise / np.where(step > LENGTH_MIN, step, 1.0), 0.0)
        return slope, self.need[row, piece] - slope * at

    def of(self, weights: Floats) -> float:
        """What all lines need at `weights` (k,)."""
        total = 0.0
        for points, needs, weight in zip(self.points, self.need, weights, strict=True):
            total += float(np.interp(weight, points, needs))
        return total


def line_needs(inputs: Inputs, lines: Integers, lower: Floats, upper: Floats) -> LineNeeds:
    """The needs of `lines` between their bounds, (k,) each, infinite where there is none."""
    lower, upper = np.maximum(lower, -WEIGHT_MAX), np.minimum(upper, WEIGHT_MAX)
    limit_bounds, index = inputs.limit_bounds, inputs.index[lines]
    unit, terms, book = limit_bounds.unit_weight[index], limit_bounds.terms, limit_bounds.positions
    before = limit_bounds.before[index]
    low, high = before - unit * book.open_buy[index], before + unit * book.open_sell[index]
    long, short = terms.rate_long[index], terms.rate_short[index]
    bound = np.maximum(long * np.maximum(high, 0.0), short * np.maximum(-low, 0.0))
    safe_long, safe_short = np.where(long > 0, long, 1.0), np.where(short > 0, short, 1.0)
    ends = np.where(long + short > 0, long + short, 1.0)
    turns = (
        np.zeros(len(before)),
        bound / safe_long - high,
        -bound / safe_short - low,
        -high,
        -low,
        -(long * high + short * low) / ends,
    )
    inner = np.clip(before + np.stack(turns), lower, upper)
    points = np.sort(np.vstack([lower, inner, upper]), axis=0)
    # A book that is paid in full has nothing free but for rounding.
    free = limit_bounds.free - terms.order_fees_max(index) / limit_bounds.scale
    free = 0.0 if abs(free) <= FREE_MIN else free
    columns = low, high, long, short, terms.fee[index]
    needs = need(points - before, *columns, at_once=uses_proceeds(limit_bounds.limits))
    return LineNeeds(points.T, needs.T, before, free)


def only_reducing(before: Floats, free: float, box: Box) -> Box:
    """The bounds of lines that may not grow, because nothing is free; what is forced may."""
    low, high = box.lower.weight, box.upper.weight
    kind = int(LimitKind.CASH)
    return Box(
        box.lower.tightened(-1.0, np.minimum(np.minimum(before, 0.0), high), kind, free),
        box.upper.tightened(1.0, np.maximum(np.maximum(before, 0.0), low), kind, free),
    )


@dataclass(frozen=True)
class Divided:
    """A problem with lines in pieces. owner: (n',), each one's variable in the undivided one."""

    problem: Problem
    owner: Integers

    def parted(self, weights: Floats) -> Floats:
        """Weights (size,) as the pieces fill, the lowest first."""
        return _filled(weights[self.owner], *self._spans())

    def _spans(self) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        lower, upper = _box(self.problem)
        return lower, upper, _is_first(self.owner)


def divided(problem: Problem, needs: LineNeeds, row_name: str) -> Divided:
    """The problem with its first k variables in pieces and the row `row_name` exact.

    Impact is that of each piece: exact where needs bend at the holdings alone, since a line is
    either reduced or increased; beyond another bend it is a little less than of the whole trade.
    """
    k, size = len(needs.before), problem.size
    length = np.diff(needs.points, axis=1)
    slope = np.diff(needs.need, axis=1) / np.where(length > LENGTH_MIN, length, 1.0)
    owner, lower, upper, slopes, offset = [], [], [], [], 0.0
    for i in range(k):
        merged: list[list[float]] = []  # length and slope of the pieces, equal slopes as one
        for j in np.flatnonzero(length[i] > LENGTH_MIN):
            if merged and abs(merged[-1][1] - slope[i, j]) <= 1e-12:
                merged[-1][0] += length[i, j]
            else:
                merged.append([length[i, j], slope[i, j]])
        merged = merged or [[0.0, 0.0]]
        start = needs.points[i, 0]
        offset += needs.need[i, 0] - merged[0][1] * start
        for place, (span, steep) in enumerate(merged):
            owner.append(i)
            lower.append(start if place == 0 else 0.0)
            upper.append((start if place == 0 else 0.0) + span)
            slopes.append(steep)
    owner += range(k, size)
    chosen, limits = np.array(owner), problem.limits
    rest_low, rest_high = _box(problem)
    low, high = np.concatenate([lower, rest_low[k:]]), np.concatenate([upper, rest_high[k:]])
    rows = limits.rows
    assert rows is not None, "the row to make exact"
    matrix, most = rows.matrix[:, chosen], rows.row_max.copy()
    place = rows.names.index(row_name)
    matrix[place] = np.concatenate([slopes, np.zeros(size - k)])
    most[place] = needs.free - offset
    holdings = problem.holdings
    assert holdings is not None, "set by the joint method"
    linear, impact = problem.costs.linear, problem.costs.impact
    prices = rows.price
    return Divided(
        replace(
            problem,
            mean=None if problem.mean is None else problem.mean[chosen],
            covariance=None
            if problem.covariance is None
            else np.asarray(problem.covariance)[np.ix_(chosen, chosen)],
            scenarios=None if problem.scenarios is None else problem.scenarios[:, chosen],
            holdings=_filled(holdings[chosen], low, high, _is_first(chosen)),
            financing=None if problem.financing is None else problem.financing[chosen],
            views=None if problem.views is None else problem.views[chosen],
            costs=Costs(
                linear=None if linear is None else linear[chosen],
                impact=None if impact is None else impact[chosen],
            ),
            limits=replace(
                limits,
                lower=low,
                upper=high,
                rows=Rows(matrix, rows.row_min, most, rows.names, prices),
            ),
        ),
        chosen,
    )


def _box(problem: Problem) -> tuple[Floats, Floats]:
    lower, upper = problem.limits.lower, problem.limits.upper
    assert lower is not None, "the joint method bounds every line"
    assert upper is not None, "the joint method bounds every line"
    return lower, upper


def _is_first(owner: Integers) -> NDArray[np.bool_]:
    """Whether each variable is the first piece of its owner, (n',)."""
    return np.concatenate([[True], owner[1:] != owner[:-1]])


def _filled(weight: Floats, lower: Floats, upper: Floats, first: NDArray[np.bool_]) -> Floats:
    """`weight` of each piece's owner, (n',), shared out over its pieces from the lowest on.

    What is below all or above all of the pieces goes to the first.
    """
    starts = np.flatnonzero(first)
    out = np.empty_like(weight)
    for begin, end in zip(starts.tolist(), [*starts[1:].tolist(), len(weight)], strict=True):
        total, spans = weight[begin], (upper - lower)[begin + 1 : end]
        left = total - upper[begin]
        for place, span in enumerate(spans, begin + 1):
            out[place] = min(max(left, 0.0), span)
            left -= span
        out[begin] = total - out[begin + 1 : end].sum()
    return out
