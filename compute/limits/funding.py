"""The guard's own look at margin: capital that a proposal needs against capital that is free.

It goes position by position in money, and shares nothing with `compute.money.margin` but the
statement: equity has to cover the margin of whatever the open trades can leave, and the fees.
"""

from dataclasses import dataclass

import numpy as np

from compute.limits.policy import Limits, SaleProceeds
from compute.market import Floats, Integers, Market, Positions


@dataclass(frozen=True)
class Funding:
    """What a book has free, base currency, and how its positions bind it, (m,) each.

    free: equity less margin and reservations, before the buffer.
    """

    rate_long: Floats
    rate_short: Floats
    fee: Floats
    lowest: Floats
    highest: Floats
    bound: Floats
    free: float
    order_fee: tuple[Floats, Floats]
    """Fixed fee and least fee of an order."""
    at_once: bool

    @classmethod
    def of(
        cls,
        market: Market,
        positions: Positions,
        limits: Limits,
        earlier: "Funding | None" = None,
    ) -> "Funding":
        """Raises nothing: what is missing counts as paid in full.

        earlier: of the same market and limits, whose rates are taken.
        """
        if earlier is None:
            rate_long, rate_short, fee = _rates(market, limits)
        else:
            rate_long, rate_short, fee = earlier.rate_long, earlier.rate_short, earlier.fee
        worth = market.value * positions.held
        held = market.price * positions.held
        lowest = held - market.price * positions.open_sell
        highest = held + market.price * positions.open_buy
        used = _margin(held, rate_long, rate_short)
        bound = np.maximum(
            _margin(lowest, rate_long, rate_short), _margin(highest, rate_long, rate_short)
        )
        open_fee = fee * market.price * (positions.open_buy + positions.open_sell)
        reserved = float((bound - used + open_fee).sum())
        return cls(
            rate_long=rate_long,
            rate_short=rate_short,
            fee=fee,
            lowest=lowest,
            highest=highest,
            bound=bound,
            free=positions.cash + positions.gains + float((worth - used).sum()) - reserved,
            order_fee=_order_fees(market),
            at_once=limits.sale_proceeds is SaleProceeds.AT_ONCE,
        )

    def needed(self, index: Integers, trade: Floats) -> float | None:
        """Capital that trades of these values need, fees included; None where none binds more.

        A sale that is not filled yet gives nothing back, unless the limits let purchases use it.
        """
        rates = self.rate_long[index], self.rate_short[index]
        long_end, short_end = self.highest[index] + trade, self.lowest[index] + trade
        with_trade = np.maximum(_margin(long_end, *rates), _margin(short_end, *rates))
        grown = with_trade - self.bound[index]
        if not self.at_once:
            without = np.maximum(
                _margin(np.maximum(long_end, self.highest[index]), *rates),
                _margin(np.minimum(short_end, self.lowest[index]), *rates),
            )
            grown = without - self.bound[index]
        size = self.bound[index] + np.abs(trade)
        if not (grown > 1e-12 * size).any():
            return None
        return float(grown.sum()) + self.fees(index, trade)

    def fees(self, index: Integers, trade: Floats) -> float:
        """What orders of these values cost."""
        fee, (fixed, least) = self.fee[index] * np.abs(trade), self.order_fee
        fee = np.where(trade != 0.0, np.maximum(fee, least[index]) + fixed[index], 0.0)
        return float(fee.sum())

    def margin(self, value: Floats) -> Floats:
        """Margin of positions of these values in every instrument, (m,)."""
        return _margin(value, self.rate_long, self.rate_short)


def _rates(market: Market, limits: Limits) -> tuple[Floats, Floats, Floats]:
    """Margin of a long and a short position and the fee, as fractions of exposure, (m,) each."""
    n, stated = len(market.price), market.contracts
    short = 1.0 if limits.short_margin_rate is None else limits.short_margin_rate
    fee = limits.fee_rate or 0.0
    if stated is None:
        return np.ones(n), np.full(n, short), np.full(n, fee)
    rows = []
    for i in range(n):
        size, exposure = float(stated.size[i]), float(stated.exposure[i])
        long_own, short_own = float(stated.margin_long[i]), float(stated.margin_short[i])
        long = size if np.isnan(long_own) else long_own
        least = max(size, exposure) * short
        if not np.isnan(short_own):
            least = max(short_own, least) if short > 1.0 else short_own
        own_fee = 0.0 if np.isnan(stated.fee_rate[i]) else float(stated.fee_rate[i])
        all_fees = max(own_fee, fee) * size + float(stated.fee_per_unit[i])
        rows.append((long / exposure, least / exposure, all_fees / exposure))
    columns = np.array(rows).reshape(n, 3).T
    return columns[0], columns[1], columns[2]


def _order_fees(market: Market) -> tuple[Floats, Floats]:
    stated, nothing = market.contracts, np.zeros(len(market.price))
    return (nothing, nothing) if stated is None else (stated.fee_fixed, stated.fee_min)


def _margin(value: Floats, rate_long: Floats, rate_short: Floats) -> Floats:
    """Margin of positions of `value`."""
    margin: Floats = np.where(value >= 0.0, rate_long * value, -rate_short * value)
    return margin
