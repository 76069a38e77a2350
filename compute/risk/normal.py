"""Value at risk and expected shortfall of a normal return, and the sizes they allow."""

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtri
from jax.typing import ArrayLike

from compute.edge.numeric import floats


def normal_value_at_risk(level: ArrayLike) -> Array:
    """Return z, the ``level`` quantile: the VaR of a unit normal loss, level in (0, 1)."""
    (level,) = floats(level)
    return ndtri(level)


def normal_expected_shortfall(level: ArrayLike) -> Array:
    """Return phi(z) / (1 - level), the mean of a unit normal loss beyond its VaR."""
    (level,) = floats(level)
    z = ndtri(level)
    return jnp.exp(-0.5 * z**2) / jnp.sqrt(2.0 * jnp.pi) / (1.0 - level)


def loss_limited_fraction(
    expected_return: ArrayLike,
    volatility: ArrayLike,
    deviations: ArrayLike,
    loss_max: ArrayLike,
    side: ArrayLike = 1.0,
) -> Array:
    """Return limit / (k s - side m): the largest |fraction| whose loss measure is within limits.

    ``deviations`` k is ``normal_value_at_risk`` or ``normal_expected_shortfall`` of the level,
    ``loss_max`` a fraction of equity over the same period as m and s. ``inf`` where the measure
    is not a loss at all.
    """
    m, s, k, limit, side = jnp.broadcast_arrays(
        *floats(expected_return, volatility, deviations, loss_max, side)
    )
    loss = k * s - side * m
    harmless = loss <= 0.0
    return jnp.where(harmless, jnp.inf, limit / jnp.where(harmless, 1.0, loss))
