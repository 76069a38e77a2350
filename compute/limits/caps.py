"""What limits, prices and equity alone say of each instrument: the largest position and trade."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compute.limits.liquidity import daily_volume, position_cap
from compute.limits.policy import InstrumentLimit, LimitKind, Limits
from compute.limits.projection import NO_LIMIT
from compute.market import Floats, Integers, Market, SharedUse


@dataclass(frozen=True)
class Caps:
    """What limits, prices and equity alone say of each instrument, (m,) each, as weights."""

    weight: Floats
    kind: Integers
    bound: Floats
    adv: Floats
    trade: Floats
    trade_kind: Integers
    trade_bound: Floats


def caps_of(
    market: Market, limits: Limits, shared: SharedUse | None, scale: float, *, is_closing: bool
) -> Caps:
    """The caps of every instrument of the market.

    scale: money that a weight of 1 stands for. is_closing: equity is used up.
    """
    return Caps(
        *_instrument_caps(market, limits, shared, scale, is_closing=is_closing),
        position_cap(market, limits, market.price / scale),
        *_trade_caps(market, limits, scale),
    )


def _instrument_caps(
    market: Market, limits: Limits, shared: SharedUse | None, equity: float, *, is_closing: bool
) -> tuple[Floats, Integers, Floats]:
    size = len(market.price)
    weight = _override(market, limits, "weight_max", limits.weight_max)
    notional = _override(market, limits, "notional_max", limits.notional_max)
    quantity = _override(market, limits, "quantity_max", None)
    allowed = np.full(size, NO_LIMIT)
    allowed[[market.index[name] for name in limits.restricted if name in market.index]] = 0.0
    candidates = [
        (LimitKind.RESTRICTED, allowed, np.zeros(size)),
        (LimitKind.WEIGHT_MAX, weight, weight),
        (LimitKind.NOTIONAL_MAX, notional / equity, notional),
        (LimitKind.QUANTITY_MAX, quantity * market.price / equity, quantity),
    ]
    if is_closing:
        candidates.insert(0, (LimitKind.NO_EQUITY, np.zeros(size), np.zeros(size)))
    if shared is not None and shared.limits.instrument_notional_max is not None:
        room = np.maximum(shared.limits.instrument_notional_max - shared.instrument_notional, 0.0)
        kind = LimitKind.SHARED_INSTRUMENT_NOTIONAL_MAX
        candidates.append((kind, room / equity, room))
    return _tightest_of(candidates, size)


def _tightest_of(
    candidates: Sequence[tuple[LimitKind, Floats, Floats]], size: int
) -> tuple[Floats, Integers, Floats]:
    """Per instrument the smallest cap, its kind, and its bound in its own unit.

    Each candidate is (kind, cap as a weight, bound).
    """
    cap, bound = np.full(size, NO_LIMIT), np.zeros(size)
    kind = np.zeros(size, dtype=np.int64)
    for candidate_kind, weights, bounds in candidates:
        tighter = weights < cap
        cap = np.where(tighter, weights, cap)
        bound = np.where(tighter, bounds, bound)
        kind = np.where(tighter, int(candidate_kind), kind)
    return cap, kind, bound


def _override(market: Market, limits: Limits, name: str, general: float | None) -> Floats:
    """The general bound with tighter ones of single instruments, (m,)."""
    bounds = np.full(len(market.price), NO_LIMIT if general is None else general)
    overrides: Mapping[str, InstrumentLimit] = limits.instruments
    for instrument_id, override in overrides.items():
        value = getattr(override, name)
        position = market.index.get(instrument_id)
        if value is not None and position is not None:
            bounds[position] = min(bounds[position], value)
    return bounds


def _trade_caps(market: Market, limits: Limits, equity: float) -> tuple[Floats, Integers, Floats]:
    size = len(market.price)
    candidates = []
    if limits.trade_notional_max is not None:
        bound = np.full(size, limits.trade_notional_max)
        candidates.append((LimitKind.TRADE_NOTIONAL_MAX, bound / equity, bound))
    if market.contracts is not None:
        largest = market.contracts.quantity_max
        weights = np.minimum(largest * market.price / equity, NO_LIMIT)
        candidates.append((LimitKind.ORDER_MAX, weights, largest))
    if limits.adv_trade_max is not None:
        units = limits.adv_trade_max * daily_volume(market, "adv_trade_max")
        bound = np.full(size, limits.adv_trade_max)
        candidates.append((LimitKind.ADV_TRADE_MAX, units * market.price / equity, bound))
    return _tightest_of(candidates, size)
