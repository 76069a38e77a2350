"""What a request is sized against: a market and what a portfolio holds and has reserved in it.

Quantities are in units of the instrument, money and prices in the portfolio's base currency.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from compute.cache import Cache
from compute.limits.policy import GroupLimit, SharedLimits
from compute.money.contracts import Contracts

LOTS_MAX = 2.0**53
"""Beyond this doubles no longer count single lots."""

DUST = 1e-9
"""In lots: less than that of a position is none."""

_PARTS_MAX, _GROUPS_MAX = 256, 1024
"""Parts of one market, and groups of its instruments, that are kept."""

EQUITY_MIN, EQUITY_MAX = 1e-9, 1e50
"""No sum of money outside these is meant; products and quotients would overflow."""

EQUITY_ROUNDING = 1e-12
"""Relative: sums of a hundred thousand positions are exact to 1e-12 of their sizes. A book owning
a trillionth of what it holds has no weights that are more than rounding."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class MissingInputError(Exception):
    """A limit or parameter needs data that was not given; sizing without it would be unsafe."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[1])


@dataclass(frozen=True)
class Market:
    """One moment's data of m instruments; columns that were not given are None.

    price: base currency, the exposure of one unit, which all limits count.
    """

    instrument_ids: tuple[str, ...]
    price: Floats
    lot_size: Floats
    volatility: Floats | None = None
    average_daily_volume: Floats | None = None
    stop_price: Floats | None = None
    spread: Floats | None = None
    """Bid-ask spread as a fraction of the price; see `half_spread`."""
    sector: tuple[str, ...] = ()
    exchange_rate: Floats | None = None
    """Base currency for one unit of each instrument's own; `price` is already converted."""
    currency: tuple[str, ...] = ()
    """Each instrument's own; empty: the base currency."""
    contracts: Contracts | None = None
    """What a unit is where that is more than its price; None: cash instruments, paid in full."""
    rates: Mapping[str, float] = field(default_factory=dict, compare=False)
    """Base currency for one unit of every currency that the snapshot converts (`currency.py`)."""
    index: Mapping[str, int] = field(default_factory=dict)
    memberships: Cache[object, Floats] = field(
        default_factory=lambda: Cache(_GROUPS_MAX), compare=False, repr=False
    )
    """Of groups that were looked at (`group_members`)."""
    whole: "tuple[Market, Integers] | None" = field(default=None, compare=False, repr=False)
    """Of a part: the market it is a part of, and its places there."""
    _parts: "Cache[bytes, Market]" = field(
        init=False, default_factory=lambda: Cache(_PARTS_MAX), compare=False, repr=False
    )

    def __post_init__(self) -> None:
        if not self.index:
            index = {name: position for position, name in enumerate(self.instrument_ids)}
            object.__setattr__(self, "index", index)

    @property
    def value(self) -> Floats:
        """What a unit held counts in equity, base currency, (m,); futures count by their gains."""
        return self.price if self.contracts is None else self.contracts.value

    @property
    def half_spread(self) -> Floats:
        """What a trade pays of it, as a fraction of exposure, (m,); 0 where none is given.

        The price of an option is less than the exposure that its delta gives it.
        """
        if self.spread is None:
            return np.zeros(len(self.price))
        half = 0.5 * self.spread
        own = self.contracts
        return half if own is None else half * own.size / own.exposure

    def stops(self, stop: Floats, places: Integers) -> Floats:
        """Stop prices as quoted of the instruments at `places` in the unit of `price`, (n,)."""
        if self.contracts is not None:
            return self.contracts.stops(stop, places)
        return stop if self.exchange_rate is None else stop * self.exchange_rate[places]

    def in_units(self, quote: Floats, point: Floats) -> "Market":
        """Prices in the units of before actions that multiplied quotes and points by so much, (m,).

        A split of 1 into r multiplied quotes by 1 / r, another multiplier the points.
        """
        own = None if self.contracts is None else self.contracts.in_units(quote, point)
        price = self.price / (quote * point) if own is None else own.exposure
        return replace(self, price=price, contracts=own)

    def part(self, places: Integers) -> "Market":
        """The market of the instruments at `places` alone; kept, as the same come again."""
        return self._parts.get(places.tobytes(), lambda: self._part(places))

    def _part(self, places: Integers) -> "Market":
        return Market(
            instrument_ids=tuple(self.instrument_ids[i] for i in places),
            price=self.price[places],
            lot_size=self.lot_size[places],
            volatility=_at(places, self.volatility),
            average_daily_volume=_at(places, self.average_daily_volume),
            stop_price=_at(places, self.stop_price),
            spread=_at(places, self.spread),
            sector=tuple(self.sector[i] for i in places) if self.sector else (),
            exchange_rate=_at(places, self.exchange_rate),
            currency=tuple(self.currency[i] for i in places) if self.currency else (),
            contracts=None if self.contracts is None else self.contracts.part(places),
            rates=self.rates,
            whole=(self, places),
        )

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
    cash: base currency; cash_reserved: what reservations were given, told but not
    counted: they bind what they take at today's prices (`margin.py`). gains: of the
    futures held, not yet in cash.
    """

    held: Floats
    open_buy: Floats
    open_sell: Floats
    cash: float
    cash_reserved: float = 0.0
    gains: float = 0.0

    @cached_property
    def expected(self) -> Floats:
        """Units held once every reserved trade is filled, (m,)."""
        return self.held + self.open_buy - self.open_sell

    @cached_property
    def taken(self) -> Integers:
        """Places of what is held or reserved, rising."""
        return np.flatnonzero((self.held != 0.0) | (self.open_buy > 0.0) | (self.open_sell > 0.0))

    def part(self, places: Integers) -> "Positions":
        """The positions at `places`, all that are `taken` among them."""
        columns = (self.held[places], self.open_buy[places], self.open_sell[places])
        return Positions(*columns, self.cash, self.cash_reserved, self.gains)


@dataclass(frozen=True)
class SharedUse:
    """What the other portfolios of the group use of the limits they share, base currency.

    instrument_notional: absolute notional per instrument of the market, (m,).
    """

    limits: SharedLimits
    gross_notional: float
    instrument_notional: Floats


def _at(places: Integers, column: Floats | None) -> Floats | None:
    return None if column is None else column[places]


def equity_of(market: Market, positions: Positions) -> float:
    """Cash plus the value and the gains of what is held; reserved trades don't change it.

    0 where it is no more than rounding of what it is the difference of (`EQUITY_ROUNDING`).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        value = market.value * positions.held
        equity = positions.cash + positions.gains + float(value.sum())
        sizes = abs(positions.cash) + abs(positions.gains) + float(np.abs(value).sum())
    return 0.0 if abs(equity) <= EQUITY_ROUNDING * sizes < np.inf else equity


def filled(market: Market, positions: Positions, index: Integers, trades: Floats) -> Positions:
    """The positions with all that is reserved filled, and `trades`, units of the lines at `index`.

    At the market's prices, without fees: equity stays. Less than `DUST` of a lot of what is
    closed is rounding, and none; so is what doubles of the quantities can't tell from it.
    """
    held = positions.expected.copy()
    held[index] += trades
    sizes = np.abs(positions.held) + positions.open_buy + positions.open_sell
    sizes[index] += np.abs(trades)
    held[np.abs(held) < np.maximum(DUST * market.lot_size, 1e-14 * sizes)] = 0.0
    nothing = np.zeros_like(held)
    cash = equity_of(market, positions) - positions.gains - float(market.value @ held)
    return Positions(held, nothing, nothing, cash, 0.0, positions.gains)


def group_members(market: Market, group: GroupLimit) -> Floats:
    """1 for the instruments of the market that belong to the group, (m,); not to be changed."""

    def made() -> Floats:
        if market.whole is None:
            return _members(market, group)
        whole, places = market.whole
        return group_members(whole, group)[places]

    return market.memberships.get((group.sector, group.instrument_ids), made)


def _members(market: Market, group: GroupLimit) -> Floats:
    if group.sector:
        if not market.sector:
            raise MissingInputError(
                "MISSING_SECTOR",
                f"group {group.name!r} needs the column sector in the market snapshot",
            )
        return np.array([float(sector == group.sector) for sector in market.sector])
    return np.array([float(name in group.instrument_ids) for name in market.instrument_ids])
