"""What the scenarios add to the Hessian, kept from one iteration to the next while it holds.

Forming X diag(curve) X' takes T n^2 operations and all else in an iteration T n or n^3. Wealth
hardly moves between iterations, and so does the curve: the matrix is formed again only where its
trace would change by more than a share. A Newton step with it leaves about that share of the dual
residual, which is always that of the problem itself: what converges is the same.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from compute.optimize.interior_point.problem_data import (
    Array,
    Data,
    Terms,
    scenario_curve,
    scenario_hessian,
)

DRIFT = 0.1  # share of the trace
DRIFT_TILTED = 0.01  # the same under a drawdown-risk limit, whose weights of scenarios move faster


class Curvature(NamedTuple):
    """The matrix f64[n, n] and the curve f64[T] it was formed with; empty without scenarios.

    size: f64[T], what a curve of 1 adds to the trace.
    """

    curve: Array
    matrix: Array
    size: Array


def formed(data: Data, point: Terms, duals: Array, scale: Array) -> Curvature:
    """What the scenarios add at a point."""
    if data.returns is None:
        return Curvature(jnp.zeros(0), jnp.zeros((0, 0)), jnp.zeros(0))
    curve = scenario_curve(data, point, duals)
    matrix = scenario_hessian(data, point, duals, scale, curve)
    return Curvature(curve, matrix, jnp.sum(data.returns**2, axis=0))


def refreshed(
    data: Data, point: Terms, duals: Array, scale: Array, kept: Curvature, exact: Array
) -> Curvature:
    """What is kept, or formed anew where it has drifted or `exact` (bool) asks for it."""
    if data.returns is None:
        return kept
    curve = scenario_curve(data, point, duals)
    allowed: Array | float = DRIFT
    if data.exponent is not None:
        allowed = jnp.where(jnp.isfinite(data.exponent[1]), DRIFT_TILTED, DRIFT)
    good = jnp.abs(curve - kept.curve) @ kept.size <= allowed * (jnp.abs(curve) @ kept.size)
    return lax.cond(
        good & ~exact,
        lambda: kept,
        lambda: Curvature(curve, scenario_hessian(data, point, duals, scale, curve), kept.size),
    )
