"""What a book is still beyond once a decision is filled: limits that one decision can't reach.

A book that is beyond a limit moves towards it as far as turnover, liquidity, lots and what may be
traded allow; what is left is said in the answer.
"""

from dataclasses import replace

import numpy as np

from compute.inputs import Inputs
from compute.limits.breaches import Breach, breaches
from compute.limits.guard import Guard, Proposal
from compute.limits.policy import LimitKind
from compute.market import Integers


def exceeded(inputs: Inputs, guard: Guard, trade_lots: Integers) -> list[Breach]:
    """The limits beyond which the book is with everything filled; empty in the usual case.

    guard: of the book before; a decision never leads beyond a limit, so that a book inside all of
    them stays there.
    """
    book = inputs.book_guard
    before = [] if book is None else book.beyond(book.before)
    if not before and not breaches(guard):
        return []
    market, index = guard.market, inputs.index
    held = guard.positions.expected.copy()
    held[index] += market.lot_size[index] * trade_lots
    # Rounding of quantities must not leave dust where a position is closed.
    held[np.abs(held) < 1e-9 * market.lot_size] = 0.0
    nothing = np.zeros_like(held)
    filled = replace(
        guard.positions,
        held=held,
        open_buy=nothing,
        open_sell=nothing,
        cash=guard.equity - float(market.price @ held),
        cash_reserved=0.0,
    )
    after = Guard(market, filled, guard.limits, guard.shared)
    found = [breach for breach in breaches(after) if breach.kind is not LimitKind.CASH]
    if book is not None:
        beyond = book.beyond(book.after(Proposal(index, trade_lots)))
        found += [Breach(item.kind, item.name, item.bound, item.value) for item in beyond]
    return found
