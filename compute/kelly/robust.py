"""Kelly against the worst distribution near the estimated one.

    max_f  min_{pi in set}  sum_k pi_k ln(1 + f x_k)

For two outcomes the worst distribution has the lowest win probability of the set, whatever the
stake: `compute.waterfall.robust.worst_chance`. Sun and Boyd, arXiv:1812.10371.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import rel_entr
from jax.typing import ArrayLike

from compute.edge.numeric import decreasing_root, floats, weighted_log1p
from compute.kelly.exact import exact_kelly_fraction


class RobustKelly(NamedTuple):
    """The stake (...,) and its growth (...,) under the worst distribution of the set."""

    fraction: Array
    worst_growth: Array


@jax.jit
def robust_kelly(
    excess_outcomes: ArrayLike, probabilities: ArrayLike, divergence_max: ArrayLike
) -> RobustKelly:
    """Return the stake that is best against every pi with KL(pi || probabilities) <= d.

    ``excess_outcomes`` (..., K) with a possible gain and a possible loss; ``probabilities``
    (K,) or (..., K) summing to 1, one of zero being padding; d > 0, scalar or (...,). Long or
    short, zero where some distribution in the ball takes the edge away. Lines without a
    possible gain or loss give NaN, for no finite stake is best.
    """
    x, weights, radius = floats(excess_outcomes, probabilities, divergence_max)
    weights = jnp.broadcast_to(weights, x.shape)
    x = jnp.where(weights == 0.0, 0.0, x)
    nominal = exact_kelly_fraction(x, weights)
    nominal = jnp.where(jnp.isinf(nominal), jnp.nan, nominal)
    side = jnp.where(nominal < 0.0, -1.0, 1.0)
    x = x * side[..., None]
    radius = jnp.broadcast_to(radius, nominal.shape)

    def slope(f: Array) -> Array:
        # By the envelope theorem, the slope of the worst growth is taken at its distribution.
        worst = _worst_distribution(f, x, weights, radius)
        return jnp.sum(worst * x / (1.0 + f[..., None] * x), axis=-1)

    size = decreasing_root(slope, jnp.zeros_like(nominal), jnp.abs(nominal), steps=48)
    worst = _worst_distribution(size, x, weights, radius)
    growth = jnp.sum(weighted_log1p(worst, size[..., None] * x), axis=-1)
    return RobustKelly(side * size, growth)


def _worst_distribution(f: Array, x: Array, weights: Array, radius: Array) -> Array:
    """Return pi_k ~ weights_k exp(-s y_k), y = ln(1 + f x) / f, with KL(pi || weights) = radius.

    Tilting by y and not by ln(1 + f x) keeps s finite as f goes to 0, where y is x.
    """
    small = jnp.abs(f) < 1e-12
    safe = jnp.where(small, 1.0, f)[..., None]
    y = jnp.where(small[..., None], x, jnp.log1p(f[..., None] * x) / safe)
    y = y - jnp.min(jnp.where(weights > 0.0, y, jnp.inf), axis=-1, keepdims=True)
    log_weights = jnp.where(
        weights > 0.0, jnp.log(jnp.where(weights > 0.0, weights, 1.0)), -jnp.inf
    )

    def shortfall(tilt: Array) -> Array:
        tilted = jax.nn.softmax(log_weights - tilt[..., None] * y, axis=-1)
        return radius - jnp.sum(rel_entr(tilted, weights), axis=-1)

    steepest = 700.0 / jnp.max(y, axis=-1)
    tilt = decreasing_root(shortfall, jnp.zeros_like(radius), steepest, steps=48)
    return jax.nn.softmax(log_weights - tilt[..., None] * y, axis=-1)
