"""What it cost to get from decisions to positions: implementation shortfall.

    paper - real = execution sum n (fill - decision) + opportunity sum m (close - decision) + fees

n the units filled, m those that were decided and not filled, signed (Perold 1988). The three add up
exactly to what the decided trades would have earned at the decision's price less what was earned.
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
    decided: Floats,
    decision_price: Floats,
    filled: Floats,
    fill_price: Floats,
    close_price: Floats,
    fees: float,
) -> Shortfall:
    """The shortfall of trades, (n,) each, units signed, prices in the base currency.

    fill_price: mean over the fills of a trade; not read where nothing was filled.
    """
    paid = np.where(filled != 0.0, fill_price - decision_price, 0.0)
    execution = float(filled @ paid)
    opportunity = float((decided - filled) @ (close_price - decision_price))
    notional = float(np.abs(decided) @ decision_price)
    return Shortfall(execution, opportunity, fees, notional)
