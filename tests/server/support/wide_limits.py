"""Limits and parameters drawn at random for `wide_books`, each there or not."""

from __future__ import annotations

from typing import Any

import numpy as np
from positionsizing.v1 import limits_pb2, market_service_pb2, parameter_service_pb2
from positionsizing.v1 import optimization_service_pb2 as optimization_pb2

Kind = market_service_pb2
OBJECTIVES = ("MEAN_VARIANCE", "MIN_VARIANCE", "MIN_CVAR", "MAX_RETURN", "CRRA", "MAX_SHARPE")


class Draw:
    """Draws from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([11, seed])

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def one(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def maybe(self, probability: float, *choices: float) -> float | None:
        """None, or one of the choices; 0 and other ends that leave nothing more seldom."""
        if not self.chance(probability):
            return None
        chosen = self.one(*choices)
        return self.one(*choices) if chosen == 0.0 else chosen

    def log(self, low: float, high: float) -> float:
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))


def limits_drawn(
    draw: Draw, snapshot: Kind.MarketSnapshot, money: float, *, request: bool
) -> limits_pb2.Limits:
    rng, names = draw.rng, list(snapshot.instrument_ids)
    p = 0.15 if request else 0.3
    fields = {
        "weight_max": draw.maybe(p + 0.2, 0.0, 0.05, 0.2, 0.5, 1.0, 1e4, 1e9),
        "notional_max": draw.maybe(p, 0.0, 0.1 * money, money, 1e12),
        "gross_notional_max": draw.maybe(p, 0.5 * money, 3.0 * money, 1e15),
        "leverage_max": draw.maybe(p + 0.1, 0.0, 0.3, 1.0, 3.0, 1e9),
        "turnover_max": draw.maybe(p, 0.0, 0.05, 0.3, 1.0, 1e9),
        "cash_buffer": draw.maybe(p, 0.0, 0.02, 0.3, 1.0),
        "fee_rate": draw.maybe(p, 0.0, 1e-4, 0.02),
        "trade_notional_min": draw.maybe(p, 1e-4 * money, 0.05 * money),
        "trade_notional_max": draw.maybe(0.5 * p, 0.01 * money, 0.3 * money, 1e15),
        "trade_weight_min": draw.maybe(0.5 * p, 1e-4, 0.02),
        "positions_max": draw.maybe(0.5 * p, 0, 1, 2, 4),
    }
    if snapshot.average_daily_volume:
        fields["adv_trade_max"] = draw.maybe(p, 0.01, 0.1, 1e3)
        fields["adv_position_max"] = draw.maybe(p, 0.02, 0.3, 1e6)
        fields["exit_days_max"] = draw.maybe(0.5 * p, 0.5, 5.0)
        fields["participation_rate"] = draw.maybe(0.5 * p, 0.02, 0.2)
    if not request:
        fields["short_margin_rate"] = draw.maybe(0.3, 0.0, 0.2, 1.0, 1.5)
        fields["allow_short"] = draw.maybe(0.8, True, True, False)
        fields["allow_flip"] = draw.maybe(0.5, True, False)
        if draw.chance(0.3):
            fields["sale_proceeds"] = draw.one(1, 2)
    if draw.chance(0.5 * p):
        fields["stop_required"] = True
    net = sorted(rng.choice([-0.5, -0.1, 0.0, 0.1, 0.4, 1.0, 1e6], 2, replace=False).tolist())
    if draw.chance(p):
        fields["net_weight_max"] = net[1]
    if draw.chance(0.5 * p):
        fields["net_weight_min"] = net[0]
    given = {name: value for name, value in fields.items() if value is not None}
    limits = limits_pb2.Limits(**given)
    if draw.chance(0.2):
        limits.currency = draw.one("USD", "EUR")
    if draw.chance(p):
        own = limits.instruments.add(instrument_id=draw.one(*names))
        own.weight_max = draw.one(0.0, 0.05, 0.3)
        if draw.chance(0.5):
            own.quantity_max = draw.one(0.0, 10.0, 1e5)
    if draw.chance(p):
        group = limits.groups.add(name="members")
        group.instrument_ids.extend(names[:: draw.one(1, 2)])
        _bound_group(draw, group)
    if draw.chance(p) and snapshot.sector:
        _bound_group(draw, limits.groups.add(name="sector", sector="A"))
    if draw.chance(0.5 * p):
        limits.restricted_instrument_ids.append(draw.one(*names))
    _joint(draw, limits, names, p)
    _stress(draw, limits, p)
    return limits


def _bound_group(draw: Draw, group: limits_pb2.GroupLimit) -> None:
    for name, choices in (
        ("gross_weight_max", (0.0, 0.1, 0.5, 1e6)),
        ("net_weight_max", (0.0, 0.2, 1.0)),
        ("net_weight_min", (-1.0, -0.1, 0.0)),
    ):
        if draw.chance(0.5):
            setattr(group, name, draw.one(*choices))
    if not any(group.HasField(name) for name in ("gross_weight_max", "net_weight_max")):
        group.gross_weight_max = 0.4


def _joint(draw: Draw, limits: limits_pb2.Limits, names: list[str], p: float) -> None:
    joint = limits.joint
    for name, choices in (
        ("volatility_max", (1e-9, 2e-3, 1e-2, 1e9)),
        ("var_max", (1e-3, 2e-2)),
        ("cvar_max", (1e-3, 2e-2)),
        ("cdar_max", (1e-2, 0.1)),
    ):
        if draw.chance(0.5 * p):
            setattr(joint, name, draw.one(*choices))
    for name in ("var_level", "cvar_level", "cdar_level"):
        if draw.chance(0.2 * p):
            setattr(joint, name, draw.one(0.5, 0.9, 0.99, 0.99999))
    if draw.chance(0.3 * p):
        joint.wealth_floor, joint.wealth_floor_probability = draw.one(0.5, 0.9), draw.one(0.05, 0.3)
    for number in range(int(draw.chance(p)) + int(draw.chance(0.3 * p))):
        row = joint.linear.add(
            name=f"row {number}",
            instrument_ids=names,
            coefficients=draw.rng.normal(size=len(names)) * draw.one(1.0, 1.0, 1e-6, 1e6),
            upper=draw.one(0.0, 0.02, 0.2, 1e9),
        )
        if draw.chance(0.3):
            row.lower = draw.one(-1.0, -0.05, -1e9)
        if draw.chance(0.25):
            row.soft_price = draw.one(1e-6, 1e-3, 10.0)


def _stress(draw: Draw, limits: limits_pb2.Limits, p: float) -> None:
    """Losses in stored scenarios, drawn apart so that all else stays as it was drawn."""
    rng = draw.rng.spawn(1)[0]
    for scenario_id in ("wide-shock", "wide-days"):
        if rng.random() < 0.5 * p:
            loss_max = float(rng.choice([1e-9, 0.005, 0.05, 0.3, 1e9]))
            limits.joint.stress.add(scenario_id=scenario_id, loss_max=loss_max)


def parameters_drawn(draw: Draw) -> parameter_service_pb2.SizingParameters:
    fields = {
        "kelly_fraction": draw.maybe(0.5, 1e-6, 0.1, 0.25, 0.5, 0.5, 1.0, 1.0),
        "risk_free_rate": draw.maybe(0.3, 0.0, 5e-4, -1e-4),
        "cost_rate": draw.maybe(0.3, 0.0, 2e-4, 0.02),
        "confidence_shrinkage": draw.maybe(0.3, 1, 2, 3),
        "volatility_target": draw.maybe(0.2, 1e-6, 0.05, 0.3),
        "stop_risk_max": draw.maybe(0.2, 1e-9, 1e-3, 0.02),
        "risk_budget": draw.maybe(0.2, 1e-9, 0.02, 0.2, 1000.0),
        "trade_rate": draw.maybe(0.1, 1e-6, 0.3, 1.0),
        "impact_coefficient": draw.maybe(0.1, 0.0, 0.7, 10.0),
        "no_trade_region": draw.maybe(0.2, 1, 2, 3),
        "drawdown_floor": draw.maybe(0.1, 0.5, 0.9),
    }
    given = {name: value for name, value in fields.items() if value is not None}
    parameters = parameter_service_pb2.SizingParameters(**given)
    if draw.chance(0.3):
        kind = draw.one(*OBJECTIVES)
        parameters.joint_objective.kind = optimization_pb2.ObjectiveKind.Value(
            f"OBJECTIVE_KIND_{kind}"
        )
        if draw.chance(0.7):
            parameters.joint_objective.risk_aversion = draw.one(0.0, 0.5, 3.0, 50.0)
    if draw.chance(0.15):
        parameters.robust.set = draw.one(1, 2, 3, 4, 5)
        parameters.robust.radius = draw.one(0.0, 1e-3, 0.05)
    return parameters
