"""The Sharpe ratio as a convex program over rays, one more column of the Newton system.

    max_{k > 0, w}   k (linear'w - costs(w)) - k^2/2 w'Qw   =   1/2 max_w Sharpe(w)^2

is convex in (k w, k): limits on w are cones there, costs their perspective. The best k of a book
is the risk aversion at which it is optimal. A step is taken in (k w, k), in units of the k of now,
and the state then goes back to w.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from compute.optimize.interior_point.kkt_system import Array, Point
from compute.optimize.interior_point.problem_data import VARIANCE_FLOOR, Data
from compute.optimize.interior_point.state import Frame, Residual, State, Step, room

INERT_MIN = 1e-4  # of the curvature by the aversion: what it costs an iteration that has converged


def first_aversion(data: Data, weights: Array) -> Array:
    """Of the size that the best one of these weights has, and positive."""
    assert data.quad is not None
    variance = jnp.maximum(weights @ data.quad @ weights, VARIANCE_FLOOR)
    return jnp.maximum(jnp.abs(data.linear) @ jnp.abs(weights), VARIANCE_FLOOR) / variance


def derivative(data: Data, fixed: Frame, state: State, primal: Array, equality: Array) -> Array:
    """k d/dk of the Lagrangian of the ratio over books k w, per k."""
    assert data.quad is not None
    w = state.x.w
    value = state.aversion * (w @ data.quad @ w) - data.linear @ w
    if data.cost is not None:
        value = value + data.cost @ state.x.t
    if data.impact is not None:
        value = value + data.impact @ jnp.abs(data.trade(w)) ** 1.5
    return fixed.scale * value - state.z @ room(fixed, state, primal) + state.y @ equality


class Ray(NamedTuple):
    """How a step changes with the aversion.

    change: of the step, per relative change of the aversion. quad_gradient: f64[n], that is
    scale * aversion * Qw. value: c(x). bend: second derivative by the aversion along that change.
    """

    change: Step
    quad_gradient: Array
    value: Array
    bend: Array


def right_side(data: Data, fixed: Frame, state: State) -> Residual:
    """The residual whose step, towards no slack at all, is the change with the aversion."""
    free = (data.upper > data.lower).astype(jnp.float64)
    none = Point(free * _quad_gradient(data, fixed, state), 0.0 * state.x.t, 0.0 * state.x.u)
    return state.kkt._replace(dual=none)


def _quad_gradient(data: Data, fixed: Frame, state: State) -> Array:
    assert data.quad is not None
    return fixed.scale * state.aversion * (data.quad @ state.x.w)


def ray_of(data: Data, fixed: Frame, state: State, change: Step) -> Ray:
    """The column of the aversion; change: the step of `right_side`."""
    res, quad_gradient = state.kkt, _quad_gradient(data, fixed, state)
    ray = Ray(change, quad_gradient, room(fixed, state, res.primal), jnp.zeros(()))
    # Books of any size may have the same ratio: then only this keeps the aversion where it is.
    inert = jnp.maximum(jnp.sqrt(res.mu), INERT_MIN)
    return ray._replace(bend=(1.0 + inert) * (quad_gradient @ state.x.w) + _along(ray, res, change))


def _along(ray: Ray, res: Residual, step: Step) -> Array:
    """How the derivative by the aversion changes with a step."""
    return ray.quad_gradient @ step.x.w - ray.value @ step.z + res.equality @ step.y


def along_ray(state: State, ray: Ray, step: Step) -> Step:
    """The step with the change of aversion that belongs to it, as seen on books times aversion."""
    res, change = state.kkt, ray.change
    k = -(res.ray + _along(ray, res, step)) / ray.bend
    x = [a + k * (b + c) for a, b, c in zip(step.x, change.x, state.x, strict=True)]
    return Step(
        Point(*x),
        step.s + k * (change.s + state.s),
        step.z + k * change.z,
        step.e + k * (change.e + state.e),
        step.y + k * change.y,
        step.roots + k * change.roots,
        k,
    )


def settled(state: State, step: Step, length: Array) -> State:
    """The state that a step along a ray has led to, from the book times aversion to the book."""
    stretch = 1.0 + length * step.ray
    return state._replace(
        x=Point(*(part / stretch for part in state.x)),
        s=state.s / stretch,
        e=state.e / stretch,
        aversion=state.aversion * stretch,
    )
