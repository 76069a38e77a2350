"""What it cost to get from decisions to positions: implementation shortfall.

    paper - real = execution sum n (fill - decision) + opportunity sum m (close - decision) + fees

n the units filled, m those that were decided and not filled, signed (Perold 1988), differences of
prices as the money that a unit gains by them. The three add up exactly to what the decided trades
would have earned at the decision's price less what was earned.
"""

from dataclasses import dataclass

import numpy as np

from compute.market import Floats


@dataclass(frozen=True)
class Shortfall:
    """Money lost on the way, in the base currency; negative amounts are gains.

    notional: decided trades at the decision's price, absolute; rate: total over it, None for none.
    """

    execution: float
    opportunity: float
    fees: float
    notional: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.execution + self.opportunity + self.fees

    @property
    def rate(self) -> float | None:
        """As a fraction of the notional decided."""
        return self.total / self.notional if self.notional > 0.0 else None


def shortfall(
    decided: Floats, exposure: Floats, filled: Floats, dearer: Floats, moved: Floats, fees: float
) -> Shortfall:
    """The shortfall of trades, (n,) each, units signed, money in the base currency.

    exposure: of a unit at the decision. dearer: what the fills cost beyond the decision's price, 0
    where nothing was filled. moved: what a unit gained from the decision to the close
    (`period_return.gains`), whatever kind of contract it is.
    """
    notional = float(np.abs(decided) @ exposure)
    return Shortfall(float(dearer.sum()), float((decided - filled) @ moved), fees, notional)
