"""Kelly for one instrument under a bound on the probability of a deep drawdown.

    maximise  E ln(1 + f x)   subject to   ln E (1 + f x)^-lam <= 0,    lam = ln(beta) / ln(alpha)

which guarantees P(wealth ever falls below alpha of its start) <= beta, for independent and
repeated bets. Busseti, Ryu and Boyd 2016 (arXiv:1603.06183). The constraint is convex and zero
at f = 0; its least value is at the optimum of a power utility, so its other root, if it is
before the Kelly stake, is bracketed by the two.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike

from compute.edge.numeric import decreasing_root, floats
from compute.kelly.exact import exact_kelly_fraction


class RiskConstrainedKelly(NamedTuple):
    """The stake (...,), negative when short, and the shadow price (...,) of the constraint.

    The shadow price is the growth gained per unit by which the log constraint is relaxed; 0
    where the Kelly stake is already safe enough.
    """

    fraction: Array
    shadow_price: Array


def drawdown_exponent(level: ArrayLike, probability_max: ArrayLike) -> Array:
    """Return lam = ln(beta) / ln(alpha), for P(ever below ``level`` alpha) <= beta."""
    alpha, beta = floats(level, probability_max)
    return jnp.log(beta) / jnp.log(alpha)


@jax.jit
def risk_constrained_kelly(
    excess_outcomes: ArrayLike, probabilities: ArrayLike, exponent: ArrayLike
) -> RiskConstrainedKelly:
    """Return the constrained stake for ``excess_outcomes`` (..., K) over the risk-free rate.

    ``probabilities`` (K,) or (..., K) sum to 1, one of zero being padding; ``exponent``
    lam > 0 is a scalar or (...,). Lines without a possible loss or gain keep the infinite Kelly
    stake, for no drawdown is possible. NaN in a line gives NaN for that line.
    """
    x, weights, lam = floats(excess_outcomes, probabilities, exponent)
    weights = jnp.broadcast_to(weights, x.shape)
    x = jnp.where(weights == 0.0, 0.0, x)
    kelly = exact_kelly_fraction(x, weights)
    lam = jnp.broadcast_to(lam, kelly.shape)
    finite = jnp.where(jnp.isinf(kelly), 0.0, kelly)
    side = jnp.where(finite < 0.0, -1.0, 1.0)
    x = x * side[..., None]
    log_weights = jnp.where(
        weights > 0.0, jnp.log(jnp.where(weights > 0.0, weights, 1.0)), -jnp.inf
    )

    def terms(f: Array) -> Array:
        return log_weights - lam[..., None] * jnp.log1p(f[..., None] * x)

    def decline(f: Array) -> Array:
        tilted = jax.nn.softmax(terms(f), axis=-1)
        return lam * jnp.sum(tilted * x / (1.0 + f[..., None] * x), axis=-1)

    largest = jnp.abs(finite)
    safest = decreasing_root(decline, jnp.zeros_like(largest), largest)
    size = decreasing_root(lambda f: -logsumexp(terms(f), axis=-1), safest, largest)
    growth_slope = jnp.sum(weights * x / (1.0 + size[..., None] * x), axis=-1)
    binding = size < largest
    price = jnp.where(binding, growth_slope / jnp.where(binding, -decline(size), 1.0), 0.0)
    return RiskConstrainedKelly(jnp.where(jnp.isinf(kelly), kelly, side * size), price)
