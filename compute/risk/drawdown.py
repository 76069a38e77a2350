"""Drawdowns: measuring them on a path, and staking so that one never exceeds a bound."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import floats


def drawdown_controlled_fraction(
    kelly_fraction: ArrayLike, wealth_to_peak: ArrayLike, floor: ArrayLike
) -> Array:
    """Return f_K max(0, 1 - alpha M / W), which keeps wealth above ``floor`` alpha of its peak.

    ``wealth_to_peak`` W / M in (0, 1], ``floor`` in [0, 1). Zero at the floor and below it, and
    not a liquidation that forgets the peak. Grossman and Zhou 1993; growth-optimal by
    Cvitanic and Karatzas 1995.
    """
    f, ratio, alpha = floats(kelly_fraction, wealth_to_peak, floor)
    return f * jnp.maximum(1.0 - alpha / ratio, 0.0)


def drawdown_controlled_growth(excess_growth: ArrayLike, floor: ArrayLike) -> Array:
    """Return (1 - alpha) g*, the long-run excess growth left by the floor."""
    g, alpha = floats(excess_growth, floor)
    return (1.0 - alpha) * g


def drawdowns(returns: ArrayLike) -> Array:
    """Return 1 - W_t / max(1, W_1..t) of the compounded path, (..., T) like ``returns``.

    The starting wealth counts as a peak. NaN makes the rest of the path NaN.
    """
    (r,) = floats(returns)
    wealth = jnp.cumprod(1.0 + r, axis=-1)
    peak = jnp.maximum(jax.lax.cummax(wealth, axis=r.ndim - 1), 1.0)
    return 1.0 - wealth / peak


def maximum_drawdown(returns: ArrayLike) -> Array:
    """Return the largest drawdown of the path, (...,) for returns (..., T)."""
    return jnp.max(drawdowns(returns), axis=-1)


def conditional_drawdown(returns: ArrayLike, level: float) -> Array:
    """Return the mean of the worst ``1 - level`` share of the drawdowns, (...,).

    A share that isn't a whole number of days takes part of the last one. ``level`` in [0, 1)
    is static. Chekhlov, Uryasev and Zabarankin 2005.
    """
    worst_first = -jnp.sort(-drawdowns(returns), axis=-1)
    n_days = worst_first.shape[-1]
    share = n_days * (1.0 - level)
    weights = jnp.clip(share - jnp.arange(float(n_days)), 0.0, 1.0) / share
    return worst_first @ weights
