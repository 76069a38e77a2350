"""Staking the fraction c of full Kelly: what drawdowns it spares.

    P(wealth ever falls to x of its start) = x^(2/c - 1)

Exact for lognormal wealth; Thorp 2006, sections 3.2 and 7.3; MacLean, Thorp and Ziemba 2010.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import floats


def multiplier_for_drawdown(
    level: ArrayLike, probability_max: ArrayLike, *, multiplier_max: ArrayLike = 1.0
) -> Array:
    """Return the largest c with P(ever fall to ``level``) <= ``probability_max``.

        c = 2 / (1 + ln(beta) / ln(x))

    ``level`` x in (0, 1), ``probability_max`` beta in [0, 1]. The answer is in [0, 2) and is
    capped at ``multiplier_max``: full Kelly unless the caller says otherwise, because beyond it
    both growth and safety are lost.
    """
    x, beta, cap = floats(level, probability_max, multiplier_max)
    return jnp.minimum(2.0 / (1.0 + jnp.log(beta) / jnp.log(x)), cap)


def reach_before_probability(
    upper: ArrayLike, lower: ArrayLike, kelly_multiplier: ArrayLike
) -> Array:
    """Return P(wealth reaches ``upper`` before ``lower``), both relative to its start.

        (1 - l^k) / (u^k - l^k),   k = 1 - 2/c;    at c = 2 the limit -ln l / (ln u - ln l)

    0 < lower < 1 < upper; c > 0.
    """
    u, low, c = floats(upper, lower, kelly_multiplier)
    k = 1.0 - 2.0 / c
    down, span = -jnp.log(low), jnp.log(u) - jnp.log(low)
    driftless = k == 0.0
    k = jnp.where(driftless, 1.0, k)
    return jnp.where(driftless, down / span, jnp.expm1(k * down) / jnp.expm1(k * span))
