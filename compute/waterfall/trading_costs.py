"""What it costs to trade each line, now and for each period that it is held.

    one trade    t = cost + spread / 2 + fee                                  of the notional traded
    a period     c = 2 t / H                                opened and closed once in H periods
    impact       k |f - f0|^(3/2),  k = (2 / H) Y s sqrt(W / V)

H is the holding time of the signal; without one c = t, a trade each period. cost is the signal's
own rate or that of the parameters; spread and fee (proportional, and by unit) are those of the
market snapshot. Of the impact, Y is the coefficient of the square-root law (about 0.7), s the
volatility of a day, V the value traded in one, W equity: a trade of the weight f - f0 moves the
price by Y s sqrt(|f - f0| W / V). Toth et al. 2011 (Phys. Rev. X 1, 021006); Almgren et al. 2005.
"""

from dataclasses import dataclass

import numpy as np

from compute.inputs import Inputs
from compute.market import Floats, Integers, Market, MissingInputError

DAYS_PER_YEAR = 252
"""Of trading: turns annual volatilities into those of a day, which volumes are of."""

ONE_TRADE = 2.0
"""Periods that a line without a holding time is taken for: half of two trades in each."""


@dataclass(frozen=True)
class TradingCosts:
    """Of n lines, (n,) each, as fractions of the notional: see above for t, c and k."""

    one_trade: Floats
    per_period: Floats
    impact: Floats


def trading_costs(inputs: Inputs) -> TradingCosts:
    """The costs of the lines of a batch.

    Raises `MissingInputError` where there is an impact coefficient and the market has no volumes.
    """
    signals, limit_bounds, index = inputs.signals, inputs.limit_bounds, inputs.index
    given = signals.cost_rate
    own = np.full(len(index), inputs.parameters.cost_rate) if given is None else given
    t = (
        np.where(inputs.active, own, 0.0)
        + market_costs(limit_bounds.market, inputs.fees_count)[index]
    )
    rate = ONE_TRADE / holding_periods(inputs)
    return TradingCosts(t, t * rate, rate * _impact(inputs, index))


def holding_periods(inputs: Inputs) -> Floats:
    """H of each line, (n,)."""
    given = inputs.signals.holding_periods
    if given is None:
        return np.full(len(inputs.index), ONE_TRADE)
    usable = inputs.active & (given > 0.0)
    return np.where(usable, given, ONE_TRADE)


def market_costs(market: Market, fees_count: bool = True) -> Floats:
    """Half the spread and the fee of each instrument, (m,), as fractions of exposure."""
    out = market.half_spread
    if market.contracts is None or not fees_count:
        return out
    stated = market.contracts
    fee = np.nan_to_num(stated.fee_rate) * stated.size + stated.fee_per_unit
    total: Floats = out + fee / stated.exposure
    return total


def _impact(inputs: Inputs, index: Integers) -> Floats:
    """Y s sqrt(W / V) of each line, (n,); 0 without a coefficient."""
    market, coefficient = inputs.limit_bounds.market, inputs.parameters.impact_coefficient
    if not coefficient:
        return np.zeros(len(index))
    for name in ("volatility", "average_daily_volume"):
        if getattr(market, name) is None:
            raise MissingInputError(
                f"MISSING_{name.upper()}",
                f"the parameter impact_coefficient needs the column {name} in the market snapshot",
            )
    assert market.volatility is not None, "seen above"
    assert market.average_daily_volume is not None, "seen above"
    daily = market.volatility[index] / np.sqrt(DAYS_PER_YEAR)
    volume = market.price[index] * market.average_daily_volume[index]
    traded = np.where(volume > 0.0, volume, np.inf)  # lines without any are refused before
    out: Floats = coefficient * daily * np.sqrt(inputs.limit_bounds.scale / traded)
    return out
