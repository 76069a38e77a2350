"""Kelly from the whole distribution of outcomes of one instrument, not from its moments.

    maximise  G(f) = sum_k pi_k ln(1 + rf + f (x_k - rf))     over   -short_max <= f <= long_max

A rare crash moves the answer a long way from mean / variance: +2 % with probability 0.98 and
-50 % with 0.02 gives f* = 0.96, where the Gaussian formula would bet 1.81 and lose money.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import decreasing_root, floats

# Ten do for any ordinary distribution; the rest is for hostile ones.
NEWTON_STEPS = 32


@jax.jit
def exact_kelly_fraction(
    outcomes: ArrayLike,
    probabilities: ArrayLike,
    risk_free_rate: ArrayLike = 0.0,
    *,
    long_max: ArrayLike = jnp.inf,
    short_max: ArrayLike = jnp.inf,
) -> Array:
    """Return the fraction of equity (n,) that maximises expected log growth; negative is short.

    ``outcomes`` (..., K) are returns over one period per unit of position; ``probabilities``
    (K,) or (..., K) need not sum to 1 for the maximum; an outcome of probability zero is
    ignored, so padding is an outcome with probability zero. ``risk_free_rate`` is a scalar or
    (...,), over the same period; the caps are fractions of equity, scalar or (...,).

    Without a possible loss the answer is ``long_max`` (``inf`` if there is none), without a
    possible gain ``-short_max``; where every outcome equals the risk-free rate it is 0. Otherwise
    the optimum is strictly inside the ruin boundaries. NaN in a line gives NaN for that line.
    """
    excess, weights = _excess(outcomes, probabilities, risk_free_rate)
    best, worst = jnp.max(excess, axis=-1), jnp.min(excess, axis=-1)
    two_sided = (best > 0.0) & (worst < 0.0)
    # Nothing to look for between equal ends: a line without a root would keep all others waiting.
    lower = jnp.where(two_sided, -1.0 / jnp.where(two_sided, best, 1.0), 0.0)
    upper = jnp.where(two_sided, -1.0 / jnp.where(two_sided, worst, -1.0), 0.0)

    def scaled_slope(f: Array) -> Array:
        # G' times its two poles: linear for two outcomes and close to it for many, which is
        # what makes Newton fast; the factor is positive inside, so the root is the same.
        slope = jnp.sum(weights * excess / (1.0 + f[..., None] * excess), axis=-1)
        return slope * (upper - f) * (f - lower)

    inside = decreasing_root(scaled_slope, lower, upper, steps=NEWTON_STEPS)
    one_sided = jnp.where(best > 0.0, jnp.inf, jnp.where(worst < 0.0, -jnp.inf, 0.0))
    fraction = jnp.where(two_sided, inside, one_sided)
    fraction = jnp.where(jnp.isnan(best + jnp.sum(weights, axis=-1)), jnp.nan, fraction)
    long_max, short_max = floats(long_max, short_max)
    return jnp.clip(fraction, -short_max, long_max)


def _excess(
    outcomes: ArrayLike, probabilities: ArrayLike, risk_free_rate: ArrayLike
) -> tuple[Array, Array]:
    """Return (x - rf) / (1 + rf), zero where it can't happen, and the weights, both (..., K)."""
    x, weights, r = floats(outcomes, probabilities, risk_free_rate)
    weights = jnp.broadcast_to(weights, x.shape)
    r = jnp.broadcast_to(r, x.shape[:-1])[..., None]
    return jnp.where(weights == 0.0, 0.0, (x - r) / (1.0 + r)), weights
