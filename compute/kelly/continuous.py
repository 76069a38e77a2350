"""One asset whose log wealth diffuses: Thorp 2006, section 7.1.

    f* = (m - r) / s^2       g(f) = r + f (m - r) - s^2 f^2 / 2       g* = r + (m - r)^2 / (2 s^2)

m and r are returns per unit of time, s the volatility per square root of it; a negative f is a
short position. A normal return is unbounded below, so any leverage would ruin; Thorp's remedy,
the normal truncated at a few deviations, is at the end of the module.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import erf
from jax.typing import ArrayLike

from compute.edge.numeric import floats, gauss_legendre


class Outcomes(NamedTuple):
    """Discrete outcomes: ``returns`` (..., K) and the ``weights`` (..., K) they carry."""

    returns: Array
    weights: Array


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
    """Return g(f) = r + f (m - r) - s^2 f^2 / 2 per unit of time."""
    f, m, s, r = floats(fraction, expected_return, volatility, risk_free_rate)
    return r + f * (m - r) - 0.5 * (s * f) ** 2


def growth_volatility(fraction: ArrayLike, volatility: ArrayLike) -> Array:
    """Return |f| s, the standard deviation of log wealth per square root of time."""
    f, s = floats(fraction, volatility)
    return jnp.abs(f) * s


def truncated_normal_outcomes(
    expected_return: ArrayLike,
    volatility: ArrayLike,
    *,
    deviations: float = 3.0,
    keep_volatility: bool = False,
    n_nodes: int = 128,
) -> Outcomes:
    """Return a normal return cut off at ``deviations``, as K = n_nodes weighted outcomes (n, K).

    Gauss-Legendre nodes, so that a sum over the outcomes is the integral. Two conventions:
    as is, the density between the cuts (the weights sum to 0.9973 at 3 deviations); or with
    ``keep_volatility``, the widened and renormalised one whose standard deviation is again s.
    Feed the outcomes to ``exact.exact_kelly_fraction``. Thorp 2006, section 7.1.
    """
    m, s = jnp.broadcast_arrays(*floats(expected_return, volatility))
    nodes, node_weights = gauss_legendre(n_nodes)
    z = deviations * (2.0 * jnp.asarray(nodes) - 1.0)
    density = jnp.exp(-0.5 * z**2) / jnp.sqrt(2.0 * jnp.pi)
    weights = 2.0 * deviations * jnp.asarray(node_weights) * density
    if keep_volatility:
        mass = erf(deviations / jnp.sqrt(2.0))
        edge_density = jnp.exp(-0.5 * deviations**2) / jnp.sqrt(2.0 * jnp.pi)
        s = s / jnp.sqrt(1.0 - 2.0 * deviations * edge_density / mass)
        weights = weights / mass
    z = z.reshape((1,) * m.ndim + (n_nodes,))
    returns = m[..., None] + s[..., None] * z
    return Outcomes(returns, jnp.broadcast_to(weights, returns.shape))
