"""The risk of a book by every measure that a limit speaks of, straight from the definitions."""

from __future__ import annotations

from math import inf, log, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from positionsizing.v1 import limits_pb2

from tests.server.support.wide_books import Wide


def measured(case: Wide, names: list[str], book: list[float]) -> dict[str, Any]:
    scenarios = case.matrices.get("scenario_matrix_id")
    w = np.array(book)
    if scenarios is None:
        matrix = case.matrices["covariance_matrix_id"]
        n = len(matrix.instrument_ids)
        covariance = np.array(matrix.dense.values).reshape(n, n)
        risk = sqrt(max(float(w @ covariance @ w), 0.0))
        return {
            "volatility_max": lambda joint: risk,
            "var_max": lambda joint: _z(joint) * risk,
        }
    returns = np.array(scenarios.dense.values).reshape(-1, len(names))
    p = np.array(scenarios.scenario_probability)
    p = p if len(p) else np.full(len(returns), 1.0 / len(returns))
    x = returns @ w
    mean = float(p @ x)
    risk = sqrt(float(p @ (x - mean) ** 2) / (1.0 - float(p @ p)))
    path = np.concatenate([[0.0], np.cumsum(x)])
    depth = (np.maximum.accumulate(path) - path)[1:]
    cash = case.parameters.risk_free_rate * (1.0 - float(np.abs(w).sum()))

    def floor(joint: limits_pb2.JointLimits) -> float:
        power = log(joint.wealth_floor_probability) / log(joint.wealth_floor)
        wealth = 1.0 + cash + x
        if wealth.min() <= 0.0:
            return inf
        return log(float(p @ np.exp(-power * np.log(wealth))))

    return {
        "volatility_max": lambda joint: risk,
        "var_max": lambda joint: _z(joint) * risk - mean,
        "cvar_max": lambda joint: _tail(-x, p, _level(joint, "cvar_level")),
        "cdar_max": lambda joint: _tail(depth, p, _level(joint, "cdar_level")),
        "wealth_floor": floor,
    }


def _level(joint: limits_pb2.JointLimits, name: str) -> float:
    return float(getattr(joint, name)) if joint.HasField(name) else 0.95


def _z(joint: limits_pb2.JointLimits) -> float:
    return NormalDist().inv_cdf(_level(joint, "var_level"))


def _tail(losses: np.ndarray[Any, Any], p: np.ndarray[Any, Any], level: float) -> float:
    """Mean of the worst 1 - level of the probability."""
    left, total = 1.0 - level, 0.0
    for place in np.argsort(-losses):
        part = min(float(p[place]), left)
        total += part * float(losses[place])
        left -= part
        if left <= 0.0:
            break
    return total / (1.0 - level)
