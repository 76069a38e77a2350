"""From weights to whole lots that break no limit.

Positions are rounded towards zero (`rounded_lots.py`). Cash, net, group limits and those of the
whole book can be missed by a lot when a short position shrinks or a sale is rounded. Then single
lots are taken back where it costs least (`repair.py`), and where that leads nowhere the increases a
little all alike; the independent guards decide.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compute.limits.book_guard import BookGuard
from compute.limits.bounds import LimitBounds
from compute.limits.guard import NOTHING_REACHED, Guard, Proposal, Reached, Violation
from compute.limits.near_lots import nearest_inside, window
from compute.limits.policy import LimitKind
from compute.limits.repair import Repair
from compute.limits.rounded_lots import Rounded, rounded
from compute.market import LOTS_MAX, Floats, Integers

PARTS = (1.0, 0.9999, 0.999, 0.99, 0.9, 0.5, 0.0)
"""Parts that are tried, in order, until the guard agrees: first of the increases, in the end of
all trades."""

Ends = Callable[[], tuple[Floats, Floats]]


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
    ends: Ends | None = None,
    needed: Callable[[], Floats] | None = None,
) -> Lots:
    """The largest whole trades towards `weight` (n,) that break no limit.

    index: the lines' instruments in the market. Lines with `active` 0 are not traded. Trades that
    are smaller than the minimum are dropped, but for what closes a position or what `needed` gives:
    the part of each trade that brings the book inside a limit, (n,) weights, signed. That has
    turnover before other trades, too. `book`: of the limits of the whole book, None where there are
    none. `stopless`: lines that may not grow, (n,). `ends`: gives the least and the largest weight
    of each line, (n,) each, where rounding to the safe side breaks a limit that `weight` keeps;
    without it no trade is rounded the other way.
    """
    trades = rounded(weight, index, active, limit_bounds, needed, reducing=reducing)

    def violations(
        lots: Integers,
        reached: Reached = NOTHING_REACHED,
        rules: BookGuard | None = book,
    ) -> list[Violation]:
        proposal = Proposal(index, lots)
        found = guard.violations(proposal, reducing=reducing, stopless=stopless, reached=reached)
        return found if rules is None else [*found, *rules.violations(proposal)]

    repair = Repair(index, limit_bounds, guard, book, violations, trades.least)
    search = _Search(trades, limit_bounds.trade_min.kind, repair)
    reached = guard.reached(index, trades.exact * trades.lot * limit_bounds.market.price[index])
    inner = None if book is None else book.reached(index, trades.exact * trades.lot_weight)
    if reached or inner is not None:
        rules = inner or book
        strict = replace(repair, book=rules, find=lambda lots: violations(lots, reached, rules))
        if (inside := search.inside(strict, active > 0.0, ends)) is not None:
            return inside
    return search.largest()


@dataclass(frozen=True)
class _Search:
    """Looks for lots near the rounded trades. minimum: of `trades.smallest`."""

    trades: Rounded
    minimum: LimitKind
    repair: Repair

    def inside(self, strict: Repair, active: NDArray[np.bool_], ends: Ends | None) -> Lots | None:
        """Lots that end inside limits which the exact trades reach, by the guards of `strict`."""
        trades = self.trades
        first = np.where(trades.too_small, 0.0, trades.safe).astype(np.int64)
        rejected = tuple(strict.find(first))
        if (lots := strict.repaired(first)) is not None:
            return self._made(lots, rejected)
        if ends is None:
            return None
        weights = trades.before * strict.limit_bounds.unit_weight[strict.index]
        low, high = window(trades.exact, first, trades.lot_weight, weights, ends())
        low, high = np.maximum(low, -trades.sell_most), np.minimum(high, trades.buy_most)
        least = trades.least
        tradable = active & (np.abs(first) >= least)
        low = np.where(tradable, np.where(first > 0, np.maximum(low, least), low), first)
        high = np.where(tradable, np.where(first < 0, np.minimum(high, -least), high), first)
        nearest = np.minimum(low, first), np.maximum(high, first)
        found = nearest_inside(strict, first, trades.exact, nearest)
        return None if found is None else self._made(found, rejected)

    def largest(self) -> Lots:
        """The largest part of the trades that the guards let pass."""
        rejected: tuple[Violation, ...] = ()
        for lots, is_whole in self._parts():
            found = self.repair.find(lots)
            if not found:
                return self._made(lots, rejected, scaled_back=bool(rejected))
            rejected = rejected or tuple(found)
            if is_whole and (repaired := self.repair.repaired(lots)) is not None:
                return self._made(repaired, rejected)
        nothing = np.zeros(len(self.trades.exact), dtype=np.int64)
        return self._made(nothing, rejected, scaled_back=True)

    def _parts(self) -> Iterator[tuple[Integers, bool]]:
        """Smaller and smaller trades, and whether they are those that were rounded."""
        trades, increase = self.trades, self.trades.increase
        for trade, scaled in ((trades.safe, increase), (trades.down, np.ones_like(increase))):
            for part in PARTS:
                kept = trade if part == 1.0 else np.where(scaled, np.trunc(part * trade), trade)
                kept = np.where(increase & (np.abs(kept) < trades.smallest), 0.0, kept)
                if part < 1.0:
                    kept = np.where(scaled & (np.abs(kept) < trades.order_min), 0.0, kept)
                yield kept.astype(np.int64), part == 1.0

    def _made(
        self, lots: Integers, rejected: tuple[Violation, ...], *, scaled_back: bool = False
    ) -> Lots:
        trades = self.trades
        limit = np.where(np.abs(trades.safe) >= LOTS_MAX, LimitKind.LOT_SIZE, trades.limit)
        less = lots != trades.safe
        if less.any():
            kind = rejected[0].kind if rejected else LimitKind.NONE
            limit[less] = np.where(trades.too_small[less], self.minimum, kind)
        return Lots(lots, trades.before + lots * trades.lot, limit, rejected, scaled_back)
