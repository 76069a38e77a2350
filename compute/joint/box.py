"""The bounds of each line in the joint problem, and which limit each of them comes from."""

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compute.inputs import Inputs
from compute.limits.bindings import reversal_kinds
from compute.limits.line_risk import risk_caps
from compute.limits.liquidity import volume_share
from compute.limits.policy import LimitKind
from compute.limits.stops import may_not_grow
from compute.market import Floats, Integers
from compute.methods import Engine
from compute.optimize.implied_bounds import ENDLESS


@dataclass(frozen=True)
class Side:
    """One bound of k lines as signed weights (k,), infinite where there is none, and its limit.

    kind: `LimitKind`, NONE where the side of the signal itself is the bound; own: the bound in the
    limit's own unit; group: as in `Binding`, -1 of most. Where there is no bound none says a thing.
    """

    weight: Floats
    kind: Integers
    own: Floats
    group: Integers

    def tightened(
        self, sign: float, weight: Floats | float, kind: Integers | int, own: Floats | float
    ) -> "Side":
        """With another bound where that is tighter; sign: 1 of an upper bound, -1 of a lower."""
        tighter = sign * np.asarray(weight) < sign * self.weight
        return Side(
            np.where(tighter, weight, self.weight),
            np.where(tighter, kind, self.kind),
            np.where(tighter, own, self.own),
            np.where(tighter, -1, self.group),
        )


@dataclass(frozen=True)
class Box:
    """Lower and upper bounds of the lines of a batch."""

    lower: Side
    upper: Side


def line_box(inputs: Inputs, lines: Integers) -> Box:
    """Bounds of each line: its side, its instrument's limits, what may be traded at once.

    What can't be reached in one trade is approached as far as one trade goes. An instrument's
    limits go before sides, permissions and risk rules, as they do in the waterfall.
    """
    limit_bounds, index, side = inputs.limit_bounds, inputs.index[lines], inputs.signals.side[lines]
    limits, before = limit_bounds.limits, limit_bounds.before[index]
    free = np.full(len(lines), np.inf)
    caps, owns = limit_bounds.cap_kind[index], limit_bounds.cap_bound[index]
    none, (adv, _, stated) = int(LimitKind.NONE), volume_share(limits)
    nothing = np.zeros(len(lines), dtype=np.int64)
    empty = Side(free, nothing, np.zeros(len(lines)), nothing - 1)
    upper = empty.tightened(1.0, limit_bounds.weight_max[index], caps, owns)
    lower = replace(empty, weight=-free).tightened(-1.0, limit_bounds.weight_min[index], caps, owns)
    upper = upper.tightened(1.0, limit_bounds.adv_weight_max[index], int(adv), stated)
    lower = lower.tightened(-1.0, limit_bounds.adv_weight_min[index], int(adv), stated)
    hard = Box(lower, upper)
    for cap in risk_caps(inputs):
        upper = upper.tightened(1.0, cap.weight_max[lines], int(cap.kind), cap.bound)
        lower = lower.tightened(-1.0, -cap.weight_max[lines], int(cap.kind), cap.bound)
    refused = np.where(side < 0, int(LimitKind.SHORT_NOT_ALLOWED), none)
    closed = (side > 0) | (not limits.allow_short)
    lower = lower.tightened(-1.0, np.where(closed, 0.0, -np.inf), refused, 0.0)
    upper = upper.tightened(1.0, np.where(side < 0, 0.0, np.inf), none, 0.0)
    if not limits.allow_flip:
        flip = int(LimitKind.FLIP_NOT_ALLOWED)
        lower = lower.tightened(-1.0, np.where(before > 0, 0.0, -np.inf), flip, 0.0)
        upper = upper.tightened(1.0, np.where(before < 0, 0.0, np.inf), flip, 0.0)
    if inputs.must_reduce:
        only = int(LimitKind.REDUCING_ONLY)
        lower = lower.tightened(-1.0, np.minimum(before, 0.0), only, 0.0)
        upper = upper.tightened(1.0, np.maximum(before, 0.0), only, 0.0)
    if limits.stop_required:
        stopless, stop = may_not_grow(inputs)[lines], int(LimitKind.STOP_REQUIRED)
        least, most = np.minimum(before, 0.0), np.maximum(before, 0.0)
        lower = lower.tightened(-1.0, np.where(stopless, least, -np.inf), stop, 0.0)
        upper = upper.tightened(1.0, np.where(stopless, most, np.inf), stop, 0.0)
    if inputs.placeless is not None:
        closed, kind = inputs.placeless[lines], int(LimitKind.POSITIONS_MAX)
        places = float(limits.positions_max or 0)
        lower = lower.tightened(-1.0, np.where(closed, 0.0, -np.inf), kind, places)
        upper = upper.tightened(1.0, np.where(closed, 0.0, np.inf), kind, places)
    return _within_reach(inputs, index, _kept(Box(lower, upper), hard))


def _kept(box: Box, hard: Box) -> Box:
    """The box where it is beyond one end of `hard` at that end.

    With trades open on both sides an instrument's limit can leave no more than one side of zero,
    that against the signal too.
    """

    def at(end: Side, low: NDArray[np.bool_], high: NDArray[np.bool_]) -> Side:
        fields = [
            np.select([low, high], [below, above], own)
            for below, above, own in zip(
                astuple(hard.lower), astuple(hard.upper), astuple(end), strict=True
            )
        ]
        return Side(*fields)

    low = (box.upper.weight < hard.lower.weight) & (hard.lower.weight <= hard.upper.weight)
    high = (box.lower.weight > hard.upper.weight) & (hard.lower.weight <= hard.upper.weight)
    if not (low | high).any():
        return box
    return Box(at(box.lower, low, high), at(box.upper, low, high))


def ends_of_optimum(inputs: Inputs) -> Callable[[], tuple[Floats, Floats]] | None:
    """Gives the least and the largest weight of each line, (n,) each, where lots may be rounded up.

    Of an optimum, which buys up to lower limits. None for stakes, which are never made larger.
    """
    if inputs.target is None or inputs.method.engine is not Engine.OPTIMIZER:
        return None

    def ends() -> tuple[Floats, Floats]:
        lines = np.flatnonzero(inputs.active)
        box = line_box(inputs, lines)
        least = inputs.limit_bounds.before[inputs.index].copy()
        most = least.copy()
        least[lines], most[lines] = box.lower.weight, box.upper.weight
        return least, most

    return ends


def _within_reach(inputs: Inputs, index: Integers, box: Box) -> Box:
    """The box cut to what one trade reaches; a line that it misses is fixed at the nearest."""
    limit_bounds = inputs.limit_bounds
    before, buy, sell = (
        limit_bounds.before[index],
        limit_bounds.buy_max[index],
        limit_bounds.sell_max[index],
    )
    trade = limit_bounds.trade_max[index]
    own = limit_bounds.trade_bound[index]
    bought_kind, sold_kind = reversal_kinds(limit_bounds, index)
    bought = np.where(buy < trade, bought_kind, limit_bounds.trade_kind[index])
    sold = np.where(sell < trade, sold_kind, limit_bounds.trade_kind[index])
    bought_at, sold_at = np.where(buy < trade, 0.0, own), np.where(sell < trade, 0.0, own)
    # Where the ends cross, what has to stay because reserved trades may fail counts, not the side.
    inner, outer = (ends(box.lower.weight, box.upper.weight) for ends in (np.minimum, np.maximum))
    nearest = np.clip(before, inner, outer)
    goal = before + np.clip(nearest - before, -sell, buy)
    upper = box.upper.tightened(1.0, before + buy, bought, bought_at)
    lower = box.lower.tightened(-1.0, before - sell, sold, sold_at)
    missed = lower.weight > upper.weight
    kind, at = np.where(goal > before, (bought, bought_at), (sold, sold_at))
    for end in (box.lower, box.upper):
        is_end = goal == end.weight
        kind, at = np.where(is_end, end.kind, kind), np.where(is_end, end.own, at)
    ends = [
        Side(
            _finite(np.where(missed, goal, end.weight)),
            np.where(missed, kind.astype(np.int64), end.kind),
            np.where(missed, at, end.own),
            np.where(missed, -1, end.group),
        )
        for end in (lower, upper)
    ]
    return Box(*ends)


def _finite(weight: Floats) -> Floats:
    """What stands for no limit as what it means: `NO_LIMIT`, also divided by equity or a price."""
    out: Floats = np.where(np.abs(weight) >= ENDLESS, np.copysign(np.inf, weight), weight)
    return out
