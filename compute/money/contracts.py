"""What one unit of an instrument is: its exposure, its value, its margin and its fees.

With price p, multiplier k and the rate x of the instrument's currency into the base:

    kind            exposure of a unit          what a position adds to equity
    CASH            x k p                       x k p q              paid for when it is bought
    FUTURE          x k p                       x k (p - a) q        a: average price of entry
    INVERSE_FUTURE  x k / p                     x k (1/a - 1/p) q    k in the quote currency

Futures, perpetuals, contracts for difference and margined FX are FUTURE: opening moves no cash but
the fee, gains and losses are settled in cash when the position is reduced, and count at once. An
option is CASH whose exposure is x k delta S, with the price S of its underlying.

A position binds its margin rate times x k |p| (x k / p), or an amount a unit where one is given. A
price may be 0 or below only where the amounts are; the exposure is then the larger of x k |p| and
the margin.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class ContractKind(IntEnum):
    """How a position is paid for. The numbers are those of the contract."""

    CASH = 1
    FUTURE = 2
    INVERSE_FUTURE = 3


@dataclass(frozen=True)
class Contracts:
    """Columns over m instruments, (m,) each; money is base currency, margin and orders a unit.

    quote: the price as quoted. factor: base currency a unit for one point of `points(quote)`.
    size: x k |p| of a unit, or x k / p. exposure: see above. value: what a unit of CASH counts in
    equity, 0 for futures. margin_long, margin_short: NaN
    where the snapshot says nothing. fee_rate: NaN alike; fee_per_unit: of each unit traded;
    fee_fixed, fee_min: of one order.
    quantity_min, notional_min, quantity_max: of one order; 0 and infinity where there is none.
    halted: held and valued, not traded.
    """

    kind: Integers
    quote: Floats
    factor: Floats
    size: Floats
    exposure: Floats
    value: Floats
    margin_long: Floats
    margin_short: Floats
    fee_rate: Floats
    fee_per_unit: Floats
    fee_fixed: Floats
    fee_min: Floats
    quantity_min: Floats
    notional_min: Floats
    quantity_max: Floats
    halted: Flags

    def part(self, places: Integers) -> "Contracts":
        """Those at `places`."""
        return Contracts(**{item.name: getattr(self, item.name)[places] for item in fields(self)})

    def shifted(self, multiplier: Floats) -> "Contracts":
        """The same at prices times `multiplier` (m,), with margins by amount moved alike."""
        inverse = self.kind == ContractKind.INVERSE_FUTURE
        by = np.where(inverse, 1.0 / multiplier, multiplier)
        return replace(
            self,
            quote=self.quote * multiplier,
            size=self.size * by,
            exposure=self.exposure * by,
            value=self.value * by,
            margin_long=self.margin_long * by,
            margin_short=self.margin_short * by,
        )

    def in_units(self, quote: Floats, point: Floats) -> "Contracts":
        """The same in units whose quotes and points are 1 / `quote` and 1 / `point` of these, (m,).

        Margins and orders stay as they are.
        """
        inverse = self.kind == ContractKind.INVERSE_FUTURE
        by = 1.0 / (point * np.where(inverse, 1.0 / quote, quote))
        return replace(
            self,
            quote=self.quote / quote,
            factor=self.factor / point,
            size=self.size * by,
            exposure=self.exposure * by,
            value=self.value * by,
        )

    def stops(self, stop: Floats, places: Integers) -> Floats:
        """Exposure less what a unit loses down to the stop as quoted, (n,); 0 where there is none.

        So that (exposure - this) / exposure is the loss per unit of weight, whatever the contract.
        """
        kind, exposure = self.kind[places], self.exposure[places]
        moved = points(kind, self.quote[places]) - points(kind, np.where(stop > 0.0, stop, 1.0))
        left = np.maximum(exposure - self.factor[places] * moved, 1e-12 * exposure)
        return np.where(stop > 0.0, left, 0.0)

    def gains(self, held: Floats, average_price: Floats) -> Floats:
        """Base currency that futures held since `average_price` have gained, (m,); 0 for CASH.

        A position without an average price has its gains in cash already.
        """
        is_future = (self.kind != ContractKind.CASH) & np.isfinite(average_price) & (held != 0.0)
        entry = np.where(is_future, average_price, self.quote)
        return np.where(is_future, self.profit(held, entry), 0.0)

    def profit(self, held: Floats, paid: Floats) -> Floats:
        """Base currency that positions of any kind have gained since the quote `paid`, (m,)."""
        moved = points(self.kind, self.quote) - points(self.kind, paid)
        return self.factor * moved * held


def points(kind: Integers, price: Floats) -> Floats:
    """What a unit of factor 1 gains and loses with the price: p, and -1/p for inverse futures."""
    inverse = kind == ContractKind.INVERSE_FUTURE
    moved: Floats = np.where(inverse, -1.0 / np.where(inverse, price, 1.0), price)
    return moved


def contracts(price: Floats, rate: Floats, columns: Mapping[str, Floats | None]) -> Contracts:
    """The contracts of a snapshot: prices as quoted, rates into the base, its further columns."""
    n = len(price)

    def column(name: str, default: float) -> Floats:
        found = columns.get(name)
        return np.full(n, default) if found is None else found

    kind = column("contract_kind", 1.0).astype(np.int64)
    kind = np.where(kind == 0, int(ContractKind.CASH), kind)
    factor = rate * column("multiplier", 1.0)
    inverse = kind == ContractKind.INVERSE_FUTURE
    size = np.where(inverse, factor / np.where(inverse, price, 1.0), factor * np.abs(price))
    amounts = [rate * column(f"initial_margin_{side}", 0.0) for side in ("long", "short")]
    rates = [column(f"margin_rate_{side}", np.nan) for side in ("long", "short")]
    long, short = (
        np.where(amount > 0.0, amount, share * size)
        for amount, share in zip(amounts, rates, strict=True)
    )
    underlying = column("underlying_price", 0.0)
    exposure = np.where(
        underlying > 0.0, factor * column("delta", 1.0) * underlying, np.where(price > 0.0, size, 0)
    )
    largest = column("quantity_max", 0.0)
    stated = np.maximum(size, np.fmax(np.fmax(long, short), 0.0))
    exposure = np.where(exposure > 0.0, exposure, stated)
    return Contracts(
        kind=kind,
        quote=price,
        factor=factor,
        size=size,
        exposure=exposure,
        value=np.where(kind == ContractKind.CASH, factor * price, 0.0),
        margin_long=long,
        margin_short=short,
        fee_rate=column("fee_rate", np.nan),
        fee_per_unit=rate * column("fee_per_unit", 0.0),
        fee_fixed=rate * column("fee_fixed", 0.0),
        fee_min=rate * column("fee_min", 0.0),
        quantity_min=column("quantity_min", 0.0),
        notional_min=rate * column("notional_min", 0.0),
        quantity_max=np.where(largest > 0.0, largest, np.inf),
        halted=column("halted", 0.0) > 0.0,
    )
