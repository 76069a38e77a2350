"""One asset whose log wealth diffuses: Thorp 2006, section 7.1.

    f* = (m - r) / s^2       g(f) = r + f (m - r) - s^2 f^2 / 2       g* = r + (m - r)^2 / (2 s^2)

m and r are returns per unit of time, s the volatility per square root of it; a negative f is a
short position.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import floats


def continuous_kelly_fraction(
    expected_return: ArrayLike, volatility: ArrayLike, risk_free_rate: ArrayLike = 0.0
) -> Array:
    """Return f* = (m - r) / s^2; negative means short. NaN in gives NaN out; expects s > 0."""
    m, s, r = floats(expected_return, volatility, risk_free_rate)
    return (m - r) / s**2


def continuous_growth_rate(
    fraction: ArrayLike,
    expected_return: ArrayLike,
    volatility: ArrayLike,
    risk_free_rate: ArrayLike = 0.0,
) -> Array:
    """Return g(f) = r + f (m - r) - s^2 f^2 / 2 per unit of time.

    As r + s^2 f (2 f* - f) / 2, which at twice Kelly is r without rounding.
    """
    f, m, s, r = floats(fraction, expected_return, volatility, risk_free_rate)
    return r + 0.5 * s * s * f * (2.0 * continuous_kelly_fraction(m, s, r) - f)


def growth_volatility(fraction: ArrayLike, volatility: ArrayLike) -> Array:
    """Return |f| s, the standard deviation of log wealth per square root of time."""
    f, s = floats(fraction, volatility)
    return jnp.abs(f) * s
