"""What a unit of each instrument earned between two markets, and that over its exposure.

With exposure e, rate x, multiplier k, price p and its points P (p, or -1/p of inverse futures):

    kind                    gain of a unit, base currency
    CASH                    x' k p' - x k p       the currency's move counts on all of it
    FUTURE, INVERSE_FUTURE  x' k (P(p') - P(p))   nothing was paid: it counts on the gain alone

' is the later market. An option is CASH: it gains what its own price does, whatever its delta said.
As equity counts positions (`contracts.py`), so that w'r is what a book of weights w earned, with
r = gain / e.
"""

import numpy as np

from compute.market import Floats, Integers, Market
from compute.money.contracts import ContractKind, points


def gains(before: Market, after: Market, first: Integers, last: Integers) -> Floats:
    """Base currency that a unit gained, (n,), of instruments at `first` before, `last` after.

    What it was before says how it gains.
    """
    old_quote, old_factor, kind = _quoted(before, first)
    quote, factor, _ = _quoted(after, last)
    paid = factor * quote - old_factor * old_quote
    settled = factor * (points(kind, quote) - points(kind, old_quote))
    return np.where(kind == ContractKind.CASH, paid, settled)


def returns(before: Market, after: Market, first: Integers, last: Integers) -> Floats:
    """The same as fractions of the exposure before, (n,)."""
    return gains(before, after, first, last) / before.price[first]


def _quoted(market: Market, places: Integers) -> tuple[Floats, Floats, Integers]:
    """Prices as quoted, base currency for a point, and kinds, (n,) each."""
    own = market.contracts
    if own is None:
        ones = np.ones(len(places))
        return market.price[places], ones, ones.astype(np.int64) * ContractKind.CASH
    return own.quote[places], own.factor[places], own.kind[places]
