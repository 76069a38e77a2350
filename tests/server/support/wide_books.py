"""Whole requests drawn at random: markets, books, limits, parameters and signals of every kind.

Every part is there or not, most are odd: contracts with margins by rate and by amount, prices at
and below 0, several currencies, sizes from 1e-9 to 1e9, books without equity, edges of all sources.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    sizing_pb2,
    types_pb2,
)
from positionsizing.v1 import optimization_service_pb2 as optimization_pb2

from tests.server.support import wide_parameters
from tests.server.support.wide_limits import Draw, limits_drawn, parameters_drawn
from tests.server.support.wide_parameters import (
    more_limits,
    more_of_signals,
    more_parameters,
    of_money,
)

Floats = np.ndarray[Any, Any]
Kind = market_service_pb2
Edge = sizing_pb2
NAMES = tuple(f"W{i}" for i in range(8))
UNIVERSE = "wide"
RETURNS = 0.015 * np.random.default_rng(3).standard_normal((40, len(NAMES))) + 0.001
"""Of its history, a day each."""
STRESS = {
    "wide-shock": {"W0": -0.4, "W1": 0.2, "W3": -0.1, "W6": 2.0, "W7": -1.0},
    "wide-days": dict(zip(NAMES, (np.prod(1.0 + RETURNS, axis=0) - 1.0).tolist(), strict=True)),
}
"""Stored scenarios: a shock to some, and all days of the history."""
RATES = {"USD": 1.0, "EUR": 1.1, "JPY": 0.0067, "GBP": 1.25, "GBX": 0.0125, "BTC": 60_000.0}
"""Dollars for one unit."""
QUOTED = (
    ("EUR", "USD", 1.1),
    ("USD", "JPY", 1 / 0.0067),
    ("GBP", "USD", 1.25),
    ("BTC", "USD", 6e4),
)
CASH, FUTURE, INVERSE = (
    Kind.CONTRACT_KIND_CASH,
    Kind.CONTRACT_KIND_FUTURE,
    Kind.CONTRACT_KIND_INVERSE_FUTURE,
)


@dataclass
class Wide:
    """One case. `money`: about its size, in dollars; `base`: its currency; `held`: units."""

    seed: int
    money: float
    snapshot: Kind.MarketSnapshot
    base: str
    cash: float
    held: dict[str, float]
    average: dict[str, float]
    stored: limits_pb2.Limits
    parameters: parameter_service_pb2.SizingParameters
    matrices: dict[str, Kind.Matrix]
    signals: list[sizing_pb2.SignalBatch] = field(default_factory=list)
    asked: list[limits_pb2.Limits | None] = field(default_factory=list)
    method: int = 0
    reducing: bool = False
    stress: dict[str, dict[str, float]] = field(default_factory=dict)
    """Returns of what stored stress scenarios name, by their id."""
    spreading: frozenset[str] = frozenset()
    """Those whose shocks spread by the matrix of the request."""


def drawn(seed: int, beside: Wide | None = None) -> Wide:
    """The case of a seed; beside another one, on its market and of about its size."""
    draw = Draw(seed)
    money = draw.one(1e6, 1e6, 1e6, 1e5, 1e9, 1e3, 1.0) if beside is None else beside.money
    base = draw.one("USD", "USD", "EUR", "JPY")
    # Money is said in dollars and then in the base, so that books are alike in every currency.
    if beside is None:
        size = int(draw.rng.integers(1, len(NAMES) + 1))
        snapshot = _market(draw, size, money)
    else:
        size, snapshot = len(beside.snapshot.instrument_ids), beside.snapshot
    cash, held, average = _book(draw, snapshot, money)
    dollars = money
    cash, money = cash / RATES[base], money / RATES[base]
    wide = Wide(
        seed,
        dollars,
        snapshot,
        base,
        cash,
        held,
        average,
        stored=limits_drawn(draw, snapshot, money, request=False),
        parameters=parameters_drawn(draw),
        matrices=_matrices(draw, size),
        reducing=draw.chance(0.05),
        stress=STRESS,
    )
    if draw.chance(0.9):
        _measurable(wide)
    wide.method = draw.one(
        types_pb2.SIZING_METHOD_CLOSED_FORM,
        types_pb2.SIZING_METHOD_JOINT,
        types_pb2.SIZING_METHOD_JOINT,
    )
    for _ in range(2):
        wide.signals.append(_signals(draw, snapshot, wide))
        more = limits_drawn(draw, snapshot, money, request=True) if draw.chance(0.3) else None
        if more is not None and not wide.matrices:
            more.ClearField("joint")
        wide.asked.append(more)
    if seed >= wide_parameters.FROM:
        _since(seed, wide, money)
    return wide


def _since(seed: int, wide: Wide, money: float) -> None:
    """Adds what earlier seeds do without."""
    draw = Draw(seed + 2**40)
    more_parameters(draw, wide.parameters, scenarios="scenario_matrix_id" in wide.matrices)
    for limits in (wide.stored, *wide.asked):
        if limits is not None:
            more_limits(draw, limits, money)
    for signals in wide.signals:
        more_of_signals(draw, signals)
    of_money(draw, wide.parameters, money)


def _measurable(wide: Wide) -> None:
    """Takes back what the market or the request lacks the data for."""
    joint, parameters = wide.stored.joint, wide.parameters
    on_scenarios = ("cvar_max", "cdar_max", "wealth_floor", "wealth_floor_probability")
    if "scenario_matrix_id" not in wide.matrices:
        for name in on_scenarios:
            joint.ClearField(name)
        if parameters.joint_objective.kind in (
            optimization_pb2.OBJECTIVE_KIND_MIN_CVAR,
            optimization_pb2.OBJECTIVE_KIND_CRRA,
        ):
            parameters.ClearField("joint_objective")
    if not wide.matrices:
        joint.ClearField("volatility_max")
        joint.ClearField("var_max")
    if not wide.snapshot.volatility:
        for name in ("volatility_target", "risk_budget", "impact_coefficient"):
            parameters.ClearField(name)
    if not wide.snapshot.average_daily_volume:
        parameters.ClearField("impact_coefficient")


def _market(draw: Draw, size: int, money: float) -> Kind.MarketSnapshot:
    rng = draw.rng
    names = NAMES[:size]
    snapshot = Kind.MarketSnapshot(instrument_ids=names)
    snapshot.as_of_time.GetCurrentTime()
    price = 10.0 ** rng.uniform(0.0, 3.0, size)
    if draw.chance(0.1):
        price *= draw.one(1e-9, 1e-6, 1e6, 1e9)
    lot = rng.choice([1.0, 1.0, 100.0, 0.1, 1e-3, 1e-8], size) if draw.chance(0.5) else None
    if draw.chance(0.4):
        currency = rng.choice(["USD", "EUR", "JPY", "GBX"], size)
        snapshot.currency.extend(currency.tolist())
    for source, to, rate in QUOTED:
        snapshot.exchange_rates.add(from_currency=source, to_currency=to, rate=rate)
    if draw.chance(0.35):
        kind = rng.choice([CASH, CASH, FUTURE, FUTURE, INVERSE], size)
        snapshot.contract_kind.extend(kind.tolist())
        if draw.chance(0.5):
            snapshot.multiplier.extend(rng.choice([1.0, 50.0, 0.1, 1e4], size).tolist())
        if draw.chance(0.7):
            rate = rng.uniform(0.01, 1.0, size)
            snapshot.margin_rate_long.extend(np.where(kind == CASH, 1.0, rate).tolist())
        if draw.chance(0.7):
            snapshot.margin_rate_short.extend(rng.uniform(0.01, 1.5, size).tolist())
        if draw.chance(0.4):
            for side in ("long", "short"):
                amount = np.where(kind == FUTURE, price * rng.uniform(0.02, 0.5, size), 0.0)
                getattr(snapshot, f"initial_margin_{side}").extend(amount.tolist())
            below = (kind == FUTURE) & (rng.random(size) < 0.4)
            price = np.where(below, price * rng.choice([0.0, -1.0, -0.1], size), price)
        if draw.chance(0.3):
            option = (kind == CASH) & (rng.random(size) < 0.4)
            under = np.where(option, price * 10.0 ** rng.uniform(0.0, 2.0, size), 0.0)
            snapshot.underlying_price.extend(np.minimum(under, 1e12).tolist())
            snapshot.delta.extend(rng.uniform(0.05, 1.0, size).tolist())
    if draw.chance(0.3):
        snapshot.quantity_min.extend(rng.choice([0.0, 0.0, 1.0, 10.0], size).tolist())
    if draw.chance(0.2):
        snapshot.notional_min.extend(rng.choice([0.0, 1e-4 * money, 1e-2 * money], size).tolist())
    if draw.chance(0.2):
        snapshot.quantity_max.extend(rng.choice([0.0, 10.0, 1e4], size).tolist())
    if draw.chance(0.3):
        snapshot.fee_rate.extend(rng.uniform(0.0, 0.01, size).tolist())
    if draw.chance(0.2):
        snapshot.fee_fixed.extend(rng.choice([0.0, 1e-6 * money], size).tolist())
        snapshot.fee_min.extend(rng.choice([0.0, 1e-5 * money], size).tolist())
    if draw.chance(0.1):
        snapshot.fee_per_unit.extend((1e-4 * np.abs(price)).tolist())
    if draw.chance(0.15):
        snapshot.halted.extend((rng.random(size) < 0.3).tolist())
    if draw.chance(0.3):
        snapshot.spread.extend(rng.uniform(0.0, 0.002, size).tolist())
    if draw.chance(0.7):
        snapshot.volatility.extend(rng.uniform(0.05, 1.5, size).tolist())
    if draw.chance(0.7):
        volume = np.round(
            money / np.maximum(np.abs(price), 1e-12) * 10.0 ** rng.uniform(-2, 2, size)
        )
        snapshot.average_daily_volume.extend(np.minimum(volume, 1e17).tolist())
    if draw.chance(0.7):
        snapshot.sector.extend(rng.choice(["A", "B"], size).tolist())
    if lot is not None:
        snapshot.lot_size.extend(lot.tolist())
    elif draw.chance(0.5):  # lots worth about a share of the book, whatever the price
        unit = money * 10.0 ** rng.uniform(-9.0, -2.0, size) / np.maximum(np.abs(price), 1e-12)
        snapshot.lot_size.extend(np.clip(unit, 1e-12, 1e12).tolist())
    if draw.chance(0.2):
        stop = np.where((rng.random(size) < 0.6) & (price > 0), 0.9 * price, 0.0)
        snapshot.stop_price.extend(stop.tolist())
    snapshot.price.extend(price.tolist())
    return snapshot


def _book(
    draw: Draw, snapshot: Kind.MarketSnapshot, money: float
) -> tuple[float, dict[str, float], dict[str, float]]:
    """Cash in dollars, units held and average prices; by chance without equity."""
    rng, size = draw.rng, len(snapshot.instrument_ids)
    held: dict[str, float] = {}
    average: dict[str, float] = {}
    worth = 0.0
    kinds = list(snapshot.contract_kind) or [CASH] * size
    currency = list(snapshot.currency)
    share = draw.one(0.0, 0.4, 0.8)
    for i, name in enumerate(snapshot.instrument_ids):
        if rng.random() >= share:
            continue
        price = snapshot.price[i]
        factor = RATES[currency[i]] if currency else 1.0
        factor *= snapshot.multiplier[i] if snapshot.multiplier else 1.0
        unit = factor * (abs(price) or 1.0) if kinds[i] != INVERSE else factor / price
        target = money / size * float(rng.exponential(0.5)) * draw.one(1.0, 1.0, -1.0)
        lot = snapshot.lot_size[i] if snapshot.lot_size else 1.0
        units = target / unit
        if draw.chance(0.7):
            units = float(np.trunc(units / lot) * lot)
        units = round(units, 12)  # quantities are stored so
        if units == 0.0 or abs(units) / lot > 2.0**52 or abs(units) > 1e17:
            continue
        held[name] = units
        if kinds[i] == CASH:
            worth += factor * price * units
        if draw.chance(0.5) and price > 0.0:
            average[name] = price * float(rng.uniform(0.95, 1.05))
    equity = money * draw.one(*[1.0] * 14, 0.2, 0.2, 1e-6, 0.0, -0.1)
    return equity - worth, held, average


def _matrices(draw: Draw, size: int) -> dict[str, Kind.Matrix]:
    rng, names = draw.rng, NAMES[:size]
    found: dict[str, Kind.Matrix] = {}
    if draw.chance(0.6):
        periods = draw.one(2, 20, 60)
        values = 0.02 * rng.standard_t(4, (periods, size)) + rng.normal(0.001, 0.002, size)
        values = np.clip(values, -0.99, 3.0) * draw.one(1.0, 1.0, 1.0, 1e-6, 0.0)
        matrix = Kind.Matrix(kind=Kind.MATRIX_KIND_SCENARIOS, instrument_ids=names)
        matrix.dense.values.extend(values.ravel().tolist())
        if draw.chance(0.3):
            chances = rng.exponential(1.0, periods) + 1e-3
            matrix.scenario_probability.extend((chances / chances.sum()).tolist())
        found["scenario_matrix_id"] = matrix
    if draw.chance(0.5):
        root = 0.02 * rng.standard_normal((size, draw.one(1, size)))
        covariance = root @ root.T * draw.one(1.0, 1.0, 1e-9, 0.0)
        matrix = Kind.Matrix(kind=Kind.MATRIX_KIND_COVARIANCE, instrument_ids=names)
        matrix.dense.values.extend(covariance.ravel().tolist())
        found["covariance_matrix_id"] = matrix
    return found


def _signals(draw: Draw, snapshot: Kind.MarketSnapshot, wide: Wide) -> sizing_pb2.SignalBatch:
    rng = draw.rng
    size = len(snapshot.instrument_ids)
    n = int(rng.integers(1, size + 1))
    chosen = rng.permutation(size)[:n]
    side = rng.choice([1, 1, 2], n)
    batch = sizing_pb2.SignalBatch(
        instrument_ids=[NAMES[i] for i in chosen],
        side=side.tolist(),
        history_universe_id=UNIVERSE,
    )
    sources = [Edge.EDGE_SOURCE_WIN_LOSS, Edge.EDGE_SOURCE_RETURN_VOLATILITY]
    sources += [Edge.EDGE_SOURCE_HISTORY, Edge.EDGE_SOURCE_STORED_HISTORY]
    if "scenario_matrix_id" in wide.matrices:
        sources += [Edge.EDGE_SOURCE_SCENARIOS] * 3
    source = [draw.one(*sources)] * n if draw.chance(0.7) else rng.choice(sources, n).tolist()
    batch.edge_source.extend(source)
    batch.win_probability.extend(rng.choice([0.5, 0.55, 0.6, 0.9, 1.0, 0.0], n).tolist())
    batch.payoff.extend(rng.choice([0.01, 0.02, 1.0, 2.0, 1e-9, 1e6], n, p=P_ODD).tolist())
    batch.loss_fraction.extend(rng.choice([0.01, 0.02, 1.0, 0.5, 1e-9, 1e-6], n, p=P_ODD).tolist())
    batch.expected_return.extend(
        rng.choice([0.002, 0.004, 0.01, 0.0, 1e-9, 0.5, -0.003], n, p=P_MEAN).tolist()
    )
    batch.volatility.extend(
        rng.choice([0.02, 0.04, 1e-6, 5.0], n, p=[0.5, 0.4, 0.05, 0.05]).tolist()
    )
    lengths = rng.integers(0 if draw.chance(0.1) else 2, 20, n)
    outcome = np.where(rng.random(lengths.sum()) < 0.6, 0.02, -0.015) * rng.uniform(
        0.5, 1.5, lengths.sum()
    )
    if not all(s != Edge.EDGE_SOURCE_HISTORY for s in source):
        batch.history_length.extend(lengths.tolist())
        batch.history_outcome.extend(outcome.tolist())
    if draw.chance(0.2):
        batch.confidence.extend(rng.uniform(1e-6, 1.0, n).tolist())
    elif draw.chance(0.3):
        batch.win_probability_error.extend(rng.uniform(0.0, 0.1, n).tolist())
        batch.expected_return_error.extend(rng.uniform(0.0, 0.003, n).tolist())
    if draw.chance(0.3):
        price = np.array([snapshot.price[i] for i in chosen])
        away = np.where(
            side == 1, 1.0 - 10.0 ** rng.uniform(-4, -0.3, n), 1.0 + rng.uniform(0, 1, n)
        )
        stop = np.where((price > 0.0) & (rng.random(n) < 0.7), price * away, 0.0)
        batch.stop_price.extend(stop.tolist())
    if draw.chance(0.2):
        batch.holding_periods.extend(rng.choice([0.0, 1.0, 20.0], n).tolist())
    if draw.chance(0.1):
        batch.edge_half_life_periods.extend(rng.choice([0.0, 1.0, 20.0], n).tolist())
    return batch


P_ODD = [0.38, 0.34, 0.15, 0.1, 0.02, 0.01]
P_MEAN = [0.3, 0.3, 0.15, 0.05, 0.05, 0.05, 0.1]
