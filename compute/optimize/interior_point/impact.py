"""Impact costs c |x|^(3/2) of trades x = w - holdings, through the roots r of the trades.

The price 3/2 c sign(x) sqrt|x| rises with infinite slope where nothing is traded, and Newton's
method for it goes to and fro there for ever. So the price is 3/2 c r with a variable r of its own,
and the trade is what is linearised, whose slope is finite everywhere:

    x - r |r| = 0,     dx - 2 |r| dr = r |r| - x,     d price = stiffness (dx + x - r |r|).

A name that nobody trades then needs no smoothing: its r is zero, and its weight what is held.
"""

from __future__ import annotations

import jax.numpy as jnp

from compute.optimize.interior_point.problem_data import Array, Data
from compute.optimize.interior_point.state import Frame, State


def first_roots(data: Data, weights: Array, share: Array) -> Array:
    """r f64[n] of the trades to these weights, none smaller than that of a tenth of a share."""
    if data.impact is None:
        return jnp.zeros(0)
    trade = data.trade(weights)
    size = jnp.sqrt(jnp.maximum(jnp.abs(trade), 0.1 * share))
    return jnp.where(costly(data), jnp.where(trade < 0.0, -size, size), 0.0)


def costly(data: Data) -> Array:
    """Names whose trades have an impact, bool[n]."""
    assert data.impact is not None
    return (data.impact > 0.0) & (data.upper > data.lower)


def price(data: Data, fixed: Frame, roots: Array) -> Array:
    """f64[n], scaled: what the impact costs add to the gradient."""
    assert data.impact is not None
    return fixed.scale * 1.5 * data.impact * roots


def missing(data: Data, weights: Array, roots: Array) -> Array:
    """x - r |r| f64[n], which is to be zero."""
    if data.impact is None:
        return jnp.zeros(0)
    return jnp.where(costly(data), data.trade(weights) - roots * jnp.abs(roots), 0.0)


def slope(state: State) -> Array:
    """2 |r| f64[n], never so little that what is missing would be below mu."""
    return 2.0 * jnp.maximum(jnp.abs(state.roots), jnp.sqrt(state.kkt.mu))


def stiffness(data: Data, fixed: Frame, state: State) -> Array:
    """f64[n], how much the price changes with the trade."""
    assert data.impact is not None
    return jnp.where(costly(data), price(data, fixed, jnp.ones(())) / slope(state), 0.0)


def change(data: Data, state: State, dw: Array, missed: Array) -> Array:
    """dr f64[n] of a step in the weights."""
    if data.impact is None:
        return state.roots
    return jnp.where(costly(data), (dw + missed) / slope(state), 0.0)


def kept_near(data: Data, weights: Array, roots: Array) -> Array:
    """Roots of trades no further from the real ones than the box is wide, or 1.

    Where impact hardly costs anything a price says nothing about the trade.
    """
    if data.impact is None:
        return roots
    trade, width = data.trade(weights), jnp.minimum(data.upper - data.lower, 1.0)
    most = jnp.sqrt(jnp.abs(trade) + width)
    return jnp.clip(roots, -most, most)
