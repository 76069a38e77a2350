"""What `wide_books` draws since seed 800000, apart from what earlier seeds are made of."""

from __future__ import annotations

import numpy as np
from positionsizing.v1 import limits_pb2, parameter_service_pb2, sizing_pb2
from positionsizing.v1 import optimization_service_pb2 as optimization_pb2

from tests.server.support.wide_limits import Draw

FROM = 800_000
"""Earlier seeds stay the books that they were."""
OBJECTIVES = (
    "LOG_GROWTH",
    "QUADRATIC_GROWTH",
    "MIN_CDAR",
    "MIN_MAX_DRAWDOWN",
    "RISK_BUDGET",
    "COMBINATION",
    "MAX_DIVERSIFICATION",
)
TERMS = ("MEAN_VARIANCE", "MIN_VARIANCE", "MIN_CVAR", "MAX_RETURN", "LOG_GROWTH")
ON_SCENARIOS = {"MIN_CDAR", "MIN_MAX_DRAWDOWN", "MIN_CVAR", "LOG_GROWTH"}


def more_parameters(
    draw: Draw, parameters: parameter_service_pb2.SizingParameters, *, scenarios: bool
) -> None:
    """Adds parameters, each there or not."""
    if parameters.HasField("drawdown_floor"):
        multiplier = draw.maybe(0.6, 1.0, 1.5, 4.0, 100.0)
        if multiplier is not None:
            parameters.drawdown_multiplier = multiplier
    if not parameters.HasField("kelly_fraction") and draw.chance(0.3):
        tolerance = parameters.drawdown_tolerance
        tolerance.wealth_floor = draw.one(1e-6, 0.5, 0.9)
        tolerance.probability = draw.one(1e-6, 0.1, 0.9)
    for name, choices in (
        ("prior_wins", (1e-6, 1.0, 1e6)),
        ("prior_losses", (1e-6, 1.0, 1e6)),
        ("interval_probability", (1e-6, 0.5, 0.999999)),
        ("periods_per_year", (1.0, 252.0, 1e4)),
    ):
        value = draw.maybe(0.1, *choices)
        if value is not None:
            setattr(parameters, name, value)
    if draw.chance(0.1):
        parameters.plan_periods = draw.one(1, 3, 20)
    if draw.chance(0.15):
        parameters.lot_choice = draw.one(1, 2)
    if draw.chance(0.15):
        parameters.correlation_penalty = draw.one(1, 2, 3)
    if draw.chance(0.15):
        _objective(draw, parameters.joint_objective, scenarios=scenarios)


def of_money(draw: Draw, parameters: parameter_service_pb2.SizingParameters, money: float) -> None:
    """Adds a floor in money and edges that are uncorrelated, or neither."""
    if draw.chance(0.1):
        parameters.equity_floor = draw.one(1e-3, 0.5, 0.9, 2.0) * money
    if draw.chance(0.04):
        robust = parameters.robust
        robust.set, robust.radius = parameter_service_pb2.UNCERTAINTY_SET_UNCORRELATED, 0.0
        robust.periods, robust.probability = draw.one(1.0, 100.0, 1e6), draw.one(1e-6, 0.1, 0.9)


def _objective(draw: Draw, objective: optimization_pb2.Objective, *, scenarios: bool) -> None:
    kind = draw.one(*OBJECTIVES)
    if kind in ON_SCENARIOS and not scenarios:
        kind = "QUADRATIC_GROWTH"
    objective.Clear()
    objective.kind = optimization_pb2.ObjectiveKind.Value(f"OBJECTIVE_KIND_{kind}")
    if kind == "MIN_CDAR":
        objective.tail_level = draw.one(0.5, 0.9, 0.99)
    if kind in ("RISK_BUDGET", "MAX_DIVERSIFICATION"):
        objective.gross_weight = draw.one(0.1, 1.0, 3.0)
    if kind == "COMBINATION":
        chosen = [term for term in TERMS if scenarios or term not in ON_SCENARIOS]
        for term in draw.rng.permutation(chosen)[:2]:
            added = objective.terms.add(weight=draw.one(1e-3, 1.0, 10.0))
            added.objective.kind = optimization_pb2.ObjectiveKind.Value(f"OBJECTIVE_KIND_{term}")


def more_limits(draw: Draw, limits: limits_pb2.Limits, money: float) -> None:
    """Adds limits, each there or not."""
    for own in limits.instruments:
        if draw.chance(0.5):
            own.notional_max = draw.one(0.0, 0.05 * money, 1e12)


def more_of_signals(draw: Draw, signals: sizing_pb2.SignalBatch) -> None:
    """Adds costs of single lines, or none."""
    if draw.chance(0.15):
        n = len(signals.instrument_ids)
        costs = draw.rng.choice(np.array([0.0, 1e-4, 0.01]), n)
        signals.cost_rate.extend(costs.tolist())
