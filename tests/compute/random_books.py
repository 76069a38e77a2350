"""Random books, limits and signals, most of them nastier than any that a person would send."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from compute.limits.policy import GroupLimit, InstrumentLimit, Limits, SharedLimits
from compute.market import Floats, Market, Positions, SharedUse, equity_of
from compute.parameters import DrawdownTolerance, EffectiveParameters, Shrinkage
from compute.signals import Signals
from compute.waterfall.layout import Source

NAMES = tuple(f"I{i}" for i in range(16))
SECTORS = ("A", "B", "C")
LOTS = np.array([1.0, 1.0, 1.0, 100.0, 7.0, 0.1, 0.001, 1e-8])


@dataclass(frozen=True)
class Case:
    """Everything a decision depends on; `index` are the signals' instruments in the market."""

    market: Market
    positions: Positions
    limits: Limits
    shared: SharedUse | None
    signals: Signals
    index: np.ndarray[tuple[int], np.dtype[np.int64]]
    active: np.ndarray[tuple[int], np.dtype[np.bool_]]
    parameters: EffectiveParameters
    reducing: bool


def case(rng: Generator) -> Case:
    """One random case with positive equity."""
    market = _market(rng)
    positions = _positions(rng, market)
    equity = equity_of(market, positions)
    index = rng.permutation(len(market.price))[: int(rng.integers(1, len(market.price) + 1))]
    return Case(
        market=market,
        positions=positions,
        limits=_limits(rng, market, equity),
        shared=_shared(rng, market, equity),
        signals=_signals(rng, market.price[index]),
        index=index,
        active=rng.random(len(index)) < 0.9,
        parameters=_parameters(rng),
        reducing=bool(rng.random() < 0.1),
    )


def _chance(rng: Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def _maybe(rng: Generator, low: float, high: float, probability: float = 0.3) -> float | None:
    """None mostly, at times 0, else a number whose logarithm is uniform."""
    if rng.random() >= probability:
        return None
    if rng.random() < 0.1:
        return 0.0
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _market(rng: Generator) -> Market:
    size = int(rng.integers(1, 17))
    spread = float(rng.choice([1.5, 6.0, 10.0], p=[0.8, 0.17, 0.03]))
    return Market(
        instrument_ids=NAMES[:size],
        price=10.0 ** rng.uniform(1.5 - spread, 1.5 + spread, size),
        lot_size=rng.choice(LOTS, size) if _chance(rng, 0.5) else np.ones(size),
        volatility=rng.uniform(0.0, 1.5, size),
        average_daily_volume=np.round(10.0 ** rng.uniform(-1.0, 6.0, size)),
        stop_price=None,
        sector=tuple(rng.choice(SECTORS, size)),
    )


def _quantities(rng: Generator, market: Market, money: float, share: float) -> Floats:
    """Unsigned quantities, half of them odd lots, for about `money` each."""
    size = len(market.price)
    units = money * rng.exponential(1.0, size) / market.price
    whole = np.floor(units / market.lot_size) * market.lot_size
    held = np.where(rng.random(size) < 0.5, whole, units)
    out: Floats = np.where(rng.random(size) < share, held, 0.0)
    return out


def _positions(rng: Generator, market: Market) -> Positions:
    size = len(market.price)
    money = 10.0 ** rng.uniform(2.0, 7.0)
    held = _quantities(rng, market, money / size, 0.5) * rng.choice([1.0, 1.0, -1.0], size)
    pending = 0.3 if _chance(rng, 0.4) else 0.0
    buy = _quantities(rng, market, 0.2 * money / size, pending)
    sell = _quantities(rng, market, 0.2 * money / size, pending)
    value = float(market.price @ held)
    equity = money * (10.0 ** rng.uniform(-6.0, 0.0) if _chance(rng, 0.1) else rng.uniform(0.2, 3))
    cash = equity - value  # negative where much is held
    if cash + value <= 0.0:
        cash = abs(value) + equity
    reserved = rng.uniform(0.0, 0.5) * abs(cash) if pending else 0.0
    return Positions(held, buy, sell, cash, reserved)


def _limits(rng: Generator, market: Market, equity: float) -> Limits:
    size = len(market.price)
    net = rng.uniform(-1.0, 1.0, 2) if _chance(rng, 0.2) else (None, None)
    if net[0] is not None and _chance(rng, 0.8):  # else they may cross: two scopes, one wish each
        net = np.sort(net)
    return Limits(
        weight_max=_maybe(rng, 0.01, 2.0, 0.5),
        notional_max=_maybe(rng, 0.01 * equity, equity),
        instruments=_instrument_limits(rng, market, equity),
        groups=tuple(_group(rng, number, market) for number in range(int(rng.integers(0, 4)))),
        gross_notional_max=_maybe(rng, 0.1 * equity, 3.0 * equity, 0.2),
        leverage_max=_maybe(rng, 0.1, 4.0, 0.5),
        net_weight_min=None if net[0] is None else float(net[0]),
        net_weight_max=None if net[1] is None else float(net[1]),
        turnover_max=_maybe(rng, 0.01, 2.0),
        cash_buffer=_maybe(rng, 0.001, 0.5),
        fee_rate=_maybe(rng, 1e-5, 0.05, 0.5),
        short_margin_rate=_maybe(rng, 0.1, 2.0),
        adv_trade_max=_maybe(rng, 0.001, 1.0),
        adv_position_max=_maybe(rng, 0.001, 1.0),
        trade_notional_min=_maybe(rng, 1e-5 * equity, 0.1 * equity),
        trade_notional_max=_maybe(rng, 1e-3 * equity, equity, 0.2),
        restricted=frozenset(rng.choice(NAMES[:size], 2)) if _chance(rng, 0.2) else frozenset(),
        allow_short=_chance(rng, 0.7) or None,
        allow_flip=_chance(rng, 0.5) or None,
        **_later(rng),
    )


def _later(rng: Generator) -> dict[str, Any]:
    """Limits whose draws leave all others of a seed as they were."""
    own = rng.spawn(1)[0]
    return {
        "trade_weight_min": _maybe(own, 1e-4, 0.05, 0.2),
        "positions_max": int(own.integers(0, 8)) if _chance(own, 0.2) else None,
        "exit_days_max": _maybe(own, 0.05, 20.0, 0.15),
    }


def _instrument_limits(rng: Generator, market: Market, equity: float) -> dict[str, InstrumentLimit]:
    if not _chance(rng, 0.3):
        return {}
    return {
        str(name): InstrumentLimit(
            weight_max=_maybe(rng, 0.01, 1.0),
            notional_max=_maybe(rng, 0.01 * equity, equity),
            quantity_max=_maybe(rng, 1.0, 1e5),
        )
        for name in rng.choice(market.instrument_ids, 2)
    }


def _group(rng: Generator, number: int, market: Market) -> GroupLimit:
    by_sector = _chance(rng, 0.5)
    members = rng.random(len(market.price)) < 0.5
    names = frozenset(np.array(market.instrument_ids)[members].tolist()) or frozenset({"none"})
    low, high = _maybe(rng, 0.01, 1.0), _maybe(rng, 0.01, 1.0)
    return GroupLimit(
        name=f"group {number}",
        instrument_ids=frozenset() if by_sector else names,
        sector=str(rng.choice(SECTORS)) if by_sector else "",
        gross_weight_max=_maybe(rng, 0.05, 2.0, 0.6),
        net_weight_min=None if low is None else -low,
        net_weight_max=high,
    )


def _shared(rng: Generator, market: Market, equity: float) -> SharedUse | None:
    if not _chance(rng, 0.2):
        return None
    others = rng.exponential(0.2 * equity, len(market.price))
    limits = SharedLimits(
        gross_notional_max=_maybe(rng, 0.5 * equity, 5.0 * equity, 0.7),
        instrument_notional_max=_maybe(rng, 0.05 * equity, equity, 0.7),
    )
    return SharedUse(limits, float(others.sum()), others)


def _signals(rng: Generator, price: Floats) -> Signals:
    n = len(price)
    side = rng.choice([1.0, 1.0, -1.0], n)
    stop = price * (1.0 - side * 10.0 ** rng.uniform(-4.0, -0.5, n)) * (rng.random(n) < 0.7)
    greedy = _chance(rng, 0.2)
    moments = _chance(rng, 0.3)
    source = np.where(rng.random(n) < 0.5 * moments, Source.RETURN_VOLATILITY, Source.WIN_LOSS)
    return Signals(
        side=side,
        source=source.astype(np.int64),
        win_probability=rng.uniform(0.6 if greedy else 0.4, 1.0 if greedy else 0.7, n),
        payoff=rng.uniform(0.5, 100.0 if greedy else 2.0, n),
        loss_fraction=10.0 ** rng.uniform(-4.0 if greedy else -1.0, 0.0, n),
        expected_return=rng.normal(0.02, 0.05, n),
        volatility=10.0 ** rng.uniform(-3.0 if greedy else -1.5, 0.0, n),
        win_probability_error=rng.uniform(0.0, 0.1, n) if _chance(rng, 0.5) else None,
        confidence=rng.uniform(0.01, 1.0, n) if _chance(rng, 0.3) else None,
        stop_price=stop if _chance(rng, 0.5) else None,
    )


def _parameters(rng: Generator) -> EffectiveParameters:
    return EffectiveParameters(
        kelly_fraction=float(rng.uniform(0.05, 1.0)),
        drawdown_tolerance=DrawdownTolerance(0.7, 0.1) if _chance(rng, 0.2) else None,
        confidence_shrinkage=Shrinkage.NONE if _chance(rng, 0.3) else Shrinkage.BAKER_MCHALE,
        risk_free_rate=float(rng.uniform(0.0, 0.01)),
        cost_rate=float(rng.uniform(0.0, 0.01)) if _chance(rng, 0.5) else 0.0,
        volatility_target=float(rng.uniform(0.01, 1.0)) if _chance(rng, 0.3) else None,
        stop_risk_max=_maybe(rng, 1e-4, 0.1),
        risk_budget=float(rng.uniform(0.01, 1.0)) if _chance(rng, 0.3) else None,
    )
