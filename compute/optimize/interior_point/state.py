"""What the interior point carries from one iteration to the next, and what stays the same."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from compute.optimize.interior_point.diagonal import diagonal
from compute.optimize.interior_point.kkt_system import (
    Array,
    Parts,
    Point,
    join,
    present,
    sizes,
    split,
)
from compute.optimize.interior_point.problem_data import Data, Terms

# Share of impact costs that counts for the size: a trade that nothing forces is so small that its
# price is of the size of the rest. Beyond one over this the iteration would lose its way.
DEAR = 1e-3


class Residual(NamedTuple):
    """The KKT conditions at a state: what should be zero, and mu, the mean of s z and e q.

    missed: of the impact costs, see `impact`; empty without them.
    ray: the derivative of the Lagrangian by the logarithm of the aversion; 0 without a ratio.
    """

    point: Terms
    dual: Point
    primal: Array
    equality: Array
    missed: Array
    ray: Array
    mu: Array


class State(NamedTuple):
    """Where the iteration stands.

    x: primal point; s, z: slack and dual of every inequality; y: f64[m] duals of equality rows;
    e, q: violation of the soft inequalities and price - z, which is carried along because
    subtracting would lose it (empty if none is soft); roots: of the trades, see `impact` (empty
    without impact costs); aversion: the multiple of Q, 1 without a
    ratio; iteration: steps taken; kkt: what is left of the KKT conditions there; error: its size,
    see `error`.
    """

    x: Point
    s: Array
    z: Array
    e: Array
    q: Array
    y: Array
    roots: Array
    aversion: Array
    iteration: Array
    kkt: Residual
    error: Array


class Best(NamedTuple):
    """The best state met, as far as an answer needs it.

    w, z, y as in `State`; gradient, slopes as in `Terms`; error: f64[3]; violation: f64[], the sum
    of e; iteration: f64[].
    """

    w: Array
    z: Array
    y: Array
    gradient: Array
    slopes: Array
    error: Array
    violation: Array
    iteration: Array


def kept(state: State) -> Array:
    """What is kept of a state, in one vector: choosing between two vectors is one operation."""
    point = state.kkt.point
    report = [*state.error, jnp.sum(state.e), state.iteration * 1.0]
    parts = [state.x.w, state.z, state.y, point.gradient, point.slopes.ravel()]
    return jnp.concatenate([*parts, jnp.stack(report)])


def kept_size(data: Data) -> int:
    """Length of that vector."""
    n, m = data.lower.shape[0], data.rows.shape[0]
    *_, limits = lengths = sizes(data)
    return (2 + limits) * n + sum(lengths) + m + 5


def best_of(data: Data, vector: Array) -> Best:
    """That vector taken apart."""
    n, m = data.lower.shape[0], data.rows.shape[0]
    *_, limits = lengths = sizes(data)
    parts = (n, sum(lengths), m, n, limits * n, 3, 1, 1)
    ends = [sum(parts[: i + 1]) for i in range(len(parts) - 1)]
    w, z, y, gradient, slopes, error, violation, iteration = jnp.split(vector, ends)
    return Best(w, z, y, gradient, slopes.reshape(limits, n), error, violation[0], iteration[0])


class Frame(NamedTuple):
    """What stays the same over the iterations.

    scale: of the objective; mask: 1 where an inequality exists; price: scaled, of every inequality
    (infinite where hard); pairs: number of complementarity pairs; lag: see LAG.
    """

    scale: Array
    mask: Array
    price: Array
    pairs: Array
    lag: Array


class Step(NamedTuple):
    """A direction in all the variables of `State`; `ray`: the relative change of the aversion.

    With a ratio x, s and e are those of the book times the aversion, over the aversion of now.
    """

    x: Point
    s: Array
    z: Array
    e: Array
    y: Array
    roots: Array
    ray: Array


def objective_scale(data: Data) -> Array:
    """One over the size of the objective's gradient and curvature at weights of order 1."""
    top = jnp.max(jnp.abs(data.linear))
    if data.quad is not None and data.sharpe is None:
        top = jnp.maximum(top, 0.25 * jnp.max(diagonal(data.quad)))
    if data.returns is not None:
        assert data.prob is not None
        drift = jnp.max(jnp.abs(data.returns @ data.prob))
        weight = data.growth if data.growth is not None else jnp.zeros(())
        if data.crra is not None:
            weight = weight + data.crra[0]
            if data.first is not None:
                # Other chances than the stated ones count in logarithms, by which no mean is zero.
                size = jnp.max(jnp.abs(data.returns) @ data.prob)
                drift = jnp.where(data.crra[2] > 0.0, size, drift)
        top = jnp.maximum(top, weight * drift)
    if data.cost is not None:
        top = jnp.maximum(top, jnp.max(data.cost))
    if data.impact is not None:
        top = jnp.maximum(top, DEAR * jnp.max(data.impact))
    return data.finer * jnp.where(top > 0.0, 1.0 / jnp.where(top > 0.0, top, 1.0), 1.0)


def frame(data: Data, lag: Array) -> Frame:
    """Scale, mask and prices of a problem."""
    scale, mask = objective_scale(data), present(data)
    price = jnp.full_like(mask, jnp.inf)
    soft = jnp.zeros_like(mask)
    if data.price is not None:
        hard = Parts(*(jnp.full_like(part, jnp.inf) for part in split(data, mask)))
        tail = data.price_tail if data.price_tail is not None else jnp.inf
        price = scale * join(
            hard._replace(
                row_low=data.price,
                row_high=data.price,
                turnover=jnp.full_like(hard.turnover, tail),
                gross=jnp.full_like(hard.gross, tail),
                limits=jnp.full_like(hard.limits, tail),
            )
        )
        soft = mask * jnp.isfinite(price)
    return Frame(scale, mask, price, jnp.maximum(jnp.sum(mask) + jnp.sum(soft), 1.0), lag)


def room(fixed: Frame, state: State, primal: Array) -> Array:
    """c(x), zero where there is no inequality."""
    value = fixed.mask * (primal + state.s)
    return value - state.e if state.e.shape[0] else value
