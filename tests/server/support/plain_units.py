"""Instruments and positions in money, worked out from the messages of the contract."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

from tests.server.support.wide_books import CASH, FUTURE, INVERSE, RATES, Wide


@dataclass(frozen=True)
class Unit:
    """One instrument, base currency a unit. margins: of a unit long and short."""

    name: str
    sector: str
    exposure: float
    size: float
    value: float
    margin_long: float
    margin_short: float
    fee: float
    fee_fixed: float
    fee_min: float
    lot: float
    order_min: float
    order_max: float
    volume: float | None
    volatility: float | None
    stop: float
    is_halted: bool
    gains: float


@dataclass(frozen=True)
class Line:
    """A position in money: held, what is reserved, and what is traded now."""

    unit: Unit
    held: float
    buy: float
    sell: float
    trade: float
    lots: int

    @property
    def before(self) -> float:
        return self.held + self.buy - self.sell

    @property
    def after(self) -> float:
        return self.before + self.trade

    def ends(self, trade: float) -> list[float]:
        """Where it may end, each reserved side filled or not and the trade too."""
        return [
            self.held + b - s + t
            for b in (0.0, self.buy)
            for s in (0.0, self.sell)
            for t in (0.0, trade)
        ]

    def worst(self, value: float) -> float:
        return max(abs(value + self.sell), abs(value - self.buy))

    @property
    def size(self) -> float:
        return abs(self.held) + self.buy + self.sell + abs(self.trade)


def unit_of(case: Wide, i: int, short: float, fee_rate: float) -> Unit:
    """The i-th instrument. short, fee_rate: the rates that the limits say."""
    s = case.snapshot

    def column(name: str, default: Any) -> Any:
        values = getattr(s, name)
        return values[i] if len(values) else default

    rate = RATES[column("currency", case.base)] / RATES[case.base]
    price, kind = s.price[i], column("contract_kind", CASH) or CASH
    factor = rate * column("multiplier", 1.0)
    size = factor / price if kind == INVERSE else factor * abs(price)
    long_amount, short_amount = (
        rate * column(f"initial_margin_{side}", 0.0) for side in ("long", "short")
    )
    long_margin = long_amount or column("margin_rate_long", 1.0) * size
    has_short = short_amount > 0.0 or len(s.margin_rate_short) > 0
    short_margin = short_amount or column("margin_rate_short", 0.0) * size
    under = column("underlying_price", 0.0)
    exposure = factor * column("delta", 1.0) * under if under > 0.0 else 0.0
    if exposure <= 0.0:
        exposure = size if price > 0.0 else 0.0
    if exposure <= 0.0:
        exposure = max(size, long_margin, short_margin)
    full_short = short * max(size, exposure)
    if not has_short:
        short_margin = full_short
    elif short > 1.0:
        short_margin = max(short_margin, full_short)
    entry = case.average.get(s.instrument_ids[i], 0.0)
    held = case.held.get(s.instrument_ids[i], 0.0)
    gains = 0.0
    if entry > 0.0 and kind == FUTURE:
        gains = factor * (price - entry) * held
    if entry > 0.0 and kind == INVERSE:
        gains = factor * (1.0 / entry - 1.0 / price) * held
    fee = max(column("fee_rate", 0.0), fee_rate) * size
    notional_min = rate * column("notional_min", 0.0)
    return Unit(
        name=s.instrument_ids[i],
        sector=column("sector", ""),
        exposure=exposure,
        size=size,
        value=factor * price if kind == CASH else 0.0,
        margin_long=long_margin,
        margin_short=short_margin,
        fee=fee + rate * column("fee_per_unit", 0.0),
        fee_fixed=rate * column("fee_fixed", 0.0),
        fee_min=rate * column("fee_min", 0.0),
        lot=column("lot_size", 1.0),
        order_min=max(column("quantity_min", 0.0), notional_min / size if size else 0.0),
        order_max=column("quantity_max", 0.0) or inf,
        volume=column("average_daily_volume", None),
        volatility=column("volatility", None),
        stop=column("stop_price", 0.0),
        is_halted=column("halted", False),
        gains=gains,
    )
