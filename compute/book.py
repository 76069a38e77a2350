"""What a request is sized against: a market and what a portfolio holds and has reserved in it.

Quantities are in units of the instrument, money and prices in the portfolio's base currency.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from compute.limits.policy import GroupLimit, SharedLimits

LOTS_MAX = 2.0**53
"""Beyond this doubles no longer count single lots."""

EQUITY_MIN, EQUITY_MAX = 1e-9, 1e50
"""No sum of money outside these is meant; products and quotients would overflow."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class MissingInputError(Exception):
    """A limit or parameter needs data that was not given; sizing without it would be unsafe."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Market:
    """One moment's data of m instruments; columns that were not given are None."""

    instrument_ids: tuple[str, ...]
    price: Floats
    lot_size: Floats
    volatility: Floats | None = None
    average_daily_volume: Floats | None = None
    stop_price: Floats | None = None
    sector: tuple[str, ...] = ()
    exchange_rate: Floats | None = None
    """Base currency for one unit of each instrument's own; `price` is already converted."""
    index: Mapping[str, int] = field(default_factory=dict)
    memberships: dict[object, Floats] = field(default_factory=dict, compare=False, repr=False)
    """Of groups that were looked at (`group_members`)."""

    def __post_init__(self) -> None:
        if not self.index:
            index = {name: position for position, name in enumerate(self.instrument_ids)}
            object.__setattr__(self, "index", index)

    def places(self, names: Sequence[str]) -> Integers:
        """The place of each named instrument, -1 where there is none, (n,)."""
        try:
            found = itemgetter(*names)(self.index) if names else ()
        except KeyError:
            found = [self.index.get(name, -1) for name in names]
        return np.array(found, dtype=np.int64, ndmin=1)


@dataclass(frozen=True)
class Positions:
    """Holdings and open reservations over the instruments of a market, (m,) each.

    held: signed units. open_buy, open_sell: units reserved to be bought and sold, both >= 0.
    cash: base currency; cash_reserved: the part of it that reservations hold.
    """

    held: Floats
    open_buy: Floats
    open_sell: Floats
    cash: float
    cash_reserved: float = 0.0

    @cached_property
    def expected(self) -> Floats:
        """Units held once every reserved trade is filled, (m,)."""
        return self.held + self.open_buy - self.open_sell


@dataclass(frozen=True)
class SharedUse:
    """What the other portfolios of the group use of the limits they share, base currency.

    instrument_notional: absolute notional per instrument of the market, (m,).
    """

    limits: SharedLimits
    gross_notional: float
    instrument_notional: Floats


def equity_of(market: Market, positions: Positions) -> float:
    """Cash plus the value of what is held; reserved trades don't change it."""
    with np.errstate(over="ignore", invalid="ignore"):
        return positions.cash + float(market.price @ positions.held)


def group_members(market: Market, group: GroupLimit) -> Floats:
    """1 for the instruments of the market that belong to the group, (m,); not to be changed."""
    key = (group.sector, group.instrument_ids)
    if key not in market.memberships:
        market.memberships[key] = _members(market, group)
    return market.memberships[key]


def _members(market: Market, group: GroupLimit) -> Floats:
    if group.sector:
        if not market.sector:
            raise MissingInputError(
                "MISSING_SECTOR",
                f"group {group.name!r} needs the column sector in the market snapshot",
            )
        return np.array([float(sector == group.sector) for sector in market.sector])
    return np.array([float(name in group.instrument_ids) for name in market.instrument_ids])
