"""Whole lots that keep the limits on sums, found by taking back single lots where it costs least.

A weight inside a limit rounds to lots that may be beyond it: a hedge rounded towards zero raises
the risk of a book, a sale rounded down leaves too much net. Each step looks at the worst of what
the guards find, and takes back lots of the line that mends it with the least loss of weight. Trades
only get smaller, so that it ends; where nothing helps, the caller takes back all trades alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from compute.limits.book_guard import BookGuard
from compute.limits.bounds import LimitBounds
from compute.limits.guard import Guard, Proposal, Violation
from compute.limits.policy import LimitKind
from compute.market import DUST, Floats, Integers, group_members

STEPS_MAX = 300

_UP = {LimitKind.NET_MAX, LimitKind.GROUP_NET_MAX}
_DOWN = {LimitKind.NET_MIN, LimitKind.GROUP_NET_MIN}
_GROSS = {LimitKind.LEVERAGE_MAX, LimitKind.GROSS_NOTIONAL_MAX, LimitKind.GROUP_GROSS_MAX}
_GROSS |= {LimitKind.SHARED_GROSS_NOTIONAL_MAX}


@dataclass(frozen=True)
class Repair:
    """Takes back lots of a batch: its instruments, what guards it, and the least trade allowed.

    smallest: (n,) lots of a trade below which it is dropped once any were taken back, 0 where there
    is no such rule.
    """

    index: Integers
    limit_bounds: LimitBounds
    guard: Guard
    book: BookGuard | None
    find: Callable[[Integers], Sequence[Violation]]
    smallest: Floats

    def repaired(self, lots: Integers) -> Integers | None:
        """Smaller trades that break no limit; None where single lots don't lead there."""
        lots = lots.copy()
        for _ in range(STEPS_MAX):
            found = self.find(lots)
            if not found:
                return lots
            step = self._step(lots, found[0])
            if step is None:
                return None
            line, count = step
            lots[line] -= np.sign(lots[line]) * count
            if abs(lots[line]) < self.smallest[line]:
                lots[line] = 0
        return None

    def _step(self, lots: Integers, broken: Violation) -> tuple[int, int] | None:
        """The line and the number of its lots to take back."""
        if broken.kind is LimitKind.POSITIONS_MAX:
            return self._smallest_opening(lots)
        told = self.slope(lots, broken)
        if told is None:
            return None
        slope, excess = told
        lot_weight = (self.limit_bounds.unit_weight * self.limit_bounds.market.lot_size)[self.index]
        gain = slope * np.sign(lots) * lot_weight  # of one lot taken back
        usable = np.flatnonzero(gain > 0.0)
        if len(usable) == 0:
            return None
        gain, weight, excess = gain[usable], lot_weight[usable], max(excess, 1e-300)
        needed = np.minimum(np.maximum(np.ceil(excess / gain), 1.0), np.abs(lots[usable]))
        # A step back too far is a step to take again on another line: rather one lot less.
        needed = np.where((needed > 1.0) & (needed * gain > 1.5 * excess), needed - 1.0, needed)
        loss = needed * weight / np.minimum(needed * gain, excess)
        best = int(np.argmin(loss))
        return int(usable[best]), int(needed[best])

    def _smallest_opening(self, lots: Integers) -> tuple[int, int] | None:
        """All lots of the smallest position that is new, in some outcome of what is reserved."""
        guard, index = self.guard, self.index
        trade = guard.lot_value[index] * lots
        start = np.stack([guard.pending_sell[index], -guard.pending_buy[index]])
        start = guard.before[index] + start
        dust = DUST * guard.lot_value[index]
        opens = (np.abs(start) <= dust) & (np.abs(start + trade) > dust)
        is_new = (lots != 0) & opens.any(axis=0)
        if not is_new.any():
            return None
        line = int(np.argmin(np.where(is_new, np.abs(trade), np.inf)))
        return line, int(abs(lots[line]))

    def slope(self, lots: Integers, broken: Violation) -> tuple[Floats, float] | None:
        """By how much the limit is exceeded, in weights, and its slope by each line's weight."""
        if self.book is not None:
            weights = self.book.after(Proposal(self.index, lots))
            for rule, ceiling in zip(self.book.rules, self.book.ceilings, strict=True):
                if rule.kind is broken.kind and rule.stated == broken.bound:
                    value, slope = rule.measure(weights)
                    if value > ceiling and (rule.name == broken.name):
                        return slope[self.index], value - ceiling
        excess = (broken.value - broken.bound) / self.limit_bounds.equity
        member = self._members(broken)
        trade = np.sign(lots).astype(np.float64)
        if broken.kind in _UP:
            return member, excess
        if broken.kind in _DOWN:
            return -member, excess
        before = self.guard.before[self.index]
        after = before + self.guard.lot_value[self.index] * lots
        if broken.kind in _GROSS:
            return member * np.sign(self._farthest(after)), excess
        if broken.kind is LimitKind.TURNOVER_MAX:
            return trade, excess
        if broken.kind is LimitKind.CASH:
            return np.where(np.abs(after) > np.abs(before), trade, 0.0), excess
        return None

    def _farthest(self, after: Floats) -> Floats:
        """Where positions are largest, whichever reserved trades fill."""
        high = after + self.guard.pending_sell[self.index]
        low = after - self.guard.pending_buy[self.index]
        farthest: Floats = np.where(np.abs(high) >= np.abs(low), high, low)
        return farthest

    def _members(self, broken: Violation) -> Floats:
        for group, _ in self.guard.groups:
            if group.name == broken.name:
                return group_members(self.limit_bounds.market, group)[self.index]
        return np.ones(len(self.index))
