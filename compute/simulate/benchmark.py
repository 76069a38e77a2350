"""What was to be had without deciding anything: bought at the first close and held.

    W_t = W_0 sum_i s_i prod(1 + r_i)      s_i equal shares of the instruments with a price then

Dividends go into what paid them, nothing costs anything, and what a delisting pays stays cash. One
instrument alone is the same with its share 1.
"""

import numpy as np

from compute.market import Floats
from compute.simulate.history import PriceHistory


def buy_and_hold(history: PriceHistory, instrument_id: str | None = None) -> Floats:
    """Wealth at each close, 1 at the first, (T,); without a name of all instruments alike.

    Raises `ValueError` where the instrument is not in the history, or has no close in its first
    session.
    """
    begins = ~np.isnan(history.close[0])
    if instrument_id is None:
        chosen = np.flatnonzero(begins)
    elif instrument_id not in history.instrument_ids:
        raise ValueError(f"{instrument_id!r} is not in the history")
    else:
        chosen = np.array([history.instrument_ids.index(instrument_id)])
        if not begins[chosen[0]]:
            raise ValueError(f"{instrument_id!r} has no close in the first session")
    if not len(chosen):
        raise ValueError("no instrument has a close in the first session")
    grown: Floats = np.cumprod(1.0 + history.total_return[:, chosen], axis=0).mean(axis=1)
    return grown
