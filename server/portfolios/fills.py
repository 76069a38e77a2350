"""Fills of a settlement: checked, held against the market, and turned into what they book.

Each fill books at its own price, fee, currency and rate. A price or rate further from the newest
market than the parameters allow is refused by its path, unless the caller confirms it: a fill is a
fact, a slipped decimal point is not.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from positionsizing.v1 import sizing_service_pb2 as pb

from compute.market import Market
from compute.money.contracts import ContractKind, points
from compute.money.currency import MINOR_UNITS, major_of, rate_of
from compute.money.text import money
from server.calls.errors import FieldViolation, invalid_fields
from server.convert.columns import integers
from server.convert.currencies import currency_violations
from server.convert.market import instrument_violations
from server.convert.ranges import number_violations


@dataclass(frozen=True)
class Booking:
    """What a fill books. price: as the instrument is quoted.

    cash: by currency, "" for the base, fees taken off. gain_factor: money in the currency
    `settles_in` for one point of gain of a unit, of futures only.
    """

    lots: int
    price: float
    cash: Mapping[str, float]
    gain_factor: float = 0.0
    is_inverse: bool = False
    settles_in: str = ""


@dataclass(frozen=True)
class Accounts:
    """The base currency of a portfolio and the others that it has accounts in."""

    base: str
    others: frozenset[str] = frozenset()

    def named(self, code: str) -> str:
        """The account of a currency, "" for the base."""
        return "" if code == self.base else code

    def own(self, code: str) -> str:
        """The account that a currency settles in by itself: its own where there is one."""
        return code if code in self.others else ""


@dataclass(frozen=True)
class Band:
    """How far prices and rates may be from the market, as a fraction of it; None: any."""

    deviation_max: float | None


def fill_violations(request: pb.SettleDecisionRequest) -> list[FieldViolation]:
    """What is wrong with fills by themselves, by field path."""
    fills = request.fills
    n = len(fills.instrument_ids)
    if n == 0 and not request.close:
        return [FieldViolation("fills", "MISSING", "give fills, or close")]
    found = list(number_violations(request))
    if n:
        found += instrument_violations(fills.instrument_ids, "fills.instrument_ids")
    required = ("lots", "price")
    columns = ("fee", "currency", "exchange_rate", "fee_currency", "settlement_currency")
    for name in (*required, *columns):
        length = len(getattr(fills, name))
        if length != n and (name in required or length):
            text = f"has {length} entries for {n} instruments"
            found.append(FieldViolation(f"fills.{name}", "LENGTH_MISMATCH", text))
    for place in np.flatnonzero(integers(fills.lots) == 0).tolist():
        found.append(FieldViolation(f"fills.lots[{place}]", "OUT_OF_RANGE", "must not be 0"))
    for name in ("currency", "fee_currency", "settlement_currency"):
        for place, code in enumerate(getattr(fills, name)):
            if code:
                found += currency_violations(code, f"fills.{name}[{place}]")
    for place, code in enumerate(fills.settlement_currency):
        if code in MINOR_UNITS:
            text = f"{code} is a part of {MINOR_UNITS[code][0]}, which accounts are in"
            where = f"fills.settlement_currency[{place}]"
            found.append(FieldViolation(where, "NOT_APPLICABLE", text))
    return found


def paid(booked: Sequence[Booking]) -> dict[str, float]:
    """What fills pay together, by currency, "" for the base."""
    total = {"": 0.0}
    for item in booked:
        for code, amount in item.cash.items():
            total[code] = total.get(code, 0.0) + amount
    return total


def bookings(
    fills: pb.Fills,
    lot_size: Mapping[str, float],
    markets: Sequence[Market],
    band: Band,
    accounts: Accounts,
) -> list[Booking]:
    """What each fill books. markets: newest first, the last the one decided on.

    Raises `Refusal` by path for what is out of the band; `MissingInputError` for a missing rate.
    """
    made, found = [], []
    for i, name in enumerate(fills.instrument_ids):
        market = next((m for m in markets if name in m.index), markets[-1])
        if name not in market.index:
            # Not of the decision: storage refuses it, with what is open.
            made.append(Booking(fills.lots[i], fills.price[i], {}))
            continue
        fill = Fill.of(fills, i, market, accounts)
        unit = lot_size.get(name, 0.0)
        found += list(fill.violations(i, market, unit, band))
        made.append(fill.booking(market, unit))
    if found:
        raise invalid_fields(found)
    return made


@dataclass(frozen=True)
class Fill:
    """One fill. price: as quoted, in the instrument's currency. fee: base currency.

    rate: base currency for one unit of the instrument's, at which it is booked. fee_paid: the
    account that pays it, "" for the base, and the amount there. settles_in: the account that the
    rest moves; settlement_rate: base currency for one unit of that.
    """

    place: int
    lots: int
    price: float
    rate: float
    fee: float
    fee_paid: tuple[str, float]
    settles_in: str
    settlement_rate: float
    fixed_rate: float | None
    """What `rate` has to be where the instrument is in the base currency or a part of it."""

    @classmethod
    def of(cls, fills: pb.Fills, i: int, market: Market, accounts: Accounts) -> "Fill":
        """Entry `i` of fills, of an instrument of the market, whose rates stand in for its own.

        Raises `MissingInputError` for a missing rate.
        """
        place = market.index[fills.instrument_ids[i]]
        own = 1.0 if market.exchange_rate is None else float(market.exchange_rate[place])
        currency = fills.currency[i] if len(fills.currency) else ""
        listed = rate_of(market.rates, currency, "a fill") if currency else own
        given = fills.exchange_rate[i] if len(fills.exchange_rate) else 0.0
        rate = given if given > 0.0 else listed
        code = currency or (market.currency[place] if market.currency else accounts.base)
        major, part = major_of(code)
        named = fills.settlement_currency[i] if len(fills.settlement_currency) else ""
        settles_in = accounts.named(named) if named else accounts.own(major)
        settlement_rate = 1.0
        if settles_in:
            settlement_rate = (
                rate / part
                if settles_in == major
                else rate_of(market.rates, settles_in, "a settlement")
            )
        of_fee = fills.fee_currency[i] if len(fills.fee_currency) else ""
        charged, fee_rate = fills.fee[i] if len(fills.fee) else 0.0, 1.0
        fee_major, fee_part = major_of(of_fee)
        if of_fee:
            is_own = fee_major == major
            fee_rate = rate / part * fee_part if is_own else rate_of(market.rates, of_fee, "a fee")
        fee, fee_paid = charged * fee_rate, ("", charged * fee_rate)
        if fee_major and fee_major in (accounts.own(fee_major), settles_in):
            fee_paid = fee_major, charged * fee_part
        # Pounds for an instrument in pence: the price as the instrument is quoted.
        unit = listed / own
        price = fills.price[i] * unit
        of_fill = (place, fills.lots[i], price, rate / unit)
        base_major, base_part = major_of(accounts.base)
        fixed = part / base_part / unit if major == base_major else None
        return cls(*of_fill, fee, fee_paid, settles_in, settlement_rate, fixed)

    def violations(
        self, i: int, market: Market, lot_size: float, band: Band
    ) -> Iterator[FieldViolation]:
        """Prices, rates and fees that are none, or too far from the market."""
        quote, own = _quote(market, self.place), _rate(market, self.place)
        if self.fixed_rate is not None and not math.isclose(self.rate, self.fixed_rate):
            text = f"is {self.rate:g}; the instrument is in the base currency: leave it out"
            yield FieldViolation(f"fills.exchange_rate[{i}]", "CONTRADICTORY", text)
            return
        if quote > 0.0 and self.price <= 0.0:
            text = f"is {self.price:g}; it must be > 0"
            yield FieldViolation(f"fills.price[{i}]", "OUT_OF_RANGE", text)
        elif band.deviation_max is not None:
            for name, value, listed in (
                ("price", self.price, quote),
                ("exchange_rate", self.rate, own),
            ):
                if abs(value - listed) > band.deviation_max * abs(listed):
                    text = (
                        f"is {value:g} where the market has {listed:g}: more than "
                        f"{band.deviation_max:.0%} away; confirm_prices books it"
                    )
                    yield FieldViolation(f"fills.{name}[{i}]", "FILL_OUT_OF_BAND", text)
            value = abs(self.lots * lot_size * self.price * self.point_value(market))
            if value > 0.0 and abs(self.fee) > band.deviation_max * value:
                text = (
                    f"is {money(self.fee)} for a trade of {money(value)}, in the base currency: "
                    f"more than {band.deviation_max:.0%}; confirm_prices books it"
                )
                yield FieldViolation(f"fills.fee[{i}]", "FILL_OUT_OF_BAND", text)

    def point_value(self, market: Market) -> float:
        """Base currency for one point of the price of a unit, at the fill's own rate."""
        if market.contracts is None:
            return self.rate
        return float(market.contracts.factor[self.place]) / _rate(market, self.place) * self.rate

    def dearer(self, market: Market) -> float:
        """Base currency, at the fill's rate, that a unit bought cost beyond the market's price."""
        quoted, factor, own = _quote(market, self.place), self.point_value(market), market.contracts
        if own is None or own.kind[self.place] == ContractKind.CASH:
            return self.price * factor - float(market.value[self.place])
        kind = own.kind[self.place : self.place + 1]
        paid, then = points(kind, np.array([self.price])), points(kind, np.array([quoted]))
        return factor * float(paid[0] - then[0])

    def booking(self, market: Market, lot_size: float) -> Booking:
        """What it books."""
        own, factor = market.contracts, self.point_value(market)
        kind = ContractKind.CASH if own is None else int(own.kind[self.place])
        account, fee = self.fee_paid
        cash = {account: -fee}
        if kind == ContractKind.CASH:
            value = self.lots * lot_size * self.price * factor / self.settlement_rate
            cash[self.settles_in] = cash.get(self.settles_in, 0.0) - value
            return Booking(self.lots, self.price, cash)
        inverse = kind == ContractKind.INVERSE_FUTURE
        factor /= self.settlement_rate
        return Booking(self.lots, self.price, cash, factor, inverse, self.settles_in)


def _quote(market: Market, place: int) -> float:
    """Price as quoted, in the instrument's currency."""
    if market.contracts is not None:
        return float(market.contracts.quote[place])
    return float(market.price[place]) / _rate(market, place)


def _rate(market: Market, place: int) -> float:
    return 1.0 if market.exchange_rate is None else float(market.exchange_rate[place])
