"""How the sizes move with the inputs: implicit differentiation at the KKT point, one-sided.

Along a family of problems p(e) with the solution w at e = 0, the directional derivative d of the
sizes solves the quadratic program (Bonnans and Shapiro 2000, section 5.2)

    minimise  1/2 d'Hd + h'd    H = Hessian of the Lagrangian, h = its derivative along p
    subject to  limits with a positive price move with their bound,
                limits that hold without a price may only be left inwards,
                limits that are slack do not matter.

Where no limit holds without a price this is linear and the derivative is the same on both sides.
At a kink (a limit about to bind, a trade about to start, a scenario about to join the tail) left
and right differ, and both are given.

Read `rows` for the limits as rows of that program, `tails` for the tail measures, `direction` for
its answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compute.optimize.execution import JUST_IN_TIME, Execution
from compute.optimize.problem import Array, Multipliers, ObjectiveKind, Problem, Solution, Status
from compute.optimize.sensitivity.direction import Curve, derivative, prices_of
from compute.optimize.sensitivity.lagrangian import impact_gradient
from compute.optimize.sensitivity.program import STEP
from compute.optimize.sensitivity.rows import HELD, Bounds, Neighbours, State, state

__all__ = ["Family", "Sides", "sensitivity"]

TIES = (1e-9, 1e-8, 1e-7, 1e-6)  # of typical losses; the first that gives prices counts

Family = Callable[[float], Problem]


@dataclass(frozen=True)
class Sides:
    """Derivatives f64[n] of the weights as the parameter falls (left) and rises (right).

    NaN where the quadratic program has no answer, or not a single one: the weights are not the
    only best ones, limits have prices in more than one way, or no book is left on that side.
    """

    left: Array
    right: Array


def sensitivity(solution: Solution, family: Family, execution: Execution = JUST_IN_TIME) -> Sides:
    """d weights / d e of the problems `family(e)` around e = 0, of which `solution` is optimal.

    The family may change means, covariance, scenarios, limits, costs or holdings, smoothly and
    without changing which of them are present. ValueError unless the solution is OPTIMAL.
    """
    if solution.status is not Status.OPTIMAL or solution.multipliers is None:
        raise ValueError("only an optimal solution has sensitivities")
    weights = solution.weights
    now, ahead, behind = (state(family(step), weights, execution) for step in (0.0, STEP, -STEP))
    paid = _paid(now, weights, solution.multipliers)
    curve = now.smooth.curvature(np.zeros(len(now.smooth.limits)), paid)
    bounds = _bounds(now, weights, solution.multipliers, np.diagonal(curve))
    slopes = [np.abs(now.smooth.gradient).max(), np.abs(curve @ weights).max(), now.toll.max()]
    right = Neighbours(now, ahead, behind, weights)
    left = Neighbours(now, behind, ahead, weights)
    nothing = np.full(len(weights), np.nan)
    for tie in TIES:
        try:
            program = right.program(bounds, tie)
        except ArithmeticError:
            break
        scale = float(max([*slopes, np.abs(program.cost).max()])) or 1.0
        price = prices_of(program, scale)
        if price is not None:
            bent = Curve(lambda duals: now.smooth.curvature(duals, paid), scale, execution)
            return Sides(
                left=-derivative(left.program(bounds, tie), price, bent),
                right=derivative(program, price, bent),
            )
    return Sides(nothing, nothing)


def _paid(now: State, weights: Array, prices: Multipliers) -> Array:
    """Slope f64[n] of costs and of the soft limits that give way."""
    limits = now.limits
    value, soft = limits.rows @ weights, np.isfinite(limits.price)
    over = (value > limits.row_max + HELD) * 1.0 - (value < limits.row_min - HELD)
    price = np.where(soft, limits.price, 0.0) * over
    slope = now.toll * prices.trade_slope + impact_gradient(now.problem, weights)
    return np.asarray(slope + price @ limits.rows)


def _bounds(now: State, weights: Array, prices: Multipliers, bend: Array) -> Bounds:
    """The box's prices, of a Sharpe ratio times the risk it is divided by."""
    factor = 1.0
    if now.problem.objective.kind is ObjectiveKind.MAX_SHARPE:
        quad = now.smooth.encoded.blocks.quad
        assert quad is not None
        factor = float(np.sqrt(weights @ quad @ weights))
    trade = prices.trade_max
    lower, upper = factor * (prices.lower + trade), factor * (prices.upper + trade)
    return Bounds(lower, upper, bend)
