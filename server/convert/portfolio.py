"""Portfolios between the contract and storage: checked, written and compared."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import available_timezones

import numpy as np
from positionsizing.v1 import portfolio_service_pb2 as pb

from compute.market import Market
from compute.money.contracts import ContractKind
from compute.money.currency import MINOR_UNITS
from server.calls.errors import FieldViolation
from server.convert.columns import floats, set_floats
from server.convert.currencies import currency_violations
from server.convert.market import Snapshot, instrument_violations, universe_violations
from server.convert.names import (
    checked_id,
    id_violations,
    past_moment,
    text_violations,
    timestamp,
)
from server.convert.ranges import number_violations
from storage.postgres.portfolios import Holdings, Portfolio
from storage.postgres.reservations import Reservation
from storage.postgres.scopes import TENANT_SCOPE, Scope, ScopeKind


def portfolio_violations(portfolio: pb.Portfolio) -> Iterator[FieldViolation]:
    """What is wrong with a portfolio to create, by field path."""
    yield from id_violations(portfolio.portfolio_id, "portfolio.portfolio_id")
    if portfolio.group_id:
        yield from id_violations(portfolio.group_id, "portfolio.group_id")
    yield from currency_violations(portfolio.base_currency, "portfolio.base_currency")
    yield from text_violations(portfolio.display_name, "portfolio.display_name")
    yield from number_violations(portfolio, "portfolio")
    yield from holding_violations(portfolio.holdings, "portfolio.holdings")
    yield from zone_violations(portfolio.time_zone, "portfolio.time_zone")
    yield from universe_violations(portfolio.universe_id, "portfolio.universe_id")
    base = portfolio.base_currency
    yield from balance_violations(portfolio.cash_balances, "portfolio.cash_balances", base)


def zone_violations(zone: str, path: str) -> Iterator[FieldViolation]:
    """A time zone by its name; empty is UTC."""
    if zone and zone not in available_timezones():
        text = f"is {zone[:40]!r}; it must be an IANA zone such as America/New_York"
        yield FieldViolation(path, "UNKNOWN_VALUE", text)


def balance_violations(
    balances: Iterable[pb.CashBalance], path: str, base_currency: str = ""
) -> Iterator[FieldViolation]:
    """Cash by currency but its numbers; base_currency: "" where it may be among them."""
    seen: set[str] = set()
    for place, item in enumerate(balances):
        where, code = f"{path}[{place}].currency", item.currency
        yield from currency_violations(code, where)
        if code in MINOR_UNITS:
            text = f"{code} is a part of {MINOR_UNITS[code][0]}: give the amount in that"
            yield FieldViolation(where, "NOT_APPLICABLE", text)
        elif code and code == base_currency:
            yield FieldViolation(where, "NOT_APPLICABLE", "is the base currency: that is `cash`")
        elif code in seen:
            yield FieldViolation(where, "DUPLICATE", f"{code} is given twice")
        seen.add(code)


def balances(given: Iterable[pb.CashBalance]) -> dict[str, float]:
    """Cash by currency as stored."""
    return {item.currency: item.amount for item in given}


def holding_violations(holdings: pb.Holdings, path: str = "holdings") -> Iterator[FieldViolation]:
    """Holdings but their numbers, in columns below `path`."""
    n = len(holdings.instrument_ids)
    if n:
        yield from instrument_violations(holdings.instrument_ids, f"{path}.instrument_ids")
    for name in ("quantity", "average_price"):
        length = len(getattr(holdings, name))
        if length != n and (length or name == "quantity"):
            text = f"has {length} entries for {n} instruments"
            yield FieldViolation(f"{path}.{name}", "LENGTH_MISMATCH", text)


def time_or_now(message: pb.Portfolio | pb.SetHoldingsRequest, path: str = "") -> datetime:
    """When the state was true; now where the caller doesn't say."""
    if message.HasField("as_of_time"):
        return past_moment(message.as_of_time, f"{path}as_of_time")
    return datetime.now(UTC)


def holdings(holdings: pb.Holdings) -> Holdings:
    """Holdings as stored, by instrument."""
    names = tuple(holdings.instrument_ids)
    order = sorted(range(len(names)), key=names.__getitem__)
    quantity = floats(holdings.quantity)[order]
    average = np.full(len(order), np.nan)
    if len(holdings.average_price):
        paid = floats(holdings.average_price)[order]
        average = np.where(paid > 0.0, paid, np.nan)
    return Holdings(tuple(names[i] for i in order), quantity, average)


def unrealised_pnl(book: pb.Holdings, prices: Market, snapshot_id: str) -> pb.UnrealisedPnl:
    """What the positions of a book have gained, at the prices of a market."""
    quantity, paid = floats(book.quantity), floats(book.average_price)
    place = prices.places(book.instrument_ids[:])
    known = (place >= 0) & (paid > 0.0)
    at = np.maximum(place, 0)
    if prices.contracts is not None:
        gained = prices.contracts.part(at).profit(quantity, np.where(known, paid, 1.0))
    else:
        rate = np.ones(len(place)) if prices.exchange_rate is None else prices.exchange_rate[at]
        gained = quantity * (prices.price[at] - paid * rate)
    pnl = gained[known]
    message = pb.UnrealisedPnl(total=float(pnl.sum()), market_snapshot_id=snapshot_id)
    for name, is_known in zip(book.instrument_ids, known.tolist(), strict=True):
        column = message.instrument_ids if is_known else message.unvalued_instrument_ids
        column.append(name)
    set_floats(message, "pnl", pnl)
    return message


def entered(held: Holdings, stored: Snapshot | None) -> Holdings:
    """The holdings with futures of unknown entry as entered at the prices of a snapshot.

    Their gains until then are in cash.
    """
    if stored is None or not len(stored.message.contract_kind):
        return held
    snapshot = stored.message
    place = {name: i for i, name in enumerate(snapshot.instrument_ids)}
    price = held.average_price.copy()
    for line, name in enumerate(held.instrument_id):
        i = place.get(name, -1)
        if np.isnan(price[line]) and i >= 0 and snapshot.contract_kind[i] > ContractKind.CASH:
            price[line] = snapshot.price[i]
    return replace(held, average_price=price)


def portfolio_message(row: Portfolio, close_time: datetime | None = None) -> pb.Portfolio:
    """A portfolio without its holdings and trading state."""
    return pb.Portfolio(
        portfolio_id=row.portfolio_id,
        display_name=row.display_name,
        base_currency=row.base_currency,
        group_id=row.group_id or "",
        cash=row.cash,
        version=row.version,
        as_of_time=timestamp(row.as_of_time),
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        close_time=None if close_time is None else timestamp(close_time),
        time_zone=row.time_zone,
        universe_id=row.universe_id,
        cash_balances=[
            pb.CashBalance(currency=code, amount=amount)
            for code, amount in sorted(row.balances.items())
        ],
    )


def same_portfolio(stored: pb.Portfolio, wanted: pb.Portfolio) -> bool:
    """Whether a portfolio was created as wanted; what the service sets is not compared."""
    names = ("display_name", "base_currency", "group_id", "cash", "universe_id")
    pairs = [
        dict(zip(item.holdings.instrument_ids, item.holdings.quantity, strict=True))
        for item in (stored, wanted)
    ]
    cash = balances(stored.cash_balances) == balances(wanted.cash_balances)
    cash = cash and stored.time_zone == (wanted.time_zone or "UTC")
    return (
        cash
        and pairs[0] == pairs[1]
        and all(getattr(stored, name) == getattr(wanted, name) for name in names)
    )


def reservation_message(row: Reservation) -> pb.Reservation:
    """A reservation with the lots still open."""
    still = np.flatnonzero(row.trade_lots_open)
    return pb.Reservation(
        decision_id=str(row.decision_id),
        strategy_id=row.strategy_id,
        instrument_ids=[row.instrument_id[i] for i in still],
        trade_lots_open=row.trade_lots_open[still].tolist(),
        lot_size=row.lot_size[still].tolist(),
        cash_open=float(row.cash_open.sum()),
        expire_time=timestamp(row.expire_time),
    )


def scope_of(scope: pb.Scope) -> Scope:
    """What a scope of the contract names. Raises `Refusal`."""
    match scope.WhichOneof("scope"):
        case "group_id":
            return Scope(ScopeKind.GROUP, checked_id(scope.group_id, "scope.group_id"))
        case "portfolio_id":
            return Scope(ScopeKind.PORTFOLIO, checked_id(scope.portfolio_id, "scope.portfolio_id"))
        case "strategy_id":
            return Scope(ScopeKind.STRATEGY, checked_id(scope.strategy_id, "scope.strategy_id"))
    return TENANT_SCOPE
