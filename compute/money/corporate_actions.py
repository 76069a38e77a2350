"""What a corporate action does to a quantity, a price and an open trade, exactly.

Units are multiplied by `units` = new over old, a price becomes factor x price - payment:

    split of old into new units     units r = new / old, factor 1 / r
    multiplier from k to k'         units k / k',        factor 1, a point worth k' / k
    cash dividend d                 units 1,             factor 1, payment d
    lot size                        units 1,             factor 1

so that units x value of a unit is what it was, but for the payment, which is cash.
"""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

PLACES = 12
"""Quantities are kept with so many decimals."""


@dataclass(frozen=True)
class Change:
    """What happens to one instrument. lot_size: the new one, None where it stays.

    units: new for one old. price_factor, payment: of the price as quoted. point_factor: new
    multiplier over old.
    """

    units: Fraction = Fraction(1)
    price_factor: float = 1.0
    payment: float = 0.0
    point_factor: float = 1.0
    lot_size: float | None = None

    @property
    def changes_units(self) -> bool:
        """Whether quantities change."""
        return self.units != 1

    def price(self, before: float) -> float:
        """A price as quoted, after it."""
        return before * self.price_factor - self.payment


def split(new_units: float, old_units: float) -> Change:
    """`old_units` become `new_units`."""
    ratio = exactly(new_units) / exactly(old_units)
    return Change(units=ratio, price_factor=float(1 / ratio))


def multiplier_change(before: float, after: float) -> Change:
    """A point is worth `after` where it was worth `before`."""
    ratio = exactly(before) / exactly(after)
    return Change(units=ratio, point_factor=float(1 / ratio))


@dataclass(frozen=True)
class Quantity:
    """A quantity in units after a change: multiples of a whole unit, and a part of one."""

    whole: Decimal
    fraction: Decimal
    total: Decimal


def changed_quantity(before: Decimal, change: Change, unit: float) -> Quantity:
    """A signed quantity after a change; unit: what is not left a part of.

    The part has the sign of the quantity, and is none where the decimals that are kept have none.
    """
    total = round(Fraction(before) * change.units * 10**PLACES)
    step = exactly(unit) * 10**PLACES
    whole = round(int(total / step) * step)  # towards 0
    return Quantity(_decimal(whole), _decimal(total - whole), _decimal(total))


def whole_unit(lot_size: float) -> float:
    """A unit, or a lot where that is smaller."""
    return min(1.0, lot_size)


def changed_lots(lots: int, lot_size: float, change: Change) -> tuple[int, float, float]:
    """Open lots after a change, the size of a lot then, and the units that fit no lot, signed."""
    size = lot_size if change.lot_size is None else change.lot_size
    units, step = lots * exactly(lot_size) * change.units, exactly(size)
    count = int(units / step)  # towards 0
    return count, size, float(units - count * step)


def exactly(value: float) -> Fraction:
    """The number as it is written in decimals: 1.05 is 21/20."""
    return Fraction(Decimal(repr(value)))


def _decimal(count: int) -> Decimal:
    return Decimal(f"{count}e-{PLACES}")
