"""What a book is still beyond once a decision is filled: limits that one decision can't reach.

A book that is beyond a limit moves towards it as far as turnover, liquidity, lots and what may be
traded allow; what is left is said in the answer. Of capital too, which no decision is made to sell
for: below its buffer a book takes on nothing that binds more, and says so until it is above.
"""

import numpy as np

from compute.inputs import Inputs
from compute.limits.breaches import ROUNDING, Breach, breaches
from compute.limits.guard import Guard, Proposal
from compute.limits.policy import LimitKind
from compute.market import Integers, filled


def exceeded(inputs: Inputs, trade_lots: Integers) -> list[Breach]:
    """The limits beyond which the book is with everything filled; empty in the usual case.

    They are those of `breaches`, and the limits of the whole book. A decision never leads beyond
    one, but for fees that are more than the margin which a sale frees.
    """
    bounds, index, book = inputs.limit_bounds, inputs.index, inputs.book_guard
    guard, market = bounds.guard, bounds.market
    cash = _cash(guard, Proposal(index, trade_lots))
    before = [] if book is None else book.beyond(book.before)
    if not (before or bounds.is_closing or bounds.breaches):
        return cash
    held = filled(market, guard.positions, index, market.lot_size[index] * trade_lots)
    after = Guard(market, held, bounds.stated, guard.shared)
    found = [breach for breach in breaches(after) if breach.kind is not LimitKind.CASH] + cash
    if book is not None:
        beyond = book.beyond_filled(book.after(Proposal(index, trade_lots)))
        found += [Breach(item.kind, item.name, item.bound, item.value) for item in beyond]
    return found


def is_beyond(inputs: Inputs) -> bool:
    """Whether the book held and reserved is beyond a limit already, filled or at its worst."""
    book = inputs.book_guard
    if inputs.limit_bounds.breaches or (book is not None and book.beyond(book.before)):
        return True
    return bool(exceeded(inputs, np.zeros(len(inputs.index), dtype=np.int64)))


def _cash(guard: Guard, proposal: Proposal) -> list[Breach]:
    """Equity less margin and fees, all that is reserved filled, against the buffer."""
    index, funding = proposal.index, guard.funding
    trade = guard.lot_value[index] * proposal.trade_lots
    after = guard.before.copy()
    after[index] += trade
    margin = float(funding.margin(after).sum())
    reserved = float(funding.fee @ (guard.pending_buy + guard.pending_sell))
    free = guard.equity - margin - reserved - funding.fees(index, trade)
    bound = (guard.limits.cash_buffer or 0.0) * guard.equity
    if free >= bound - ROUNDING * max(abs(bound), abs(guard.equity), margin):
        return []
    return [Breach(LimitKind.CASH, "portfolio", bound, free)]
