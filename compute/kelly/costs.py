"""Kelly when trading costs something, once: fees and square-root impact.

The band that is optimal when trading goes on for ever is in ``no_trade``.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import floats
from compute.kelly.classic import kelly_fraction


class Band(NamedTuple):
    """The fractions between which no trade is worth its cost, each of one shape."""

    lower: Array
    upper: Array


def fee_kelly_fraction(
    win_probability: ArrayLike, payoff: ArrayLike, loss_fraction: ArrayLike, fee: ArrayLike
) -> Array:
    """Return p/(a + c) - q/(b - c): Kelly after a round-trip fee c, a fraction of the stake.

    ``-inf`` (no bet) where the fee eats the whole payoff, c >= b: the formula alone would turn
    positive there. NaN in gives NaN out.
    """
    p, b, a, c = jnp.broadcast_arrays(*floats(win_probability, payoff, loss_fraction, fee))
    hopeless = b - c <= 0.0
    net_payoff = jnp.where(hopeless, 1.0, b - c)
    return jnp.where(hopeless, -jnp.inf, kelly_fraction(p, net_payoff, a + c))


def impact_kelly_fraction(
    expected_return: ArrayLike, volatility: ArrayLike, impact: ArrayLike
) -> Array:
    """Return the f that maximises f m - s^2 f^2 / 2 - c |f|^1.5, square-root market impact.

        sqrt|f| = (sqrt(2.25 c^2 + 4 s^2 |m|) - 1.5 c) / (2 s^2),   with the sign of m

    m is the excess return, c >= 0; entering from no position.
    """
    m, s, c = floats(expected_return, volatility, impact)
    size = jnp.abs(m)
    # The same root multiplied out, so that a large impact doesn't cancel.
    denominator = 1.5 * c + jnp.sqrt(2.25 * c**2 + 4.0 * s**2 * size)
    nothing = denominator == 0.0
    root = 2.0 * size / jnp.where(nothing, 1.0, denominator)
    return jnp.sign(m) * root**2
