"""A win probability as a Beta distribution: prior plus counts, its quantiles, its edge.

    p | w wins, l losses  ~  Beta(a0 + w, b0 + l)

Log utility sizes at the posterior mean and needs no further shrink: for an even-money bet
f = 2 (a0 + w) / (a0 + b0 + w + l) - 1. Browne and Whitt 1996. Counts may be fractional, which is
how forgetting and weights enter.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import betainc
from jax.typing import ArrayLike

from compute.edge.numeric import decreasing_root, floats


class BetaPosterior(NamedTuple):
    """Beta(alpha, beta) over a win probability, each of one shape; both positive."""

    alpha: Array
    beta: Array


def beta_posterior(
    wins: ArrayLike,
    losses: ArrayLike,
    *,
    prior_wins: ArrayLike = 1.0,
    prior_losses: ArrayLike = 1.0,
) -> BetaPosterior:
    """Return the posterior after ``wins`` and ``losses``, counts of one shape, from the prior.

    The default prior is uniform. NaN counts give NaN parameters.
    """
    w, l, a0, b0 = jnp.broadcast_arrays(*floats(wins, losses, prior_wins, prior_losses))  # noqa: E741
    return BetaPosterior(a0 + w, b0 + l)


def posterior_from_estimate(mean: ArrayLike, standard_error: ArrayLike) -> BetaPosterior:
    """Return the Beta with this mean and standard deviation, a signal's own claim of certainty.

    A Beta has sd^2 < mean (1 - mean); NaN where the pair breaks that, or the sd is not positive.
    """
    p, s = jnp.broadcast_arrays(*floats(mean, standard_error))
    possible = (s > 0.0) & (s**2 < p * (1.0 - p))
    weight = p * (1.0 - p) / jnp.where(possible, s, jnp.nan) ** 2 - 1.0
    return BetaPosterior(p * weight, (1.0 - p) * weight)


def posterior_mean(posterior: BetaPosterior) -> Array:
    """Return alpha / (alpha + beta), the win probability to size with."""
    return posterior.alpha / (posterior.alpha + posterior.beta)


def posterior_standard_error(posterior: BetaPosterior) -> Array:
    """Return the standard deviation sqrt(alpha beta / ((alpha + beta)^2 (alpha + beta + 1)))."""
    alpha, beta = posterior
    total = alpha + beta
    return jnp.sqrt((alpha / total) * (beta / total) / (total + 1.0))


@jax.jit
def posterior_quantile(posterior: BetaPosterior, level: ArrayLike) -> Array:
    """Return the win probability below which the posterior puts the mass ``level`` in (0, 1).

    Equivalent to ``scipy.special.betaincinv(alpha, beta, level)``. The mass below it is right to
    32 eps ln Gamma(alpha + beta) of itself: 5e-11 at a thousand observations.
    """
    alpha, beta, level = jnp.broadcast_arrays(*floats(*posterior, level))
    shortfall = lambda p: level - betainc(alpha, beta, p)  # noqa: E731
    return decreasing_root(shortfall, jnp.zeros_like(level), jnp.ones_like(level), steps=40)
