"""What a book is still beyond once a decision is filled: limits that one decision can't reach.

A book that is beyond a limit moves towards it as far as turnover, liquidity, lots and what may be
traded allow; what is left is said in the answer.
"""

from compute.inputs import Inputs
from compute.limits.breaches import Breach, breaches
from compute.limits.guard import Guard, Proposal
from compute.limits.policy import LimitKind
from compute.market import Integers, filled


def exceeded(inputs: Inputs, trade_lots: Integers) -> list[Breach]:
    """The limits beyond which the book is with everything filled; empty in the usual case.

    A decision never leads beyond a limit, so that a book inside all of them stays there.
    """
    guard, book = inputs.limit_bounds.guard, inputs.book_guard
    before = [] if book is None else book.beyond(book.before)
    if not before and not breaches(guard):
        return []
    market, index = guard.market, inputs.index
    held = filled(market, guard.positions, index, market.lot_size[index] * trade_lots)
    after = Guard(market, held, guard.limits, guard.shared)
    found = [breach for breach in breaches(after) if breach.kind is not LimitKind.CASH]
    if book is not None:
        beyond = book.beyond(book.after(Proposal(index, trade_lots)))
        found += [Breach(item.kind, item.name, item.bound, item.value) for item in beyond]
    return found
