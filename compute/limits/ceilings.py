"""The largest position and trade of each instrument in money, for the guard.

Read from the statement of the limits alone; nothing is shared with what sizes.
"""

import numpy as np

from compute.limits.policy import PARTICIPATION, Limits
from compute.limits.projection import NO_LIMIT
from compute.market import Floats, Market


def position_ceilings(market: Market, limits: Limits, equity: float) -> Floats:
    """Largest absolute notional of each instrument, base currency, (m,)."""
    ceiling = np.full(len(market.price), NO_LIMIT)
    if limits.weight_max is not None:
        ceiling = np.minimum(ceiling, limits.weight_max * equity)
    if limits.notional_max is not None:
        ceiling = np.minimum(ceiling, limits.notional_max)
    if limits.adv_position_max is not None and market.average_daily_volume is not None:
        volume = market.average_daily_volume * market.price
        ceiling = np.minimum(ceiling, limits.adv_position_max * volume)
    if limits.exit_days_max is not None and market.average_daily_volume is not None:
        a_day = (limits.participation_rate or PARTICIPATION) * market.average_daily_volume
        ceiling = np.minimum(ceiling, limits.exit_days_max * a_day * market.price)
    for name, own in limits.instruments.items():
        if (i := market.index.get(name)) is not None:
            units = (equity, 1.0, float(market.price[i]))
            bounds = (own.weight_max, own.notional_max, own.quantity_max)
            given = [b * unit for b, unit in zip(bounds, units, strict=True) if b is not None]
            ceiling[i] = min([ceiling[i], *given])
    for name in limits.restricted:
        if (i := market.index.get(name)) is not None:
            ceiling[i] = 0.0
    return ceiling


def trade_ceilings(market: Market, limits: Limits) -> Floats:
    """Largest absolute notional of one trade in each instrument, base currency, (m,)."""
    ceiling = np.full(len(market.price), NO_LIMIT)
    if limits.trade_notional_max is not None:
        ceiling = np.minimum(ceiling, limits.trade_notional_max)
    if market.contracts is not None:
        ceiling = np.minimum(ceiling, market.contracts.quantity_max * market.price)
    if limits.adv_trade_max is not None and market.average_daily_volume is not None:
        volume = market.average_daily_volume * market.price
        ceiling = np.minimum(ceiling, limits.adv_trade_max * volume)
    return ceiling
