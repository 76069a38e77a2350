"""What one unit loses at its stop, fees included.

Fees are paid on notional, entry and exit. Taking them off the risk money instead, as is often
done, understates them by orders of magnitude when the stop is near.
"""

import numpy as np

from compute.market import Floats


def loss_at_stop(entry: Floats, stop: Floats, fee_rate: Floats | float, side: Floats) -> Floats:
    """Return side (entry - stop) + c (entry + stop), in the money of the prices.

    ``fee_rate`` c is per side, a fraction of notional; ``side`` +1 or -1. NaN where the stop is on
    the wrong side of the entry, or on it: such a stop limits nothing.
    """
    with np.errstate(invalid="ignore"):  # no stop is no number, or an endless one
        distance = side * (entry - stop)
        lost: Floats = np.where(distance > 0.0, distance + fee_rate * (entry + stop), np.nan)
    return lost
