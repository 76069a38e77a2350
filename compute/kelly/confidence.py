"""How far to shrink a stake because its inputs are estimates: Baker and McHale 2013.

A growth-optimal stake computed from an unbiased but noisy estimate is too large on average.
Betting k f^ instead, the expected growth to second order is lost in proportion to
(k - 1)^2 f^2 + k^2 se(f)^2, least at

    k = f^2 / (f^2 + se(f)^2)

Confidence shrinks a stake that the edge has justified; it is never itself a weight.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import betaln, xlog1py, xlogy
from jax.typing import ArrayLike

from compute.edge.numeric import decreasing_root, floats, gauss_legendre
from compute.edge.posterior import posterior_from_estimate
from compute.kelly.classic import break_even_probability, kelly_fraction

# Beyond this many standard deviations a Beta density no longer moves the answer.
DEVIATIONS = 12.0
NODES = 128


def shrinkage(fraction: ArrayLike, fraction_standard_error: ArrayLike) -> Array:
    """Return k = f^2 / (f^2 + se^2) in [0, 1]: multiply the raw stake by it.

    1 where the standard error is zero, 0 where only the stake is. Of second order: it leaves out
    the skew of the growth function, a share f g'''/(2 g'') of 1 - k. For a two-outcome bet with
    a = 1 this is Baker and McHale's ((b+1)p - 1)^2 / (((b+1)p - 1)^2 + (b+1)^2 sigma^2). It
    over-shrinks weak edges, because it forgets that a negative estimate is not bet;
    ``numeric_shrinkage`` does not.
    """
    f, error = floats(fraction, fraction_standard_error)
    total = f**2 + error**2
    certain = total == 0.0
    return jnp.where(certain, 1.0, f**2 / jnp.where(certain, 1.0, total))


@jax.jit
def numeric_shrinkage(
    win_probability: ArrayLike,
    payoff: ArrayLike,
    loss_fraction: ArrayLike,
    win_probability_standard_error: ArrayLike,
) -> Array:
    """Return the k in [0, 1] that maximises E g(k max(0, f*(P))), where P estimates p.

    P is a Beta with mean p and the given standard error, g the growth at the true p; so a
    negative estimate is not bet, as in practice, and weak edges keep more than the closed form
    leaves them. 0 without an edge. NaN where no Beta has that mean and error
    (``posterior_from_estimate``), a zero error included; accurate while the Beta has no
    pole, alpha and beta >= 1. Inputs of one shape or scalar.
    """
    p, b, a, error = jnp.broadcast_arrays(
        *floats(win_probability, payoff, loss_fraction, win_probability_standard_error)
    )
    alpha, beta = posterior_from_estimate(p, error)
    low = jnp.clip(p - DEVIATIONS * error, break_even_probability(b, a), 1.0)
    high = jnp.clip(p + DEVIATIONS * error, low, 1.0)
    axes = (NODES,) + (1,) * p.ndim
    nodes, node_weights = (jnp.asarray(values).reshape(axes) for values in gauss_legendre(NODES))

    # From here on the leading axis runs over the possible estimates.
    p, b, a, alpha, beta = (column[None] for column in (p, b, a, alpha, beta))
    estimate = low[None] + (high - low)[None] * nodes
    log_density = xlogy(alpha - 1.0, estimate) + xlog1py(beta - 1.0, -estimate)
    weights = node_weights * jnp.exp(log_density - betaln(alpha, beta))
    stake = kelly_fraction(estimate, b, a)

    def slope(k: Array) -> Array:
        bet = k[None] * stake
        gain, loss = p * b / (1.0 + b * bet), (1.0 - p) * a / (1.0 - a * bet)
        return jnp.sum(weights * stake * (gain - loss), axis=0)

    return decreasing_root(slope, jnp.zeros_like(low), jnp.ones_like(low), steps=48)
