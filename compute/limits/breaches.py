"""Limits that a book is beyond already, before anybody asks for a size.

A book is holdings with every reserved trade at its worst: purchases that fill while sales don't,
and the other way round. These limits speak of a book; others speak of a trade or a decision
(turnover, trade sizes, lots), and are not looked at. Those on its risk are in `risk_at_rest.py`.
Linear limits and those on stress scenarios, which are linear too, are looked at by themselves:
where a decision is made the guard of its book tells of them (`book_guard.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from compute.limits.guard import Guard
from compute.limits.policy import PARTICIPATION, InstrumentLimit, LimitKind
from compute.market import DUST

ROUNDING = 1e-9
"""Relative to the terms of a sum: what fees and prices in doubles leave of a full limit."""


@dataclass(frozen=True)
class Breach:
    """A limit and by how much: `bound` and `value` in the unit of the bound.

    Weights are fractions of equity, infinite where there is none, and so are shares of a daily
    volume of 0; notional is base currency, positions are counted.
    `name` is the instrument, the limit's group, or "portfolio".
    """

    kind: LimitKind
    name: str
    bound: float
    value: float

    @property
    def key(self) -> tuple[int, str]:
        """What tells the limits of a portfolio apart."""
        return int(self.kind), self.name

    @property
    def is_lower_bound(self) -> bool:
        """Whether the value falls short of the bound; that of a wealth floor is of another unit."""
        return self.kind is not LimitKind.DRAWDOWN_RISK and self.value < self.bound


def breaches(guard: Guard) -> list[Breach]:
    """Every limit the guard's book is beyond, each once; empty in the usual case."""
    return [*_positions(guard), *_sums(guard), *_shared(guard), *_cash(guard)]


def linear_breaches(guard: Guard) -> Iterator[Breach]:
    """Every linear limit without a price that the guard's book is beyond, each end once."""
    place = guard.market.index
    for limit in guard.limits.joint.linear:
        if limit.soft_price is not None:
            continue
        row = np.zeros(len(guard.before))
        for name, value in limit.coefficients.items():
            if name in place:
                row[place[name]] += value
        longs, shorts = np.maximum(row, 0.0), np.maximum(-row, 0.0)
        net, size = float(row @ guard.before), float(np.abs(row) @ np.abs(guard.before))
        high = net + float(longs @ guard.pending_sell + shorts @ guard.pending_buy)
        low = net - float(longs @ guard.pending_buy + shorts @ guard.pending_sell)
        ends, values = (limit.lower, limit.upper), (low, high)
        kinds = limit.kind, limit.kind
        yield from _outside(guard, kinds, limit.name, ends, values, _weight(guard, size))


def _positions(guard: Guard) -> Iterator[Breach]:
    worst = guard.worst
    suspects = (worst > guard.position_max * (1.0 + ROUNDING)) & (worst > 0.0)
    if not guard.limits.allow_short:
        suspects |= guard.positions.held < 0.0
    for i in np.flatnonzero(suspects):
        yield from _of_instrument(guard, int(i), float(worst[i]))


def _of_instrument(guard: Guard, i: int, notional: float) -> Iterator[Breach]:
    limits, market = guard.limits, guard.market
    name, price = market.instrument_ids[i], float(market.price[i])
    own = limits.instruments.get(name, InstrumentLimit())
    given = [
        (LimitKind.WEIGHT_MAX, _least(limits.weight_max, own.weight_max), _weight(guard, notional)),
        (LimitKind.NOTIONAL_MAX, _least(limits.notional_max, own.notional_max), notional),
        (LimitKind.QUANTITY_MAX, own.quantity_max, notional / price),
        (LimitKind.RESTRICTED, 0.0 if name in limits.restricted else None, notional),
    ]
    if market.average_daily_volume is not None:
        volume = price * float(market.average_daily_volume[i])
        share = notional / volume if volume > 0.0 else inf
        given.append((LimitKind.ADV_POSITION_MAX, limits.adv_position_max, share))
        days = share / (limits.participation_rate or PARTICIPATION)
        given.append((LimitKind.EXIT_DAYS_MAX, limits.exit_days_max, days))
    for kind, bound, value in given:
        yield from _above(kind, name, bound, value)
    if not limits.allow_short and guard.positions.held[i] < 0.0:
        quantity = float(guard.positions.held[i])
        yield Breach(LimitKind.SHORT_NOT_ALLOWED, name, 0.0, quantity)


def _sums(guard: Guard) -> Iterator[Breach]:
    whole, limits = guard.whole, guard.limits
    for group, total in guard.groups:
        gross = _weight(guard, total.gross)
        yield from _above(LimitKind.GROUP_GROSS_MAX, group.name, group.gross_weight_max, gross)
        high, low = total.net + total.pending_sell, total.net - total.pending_buy
        kinds = LimitKind.GROUP_NET_MIN, LimitKind.GROUP_NET_MAX
        net = group.net_weight_min, group.net_weight_max
        yield from _outside(guard, kinds, group.name, net, (low, high), gross)
    if limits.positions_max is not None:
        count = float((guard.worst > DUST * guard.lot_value).sum())
        yield from _above(LimitKind.POSITIONS_MAX, "portfolio", limits.positions_max, count)
    notional = whole.gross
    gross = _weight(guard, notional)
    yield from _above(LimitKind.LEVERAGE_MAX, "portfolio", limits.leverage_max, gross)
    bound = limits.gross_notional_max
    yield from _above(LimitKind.GROSS_NOTIONAL_MAX, "portfolio", bound, notional)
    high, low = whole.net + whole.pending_sell, whole.net - whole.pending_buy
    kinds = LimitKind.NET_MIN, LimitKind.NET_MAX
    net = limits.net_weight_min, limits.net_weight_max
    yield from _outside(guard, kinds, "portfolio", net, (low, high), gross)


def _outside(
    guard: Guard,
    kinds: tuple[LimitKind, LimitKind],
    name: str,
    bounds: tuple[float | None, float | None],
    values: tuple[float, float],
    gross: float,
) -> Iterator[Breach]:
    """Least and most net weight, against the lowest and highest net notional."""
    low, high = (_weight(guard, value) for value in values)
    if bounds[0] is not None and low < bounds[0] - ROUNDING * max(abs(bounds[0]), gross):
        yield Breach(kinds[0], name, bounds[0], low)
    yield from _above(kinds[1], name, bounds[1], high, gross)


def _shared(guard: Guard) -> Iterator[Breach]:
    """What the portfolios of a group share; each portfolio tells it of itself."""
    if guard.shared is None:
        return
    bounds, others = guard.shared.limits, guard.shared
    total = guard.whole.gross + others.gross_notional
    kind = LimitKind.SHARED_GROSS_NOTIONAL_MAX
    yield from _above(kind, "group", bounds.gross_notional_max, total)
    most = bounds.instrument_notional_max
    if most is not None:
        own = guard.worst
        position = own + others.instrument_notional
        for i in np.flatnonzero((position > most * (1.0 + ROUNDING)) & (own > 0.0)):
            name = guard.market.instrument_ids[i]
            yield Breach(LimitKind.SHARED_INSTRUMENT_NOTIONAL_MAX, name, most, float(position[i]))


def _cash(guard: Guard) -> Iterator[Breach]:
    """What is free, against the buffer that must stay: below 0 it is a margin deficit."""
    bound = (guard.limits.cash_buffer or 0.0) * guard.equity
    free, bound_margin = guard.funding.free, float(guard.funding.bound.sum())
    if free < bound - ROUNDING * max(abs(bound), abs(guard.equity), bound_margin):
        yield Breach(LimitKind.CASH, "portfolio", bound, free)


def _above(
    kind: LimitKind, name: str, bound: float | None, value: float, scale: float = 0.0
) -> Iterator[Breach]:
    if bound is not None and value > bound + ROUNDING * max(abs(bound), scale):
        yield Breach(kind, name, bound, value)


def _weight(guard: Guard, notional: float) -> float:
    if guard.equity > 0.0:
        return notional / guard.equity
    return float("inf") * np.sign(notional) if notional else 0.0


def _least(left: float | None, right: float | None) -> float | None:
    return min((bound for bound in (left, right) if bound is not None), default=None)
