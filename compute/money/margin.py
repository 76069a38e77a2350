"""Money as brokers count it: what positions and open trades bind, and what is free.

A position q binds margin M(q) = rate_long q+ + rate_short q-, on its notional: rates of 1 are cash
accounts, where a purchase is paid in full and a short sale binds as much again as its proceeds.

    free = equity - M(held) - what open reservations bind - buffer

is the same before and after a fill, because a trade at the market moves no equity but its fee.
While some trades are open an instrument may end anywhere between `low`, all sales filled, and
`high`, all purchases filled. It binds the margin of the worse end, as M is convex:

    worst(low, high) = max(rate_long high+, rate_short low-)

A decision needs what that grows by, and its fees. Functions are generic over NumPy and JAX, in
money or in weights alike.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from compute.limits.policy import Limits, SaleProceeds
from compute.market import Floats, Integers, Market, Positions


@dataclass(frozen=True)
class Terms:
    """What an instrument's positions and trades cost, (m,) each.

    rate_long, rate_short: margin, fee: proportional, as fractions of exposure. fee_fixed, fee_min:
    of one order, base currency.
    """

    rate_long: Floats
    rate_short: Floats
    fee: Floats
    fee_fixed: Floats
    fee_min: Floats

    def order_fees(self, index: Integers, notional: Floats) -> Floats:
        """What the fees of orders of this absolute notional are more than proportional, (n,)."""
        more = np.maximum(self.fee_min[index] - self.fee[index] * notional, 0.0)
        fees: Floats = np.where(notional > 0.0, self.fee_fixed[index] + more, 0.0)
        return fees

    def order_fees_max(self, index: Integers) -> float:
        """The most that is, for an order in each of the instruments."""
        return float((self.fee_fixed[index] + self.fee_min[index]).sum())


def terms_of(market: Market, limits: Limits) -> Terms:
    """The larger of what market and limits say; full value and no fee where neither does."""
    ones, zeros, own = np.ones(len(market.price)), np.zeros(len(market.price)), market.contracts
    short = 1.0 if limits.short_margin_rate is None else limits.short_margin_rate
    fee = limits.fee_rate or 0.0
    if own is None:
        return Terms(ones, short * ones, fee * ones, zeros, zeros)
    stated_short = own.margin_short
    full_short = short * np.maximum(own.size, own.exposure)
    if short > 1.0:
        stated_short = np.maximum(stated_short, full_short)
    return Terms(
        rate_long=np.where(np.isnan(own.margin_long), own.size, own.margin_long) / own.exposure,
        rate_short=np.where(np.isnan(own.margin_short), full_short, stated_short) / own.exposure,
        fee=(np.fmax(own.fee_rate, fee) * own.size + own.fee_per_unit) / own.exposure,
        fee_fixed=own.fee_fixed,
        fee_min=own.fee_min,
    )


def worst(low: Any, high: Any, rate_long: Any, rate_short: Any, xp: Any = np) -> Any:
    """Margin of positions that may turn out to be anything from `low` to `high`."""
    return xp.maximum(rate_long * xp.maximum(high, 0.0), rate_short * xp.maximum(-low, 0.0))


def need(
    trade: Any,
    low: Any,
    high: Any,
    rate_long: Any,
    rate_short: Any,
    fee: Any,
    at_once: Any,
    xp: Any = np,
) -> Any:
    """What each trade takes of the free capital, fees included; convex in `trade`.

    With `at_once` a sale gives back at once what it will free, so this may be negative; else it
    gives back nothing before it is filled, and this is >= 0.
    """
    bought = xp.where(at_once, trade, xp.maximum(trade, 0.0))
    sold = xp.where(at_once, trade, xp.minimum(trade, 0.0))
    grown = worst(low + sold, high + bought, rate_long, rate_short, xp)
    return grown - worst(low, high, rate_long, rate_short, xp) + fee * xp.abs(trade)


def uses_proceeds(limits: Limits) -> bool:
    """Whether the sales of a decision pay for its purchases."""
    return limits.sale_proceeds is SaleProceeds.AT_ONCE


@dataclass(frozen=True)
class Capital:
    """What a book binds and has left, base currency.

    used: by what is held. reserved: what open reservations may take more, fees included, at today's
    prices and whichever of them fill; less than the sum of what each was given where one closes
    what another opens. free: before the buffer; negative in a margin deficit.
    """

    used: float
    reserved: float
    free: float


def capital(market: Market, positions: Positions, terms: Terms) -> Capital:
    """The capital of a book."""
    value, held = market.value * positions.held, market.price * positions.held
    low = market.price * (positions.held - positions.open_sell)
    high = market.price * (positions.held + positions.open_buy)
    margin = worst(held, held, terms.rate_long, terms.rate_short)
    open_fee = terms.fee * market.price * (positions.open_buy + positions.open_sell)
    pending = worst(low, high, terms.rate_long, terms.rate_short) - margin + open_fee
    reserved = float(pending.sum())
    # Line by line, so that what is paid in full cancels without a rounding error.
    free = positions.cash + positions.gains + float((value - margin).sum()) - reserved
    return Capital(float(margin.sum()), reserved, free)
