"""Volatility: sizing to a target, and the exponentially weighted estimate."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import floats


def volatility_target_weight(
    volatility_target: ArrayLike, volatility: ArrayLike, *, weight_max: ArrayLike = jnp.inf
) -> Array:
    """Return min(cap, target / volatility), the weight whose own volatility is the target.

    Both volatilities over the same period, ``volatility`` > 0; NaN in gives NaN out.
    """
    target, s, cap = floats(volatility_target, volatility, weight_max)
    return jnp.minimum(target / s, cap)


def ewma_variance(returns: ArrayLike, initial_variance: ArrayLike, *, decay: float = 0.94) -> Array:
    """Return the last v of v <- decay v + (1 - decay) r^2 along the last axis of (..., T).

    ``initial_variance`` is a scalar or (...,). A NaN return is a missing observation and leaves
    v as it was. RiskMetrics Technical Document 1996.
    """
    r, v = floats(returns, initial_variance)

    def step(variance: Array, r_t: Array) -> tuple[Array, None]:
        updated = decay * variance + (1.0 - decay) * r_t**2
        return jnp.where(jnp.isnan(r_t), variance, updated), None

    final, _ = jax.lax.scan(step, jnp.broadcast_to(v, r.shape[:-1]), jnp.moveaxis(r, -1, 0))
    return final


def ewma_volatility(
    returns: ArrayLike, initial_variance: ArrayLike, *, decay: float = 0.94
) -> Array:
    """Return sqrt(``ewma_variance``), in the period of the returns."""
    return jnp.sqrt(ewma_variance(returns, initial_variance, decay=decay))
