"""From weights to whole lots, rounded to the safe side.

A position is rounded towards zero, so limits on sizes and gross exposure keep holding. Cash, net,
group limits and those of the whole book can be missed by a lot when a short position shrinks or a
sale is rounded. Then single lots are taken back where it costs least (`repair.py`), and where that
leads nowhere the increases a little all alike; the independent guards decide.

Quantities within a billionth of a whole lot are that lot: 0.1 x 3 is 3 tenths here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compute.limits.book_guard import BookGuard
from compute.limits.bounds import LimitBounds
from compute.limits.guard import NOTHING_REACHED, Guard, Proposal, Reached, Violation
from compute.limits.near_lots import nearest_inside, window
from compute.limits.policy import LimitKind
from compute.limits.repair import Repair
from compute.limits.turnover_lots import whole_needed, within_turnover
from compute.market import LOTS_MAX, Floats, Integers
from compute.waterfall import GRID

NEAR_LOT = 1e-9
"""In lots, relative to the size of the trade where that is larger than a lot."""

NEAR_BOUND = 5e-13
"""Relative: a bound this little below a whole number of lots is that number, to the guard too."""

NEAR_SIZE_MAX = 1e6
"""Of larger trades a lot less is no loss, while half a lot too much can break a limit."""

PARTS = (1.0, 0.9999, 0.999, 0.99, 0.9, 0.5, 0.0)
"""Parts that are tried, in order, until the guard agrees: first of the increases, in the end of
all trades."""


@dataclass(frozen=True)
class Lots:
    """The trades to make and where they lead; (n,) each.

    trade_lots: signed whole lots. quantity: signed units held once they and all reserved trades
    are filled. limit: the `LimitKind` for which a line trades less than its rounded weight asks
    for, 0 mostly. rejected: what the guard found in the first rounding, empty in the usual case.
    scaled_back: taking back single lots didn't mend that, so that trades got smaller all alike.
    """

    trade_lots: Integers
    quantity: Floats
    limit: Integers
    rejected: tuple[Violation, ...] = ()
    scaled_back: bool = False


def whole_lots(
    weight: Floats,
    index: Integers,
    active: Floats,
    limit_bounds: LimitBounds,
    guard: Guard,
    *,
    reducing: bool,
    book: BookGuard | None = None,
    stopless: NDArray[np.bool_] | None = None,
    ends: Callable[[], tuple[Floats, Floats]] | None = None,
    needed: Callable[[], Floats] | None = None,
) -> Lots:
    """The largest whole trades towards `weight` (n,) that break no limit.

    index: the lines' instruments in the market. Lines with `active` 0 are not traded. Trades that
    are smaller than the minimum are dropped, but what closes a position or `needed` gives: the part
    of each trade that brings the book inside a limit, (n,) weights, signed; it also has turnover
    before other trades. `book`: of the limits of
    the whole book, None where there are none. `stopless`: lines that may not grow, (n,). `ends`:
    gives the least and the largest weight of each line, (n,) each, where rounding to the safe side
    breaks a limit that `weight` keeps; without it no trade is rounded the other way.
    """
    lot = limit_bounds.market.lot_size[index]
    unit_weight = limit_bounds.unit_weight[index]
    before = limit_bounds.positions.expected[index]
    lot_weight = lot * unit_weight
    wanted = _unsnapped(weight, index, limit_bounds) / unit_weight
    buy_most, sell_most = (
        np.floor(most[index] / lot_weight * (1.0 + NEAR_BOUND))
        for most in (limit_bounds.buy_max, limit_bounds.sell_max)
    )
    exact = _within((wanted - before) / lot, LOTS_MAX)
    slack = np.minimum(1.0 / GRID / lot_weight, NEAR_LOT * NEAR_SIZE_MAX)
    outward = _towards_zero(exact, wanted, before, lot, slack)
    if not active.all():
        exact, outward = exact * active, np.where(active > 0, outward, 0.0)
    # A reduction rounded towards zero can exceed the largest trade or the turnover by a lot.
    inward = np.maximum(np.minimum(np.trunc(exact), buy_most), -sell_most)
    outward = np.where((outward > buy_most) | (outward < -sell_most), inward, outward)
    increase = np.abs(before + outward * lot) > np.abs(before)
    inward = np.where(increase, outward, inward)
    turnover_max = limit_bounds.limits.turnover_max
    minimum, minimum_kind = limit_bounds.trade_min.notional, limit_bounds.trade_min.kind
    smallest = np.zeros(len(index))
    if minimum:
        smallest = minimum / (lot * limit_bounds.market.price[index])
    demanded = np.zeros(len(index))
    if needed is not None and (turnover_max is not None or (np.abs(outward) < smallest).any()):
        demanded = whole_needed(needed(), before * unit_weight, lot_weight, slack)
        demanded = np.maximum(np.minimum(demanded, buy_most), -sell_most)
    if turnover_max is not None and (
        np.abs(outward) @ lot_weight > turnover_max or (np.abs(demanded) > np.abs(outward)).any()
    ):
        whole = np.rint(exact)
        down = np.where(_near(exact, whole, slack) & ~increase, whole, inward)
        down = inward if np.abs(down) @ lot_weight > turnover_max else down
        outward = inward = within_turnover(down, outward, demanded, lot_weight, turnover_max)
        increase = np.abs(before + outward * lot) > np.abs(before)
    order_min = least_order(index, limit_bounds)
    if order_min is not None:
        # As far as whole lots go: the part of a lot that is left can't be sold alone either.
        after = np.abs(before + outward * lot)
        closes = (after < (1.0 - NEAR_LOT) * lot) & (after < np.abs(before))
        unsent = (np.abs(outward) < order_min) & ~closes & (outward != 0.0)
        outward, inward = np.where(unsent, 0.0, outward), np.where(unsent, 0.0, inward)
        increase = increase & ~unsent
    dropped = too_small = np.zeros(len(index), dtype=bool)
    if minimum:
        dropped = increase & (np.abs(outward) < smallest)
        if needed is not None and not reducing and limit_bounds.free >= 0.0:
            # Made smaller by limits that come after the minimum, and asked for by none.
            closes = np.abs(before + outward * lot) < (1.0 - NEAR_LOT) * lot
            too_small = (np.abs(outward) < smallest) & (outward != 0.0) & (demanded == 0.0)
            too_small &= ~increase & ~closes
            outward, inward = np.where(too_small, 0.0, outward), np.where(too_small, 0.0, inward)
    rejected: tuple[Violation, ...] = ()

    def made(lots: Integers, *, scaled_back: bool = False) -> Lots:
        limit = np.zeros(len(lots), dtype=np.int64)
        limit[np.abs(outward) >= LOTS_MAX] = LimitKind.LOT_SIZE
        if order_min is not None:
            limit[unsent] = LimitKind.ORDER_MIN
        limit[too_small] = minimum_kind
        less = lots != outward
        if less.any():
            kind = rejected[0].kind if rejected else LimitKind.NONE
            limit[less] = np.where(dropped[less], minimum_kind, kind)
        return Lots(lots, before + lots * lot, limit, rejected, scaled_back)

    def violations(
        lots: Integers,
        reached: Reached = NOTHING_REACHED,
        rules: BookGuard | None = book,
    ) -> list[Violation]:
        proposal = Proposal(index, lots)
        found = guard.violations(proposal, reducing=reducing, stopless=stopless, reached=reached)
        return found if rules is None else [*found, *rules.violations(proposal)]

    # What is left of an order once lots were taken back closes nothing: the exchange takes no less.
    order = np.zeros(len(index)) if order_min is None else order_min
    least = np.where(increase, np.maximum(smallest, order), order)
    repair = Repair(index, limit_bounds, guard, book, violations, least)
    reached = guard.reached(index, exact * lot * limit_bounds.market.price[index])
    inner = None if book is None else book.reached(index, exact * lot_weight)
    if reached or inner is not None:
        rules = inner or book
        strict = replace(repair, book=rules, find=lambda lots: violations(lots, reached, rules))
        first = np.where(dropped, 0.0, outward).astype(np.int64)
        rejected = tuple(strict.find(first))
        if (inside := strict.repaired(first)) is not None:
            return made(inside)
        if ends is not None:
            low, high = window(exact, first, lot_weight, before * unit_weight, ends())
            low, high = np.maximum(low, -sell_most), np.minimum(high, buy_most)
            tradable = active.astype(bool) & (np.abs(first) >= least)
            low = np.where(tradable, np.where(first > 0, np.maximum(low, least), low), first)
            high = np.where(tradable, np.where(first < 0, np.minimum(high, -least), high), first)
            nearest = np.minimum(low, first), np.maximum(high, first)
            if (inside := nearest_inside(strict, first, exact, nearest)) is not None:
                return made(inside)
        rejected = ()
    for trade, scaled in ((outward, increase), (inward, np.ones_like(increase))):
        for part in PARTS:
            kept = trade if part == 1.0 else np.where(scaled, np.trunc(part * trade), trade)
            if minimum:
                kept = np.where(increase & (np.abs(kept) < smallest), 0.0, kept)
            if order_min is not None and part < 1.0:
                kept = np.where(scaled & (np.abs(kept) < order_min), 0.0, kept)
            lots = kept.astype(np.int64)
            found = violations(lots)
            if not found:
                return made(lots, scaled_back=bool(rejected))
            rejected = rejected or tuple(found)
            if part == 1.0 and (repaired := repair.repaired(lots)) is not None:
                return made(repaired)
    return made(np.zeros(len(index), dtype=np.int64), scaled_back=True)


def least_order(index: Integers, limit_bounds: LimitBounds) -> Floats | None:
    """The smallest orders in lots, (n,); None where the market states none."""
    own = limit_bounds.market.contracts
    if own is None or not (own.quantity_min.any() or own.notional_min.any()):
        return None
    lot, size = limit_bounds.market.lot_size[index], own.size[index]
    by_value = np.where(
        own.notional_min[index] > 0.0, np.inf, 0.0
    )  # at a price of 0 nothing is worth it
    np.divide(own.notional_min[index] / lot, size, out=by_value, where=size > 0.0)
    least: Floats = np.maximum(own.quantity_min[index] / lot, by_value) * (1.0 - NEAR_LOT)
    return least


def _unsnapped(weight: Floats, index: Integers, limit_bounds: LimitBounds) -> Floats:
    """`weight` without what the grid of the waterfall moved it from the position, or over a bound.

    Keeping a position must not trade, and with lots worth less than a step of the grid a bound
    would be exceeded by several.
    """
    step = 1.0 / GRID
    most, least = limit_bounds.most[index], limit_bounds.least[index]
    weight = np.where((weight > most) & (weight - most <= step), most, weight)
    weight = np.where((weight < least) & (least - weight <= step), least, weight)
    before = limit_bounds.before[index]
    return np.where(np.abs(weight - before) <= step, before, weight)


def _within(values: Floats, most: float) -> Floats:
    """`values` cut to [-most, most]; faster than `np.clip` on short columns."""
    cut: Floats = np.minimum(np.maximum(values, -most), most)
    return cut


def counted(quantity: Floats, lot: Floats) -> Integers:
    """Whole lots in `quantity` units, (n,), signed; a part of a lot is not counted."""
    exact = quantity / lot
    nearest = np.rint(exact)
    lots: Integers = np.where(_near(exact, nearest), nearest, np.trunc(exact)).astype(np.int64)
    return lots


def _near(
    exact: Floats, nearest: Floats, slack: Floats | float = 0.0
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Whether an amount of lots is a whole one but for rounding and for `slack` lots."""
    rounding = NEAR_LOT * np.minimum(np.maximum(np.abs(exact), 1.0), NEAR_SIZE_MAX)
    return np.abs(exact - nearest) <= np.maximum(rounding, slack)


def _towards_zero(
    exact: Floats, wanted: Floats, before: Floats, lot: Floats, slack: Floats
) -> Floats:
    """Whole lots to trade so that the position ends at `wanted` or nearer to zero, same side.

    exact: the lots from `before` to `wanted`, with their fraction. Where an odd lot makes that
    impossible, the position stays short of `wanted` on its old side.
    """
    nearest = np.rint(exact)
    near = _near(exact, nearest, slack)
    long = (wanted > 0) | ((wanted == 0) & (before > 0))
    rounded = np.where(near, nearest, np.where(long, np.floor(exact), np.ceil(exact)))
    after = before + rounded * lot
    crossed = np.where(long, after < 0, after > 0) & ~near
    if not crossed.any():
        return rounded + 0.0
    closer = rounded + np.where(long, 1.0, -1.0)
    beyond = np.abs(before + closer * lot) > np.abs(wanted)
    back = np.where(beyond & (wanted * before < 0), np.trunc(exact), closer)
    return np.where(crossed, back, rounded) + 0.0
