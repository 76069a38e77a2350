"""The smooth part of a problem at fixed weights: gradient, curvature and the curved limits.

Linear costs, linear limits and tail measures are not in it: they are rows (`rows`, `tails`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from compute.optimize.cutting_planes import without_tails
from compute.optimize.execution import Execution
from compute.optimize.interior_point.budget import closed_forms
from compute.optimize.interior_point.canonicalize import Encoded, encode
from compute.optimize.interior_point.problem_data import Terms, hessian, terms
from compute.optimize.objectives import Blocks, costs
from compute.optimize.problem import Array, ObjectiveKind, Problem
from compute.shapes import padded

# Trades smaller than this bend the cost of impact as this one does: its curvature has no bound.
TRADE_MIN = 1e-6


@dataclass(frozen=True)
class Smooth:
    """What is minimised, and the curved limits g <= 0, at weights w.

    gradient: f64[n], impact costs included; limits: f64[q], g; slopes: f64[q, n]. Of the Sharpe
    ratio the function is reward'w - aversion/2 w'Sw with the aversion where that is stationary.
    """

    problem: Problem
    weights: Array
    gradient: Array
    limits: Array
    slopes: Array
    encoded: Encoded
    point: Terms
    aversion: float

    def curvature(self, prices: Array, paid: Array) -> Array:
        """Hessian f64[n, n] of the function plus prices f64[q] times the limits.

        paid: f64[n], slope of all costs and soft limits, which a Sharpe ratio divides by risk.
        """
        encoded, n, weights = self.encoded, self.problem.size, self.weights
        one: Any = np.ones(())
        whole = padded(weights / encoded.unit, len(encoded.data.lower))
        duals, aversion = _any(prices), _any(self.aversion)
        curve = np.array(hessian(encoded.data, _any(whole), self.point, duals, one, aversion))
        total: Array = curve[:n, :n] / encoded.unit**2
        if encoded.blocks.ratio:
            # Of 1/2 log variance - log reward, whose gradient the function has.
            assert encoded.blocks.quad is not None
            cov_weights, reward = encoded.blocks.quad @ weights, encoded.blocks.linear - paid
            variance = float(weights @ cov_weights)
            earned = self.aversion * variance
            total = total + np.outer(reward, reward) / earned
            total = total - 2.0 * earned * np.outer(cov_weights, cov_weights) / variance**2
        if self.problem.costs.impact is not None:
            size = np.sqrt(np.maximum(np.abs(_trade(self.problem, weights)), TRADE_MIN))
            total = total + np.diag(0.75 * self.problem.costs.impact / size)
        return total


def smooth(problem: Problem, weights: Array, execution: Execution) -> Smooth:
    """The smooth part of a problem at weights f64[n]."""
    bare = replace(problem.limits, cvar_max=None, cdar_max=None, drawdown_max=None)
    stated = replace(problem, objective=without_tails(problem.objective), limits=bare)
    encoded, n = encode(stated, _blocks(stated, execution), execution=execution), problem.size
    aversion: Any = np.ones(())
    if encoded.blocks.ratio:
        assert encoded.blocks.quad is not None
        earned = float(encoded.blocks.linear @ weights) - float(costs(problem, weights))
        aversion = np.float64(earned / (weights @ encoded.blocks.quad @ weights))
    whole = _any(padded(weights / encoded.unit, len(encoded.data.lower)))
    point = terms(encoded.data, whole, _any(np.ones(())), aversion)
    gradient = np.asarray(point.gradient)[:n] / encoded.unit + impact_gradient(problem, weights)
    slopes = np.asarray(point.slopes)[:, :n] / encoded.unit
    limits = np.asarray(point.limits)
    return Smooth(problem, weights, gradient, limits, slopes, encoded, point, float(aversion))


def impact_gradient(problem: Problem, weights: Array) -> Array:
    """Gradient f64[n] of the impact costs, impact |trade|^(3/2)."""
    if problem.costs.impact is None:
        return np.zeros(problem.size)
    trade = _trade(problem, weights)
    slope: Array = 1.5 * problem.costs.impact * np.sqrt(np.abs(trade)) * np.sign(trade)
    return slope


def _blocks(problem: Problem, execution: Execution) -> Blocks | None:
    """The compiled objective where it is not the one that `encode` makes.

    Risk budgets minimise 1/2 w'Sw - lambda b'log w, of which the book that meets them is the
    minimiser without limits: it moves as that minimiser does.
    """
    if problem.objective.kind is not ObjectiveKind.RISK_BUDGET:
        return None
    _, found = closed_forms(problem, 1, execution)
    assert found.quad is not None
    assert found.barrier is not None
    return Blocks(found.linear, found.quad[0], barrier=found.barrier[0])


def _trade(problem: Problem, weights: Array) -> Array:
    return weights if problem.holdings is None else weights - problem.holdings


def _any(values: Array | float) -> Any:
    """The kernel's functions take NumPy arrays as well."""
    return values
