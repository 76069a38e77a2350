"""Trades in whole lots as limits on lines leave them, before the guards have seen them.

A position is rounded towards zero, so that limits on sizes and gross exposure keep holding.
Quantities within a billionth of a whole lot are that lot: 0.1 x 3 is 3 tenths here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compute.limits.bounds import LimitBounds
from compute.limits.policy import LimitKind
from compute.limits.turnover_lots import whole_needed, within_turnover
from compute.market import LOTS_MAX, Floats, Integers
from compute.waterfall.stages import GRID

Mask = NDArray[np.bool_]

NEAR_LOT = 1e-9
"""In lots, relative to the size of the trade where that is larger than a lot."""

NEAR_BOUND = 5e-13
"""Relative: a bound this little below a whole number of lots is that number, to the guard too."""

NEAR_SIZE_MAX = 1e6
"""Of larger trades a lot less is no loss, while half a lot too much can break a limit."""


@dataclass(frozen=True)
class Rounded:
    """Trades of some lines, (n,) each, in lots of `lot` units worth `lot_weight`.

    before: units held and reserved. exact: the trades wanted, with their parts of lots. safe: whole
    lots that leave no position larger than wanted. down: rounded towards no trade instead, within
    turnover and the largest trade, but for trades that increase a position. buy_most, sell_most:
    the largest trades, >= 0. needed: whole lots that limits ask for, signed. smallest, order_min:
    the least trades, of the limits and of the venue, 0 where there is none. limit: the `LimitKind`
    of a least trade for which the trade is not made.
    """

    lot: Floats
    lot_weight: Floats
    before: Floats
    exact: Floats
    safe: Floats
    down: Floats
    buy_most: Floats
    sell_most: Floats
    needed: Floats
    smallest: Floats
    order_min: Floats
    limit: Integers

    @property
    def increase(self) -> Mask:
        """Which lines end with a larger position than before."""
        return np.abs(self.before + self.safe * self.lot) > np.abs(self.before)

    @property
    def least(self) -> Floats:
        """The least trade of each line, (n,), once lots were taken back.

        What is left of an order then closes nothing: the venue takes no less.
        """
        both = np.maximum(self.smallest, self.order_min)
        return np.where(self.increase, both, self.order_min)

    @property
    def too_small(self) -> Mask:
        """The increases below the least trade of the limits."""
        return self.increase & (np.abs(self.safe) < self.smallest)

    def without(self, lines: Mask, kind: LimitKind) -> "Rounded":
        """No trade of these lines, for that limit."""
        if not lines.any():
            return self
        safe, down = np.where(lines, 0.0, self.safe), np.where(lines, 0.0, self.down)
        return replace(self, safe=safe, down=down, limit=np.where(lines, kind, self.limit))


def rounded(
    weight: Floats,
    index: Integers,
    active: Floats,
    limit_bounds: LimitBounds,
    needed: Callable[[], Floats] | None,
    *,
    reducing: bool,
) -> Rounded:
    """Whole trades towards `weight`; the arguments are those of `lots.whole_lots`."""
    found = _rounded(weight, index, active, limit_bounds)
    turnover_max = limit_bounds.limits.turnover_max
    if needed is not None and (
        turnover_max is not None or (np.abs(found.safe) < found.smallest).any()
    ):
        slack = _grid_slack(found.lot_weight)
        weights = found.before * limit_bounds.unit_weight[index]
        asked = whole_needed(needed(), weights, found.lot_weight, slack)
        asked = np.maximum(np.minimum(asked, found.buy_most), -found.sell_most)
        found = replace(found, needed=asked)
    if turnover_max is not None:
        found = _turned(found, turnover_max)
    if found.order_min.any():
        # As far as whole lots go: the part of a lot that is left can't be sold alone either.
        small = (np.abs(found.safe) < found.order_min) & (found.safe != 0.0)
        found = found.without(small & ~_closes(found), LimitKind.ORDER_MIN)
    if found.smallest.any() and needed is not None and not reducing and limit_bounds.free >= 0.0:
        # Made smaller by limits that come after the minimum, and asked for by none.
        small = (np.abs(found.safe) < found.smallest) & (found.safe != 0.0)
        small &= ~found.increase & ~_closes(found) & (found.needed == 0.0)
        found = found.without(small, limit_bounds.trade_min.kind)
    return found


def _rounded(weight: Floats, index: Integers, active: Floats, limit_bounds: LimitBounds) -> Rounded:
    """Within the largest trades, whatever turnover and the least ones."""
    market, unit_weight = limit_bounds.market, limit_bounds.unit_weight[index]
    lot, before = market.lot_size[index], limit_bounds.positions.expected[index]
    lot_weight = lot * unit_weight
    wanted = _unsnapped(weight, index, limit_bounds) / unit_weight
    buy_most, sell_most = (
        np.floor(most[index] / lot_weight * (1.0 + NEAR_BOUND))
        for most in (limit_bounds.buy_max, limit_bounds.sell_max)
    )
    exact = _within((wanted - before) / lot, LOTS_MAX)
    safe = _towards_zero(exact, wanted, before, lot, _grid_slack(lot_weight))
    if not active.all():
        exact, safe = exact * active, np.where(active > 0, safe, 0.0)
    # A reduction rounded towards zero can exceed the largest trade by a lot.
    down = np.maximum(np.minimum(np.trunc(exact), buy_most), -sell_most)
    safe = np.where((safe > buy_most) | (safe < -sell_most), down, safe)
    increase = np.abs(before + safe * lot) > np.abs(before)
    minimum, zero = limit_bounds.trade_min.notional, np.zeros(len(index))
    order_min = least_order(index, limit_bounds)
    return Rounded(
        lot=lot,
        lot_weight=lot_weight,
        before=before,
        exact=exact,
        safe=safe,
        down=np.where(increase, safe, down),
        buy_most=buy_most,
        sell_most=sell_most,
        needed=zero,
        smallest=minimum / (lot * market.price[index]) if minimum else zero,
        order_min=zero if order_min is None else order_min,
        limit=np.zeros(len(index), dtype=np.int64),
    )


def _turned(found: Rounded, turnover_max: float) -> Rounded:
    """Within turnover, and as near to what limits ask for as it leads."""
    size = np.abs(found.safe)
    if size @ found.lot_weight <= turnover_max and not (np.abs(found.needed) > size).any():
        return found
    whole = np.rint(found.exact)
    near = _near(found.exact, whole, _grid_slack(found.lot_weight)) & ~found.increase
    down = np.where(near, whole, found.down)
    down = found.down if np.abs(down) @ found.lot_weight > turnover_max else down
    lots = within_turnover(down, found.safe, found.needed, found.lot_weight, turnover_max)
    return replace(found, safe=lots, down=lots)


def _closes(found: Rounded) -> Mask:
    """Trades after which less than a lot is left."""
    after = np.abs(found.before + found.safe * found.lot)
    closes: Mask = (after < (1.0 - NEAR_LOT) * found.lot) & (after < np.abs(found.before))
    return closes


def _grid_slack(lot_weight: Floats) -> Floats:
    """Parts of lots that are the grid of the waterfall, (n,)."""
    slack: Floats = np.minimum(1.0 / GRID / lot_weight, NEAR_LOT * NEAR_SIZE_MAX)
    return slack


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
