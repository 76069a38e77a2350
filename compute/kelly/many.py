"""Many assets whose log wealth diffuses together, without limits.

    f* = S^-1 (mu - r)        g* = r + (mu - r)' S^-1 (mu - r) / 2 = r + SR^2 / 2

The joint problem with limits is solved in ``compute.optimize``; this is what it starts from and
is tested against. One book at a time: ``vmap`` for many. A covariance that is not positive
definite gives NaN throughout.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import cho_factor, cho_solve
from jax.typing import ArrayLike

from compute.edge.numeric import floats


class CappedFractions(NamedTuple):
    """Fractions (n,) under a volatility cap, and the shadow price () of x'Sx <= v^2."""

    fractions: Array
    shadow_price: Array


def many_kelly_fractions(
    expected_returns: ArrayLike, covariance: ArrayLike, risk_free_rate: ArrayLike = 0.0
) -> Array:
    """Return f* = S^-1 (mu - r), fractions of equity (n,); mu (n,), S (n, n), r scalar."""
    mu, cov, r = floats(expected_returns, covariance, risk_free_rate)
    return jnp.asarray(cho_solve(cho_factor(cov, lower=True), mu - r))


def many_growth_rate(
    fractions: ArrayLike,
    expected_returns: ArrayLike,
    covariance: ArrayLike,
    risk_free_rate: ArrayLike = 0.0,
) -> Array:
    """Return g(f) = r + f'(mu - r) - f'Sf / 2, a scalar per unit of time."""
    f, mu, cov, r = floats(fractions, expected_returns, covariance, risk_free_rate)
    return r + f @ (mu - r) - 0.5 * f @ (cov @ f)


def maximum_sharpe_ratio(
    expected_returns: ArrayLike, covariance: ArrayLike, risk_free_rate: ArrayLike = 0.0
) -> Array:
    """Return SR = sqrt((mu - r)' S^-1 (mu - r)), the best Sharpe ratio the assets allow."""
    mu, cov, r = floats(expected_returns, covariance, risk_free_rate)
    return jnp.sqrt((mu - r) @ many_kelly_fractions(mu, cov, r))


def tangency_weights(
    expected_returns: ArrayLike, covariance: ArrayLike, risk_free_rate: ArrayLike = 0.0
) -> Array:
    """Return f* / sum f*, the fully invested portfolio (n,) with the best Sharpe ratio.

    Meaningless where sum f* <= 0; check it.
    """
    f = many_kelly_fractions(expected_returns, covariance, risk_free_rate)
    return f / jnp.sum(f)


def volatility_capped_fractions(
    expected_returns: ArrayLike,
    covariance: ArrayLike,
    volatility_max: ArrayLike,
    risk_free_rate: ArrayLike = 0.0,
) -> CappedFractions:
    """Return f* min(1, v / SR): maximal growth with volatility at most v > 0.

    The volatility of f* is SR, so the cap scales it; its shadow price on x'Sx <= v^2 is
    max(0, SR / v - 1) / 2.
    """
    mu, cov, v, r = floats(expected_returns, covariance, volatility_max, risk_free_rate)
    f = many_kelly_fractions(mu, cov, r)
    ratio = jnp.sqrt((mu - r) @ f) / v
    return CappedFractions(f / jnp.maximum(ratio, 1.0), 0.5 * jnp.maximum(ratio - 1.0, 0.0))
