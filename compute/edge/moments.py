"""Expected return, volatility and Sharpe ratio from returns, and how far to trust each."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import floats


class Moments(NamedTuple):
    """Sample moments of a line and their standard errors, per period of the returns, (...,)."""

    expected_return: Array
    volatility: Array
    sharpe_ratio: Array
    expected_return_standard_error: Array
    volatility_standard_error: Array
    sharpe_ratio_standard_error: Array
    n_observations: Array


def moments_from_returns(
    returns: ArrayLike, risk_free_rate: ArrayLike = 0.0, mask: ArrayLike | None = None
) -> Moments:
    """Return the moments of ``returns`` (..., T) where ``mask`` is true (or not NaN without it).

        m = mean        s^2 = sum (x - m)^2 / (n - 1)           SR = (m - r) / s
        se(m) = s / sqrt(n)     se(s) = s sqrt((k - 1) / (4 n))
        se(SR) = sqrt((1 - g SR + (k - 1) SR^2 / 4) / n)

    g and k are the sample skewness and (raw) kurtosis; for a normal k = 3 and the last line is
    Lo 2002, in general Mertens 2002. Independent returns are assumed. ``risk_free_rate`` is a
    scalar or (...,). All NaN with fewer than two observations, or with a NaN masked in; SR and
    the errors that need the higher moments are NaN where the returns don't vary.
    """
    x, r = floats(returns, risk_free_rate)
    seen = ~jnp.isnan(x) if mask is None else jnp.broadcast_to(jnp.asarray(mask, bool), x.shape)
    n = jnp.sum(seen, axis=-1).astype(jnp.float64)
    enough = jnp.where(n > 1.0, n, jnp.nan)
    mean = jnp.sum(jnp.where(seen, x, 0.0), axis=-1) / enough
    deviation = jnp.where(seen, x - mean[..., None], 0.0)
    second = jnp.sum(deviation**2, axis=-1) / enough
    varying = jnp.where(second > 0.0, second, jnp.nan)
    skewness = jnp.sum(deviation**3, axis=-1) / enough / varying**1.5
    kurtosis = jnp.sum(deviation**4, axis=-1) / enough / varying**2
    volatility = jnp.sqrt(second * enough / (enough - 1.0))
    sharpe = (mean - r) / jnp.where(volatility > 0.0, volatility, jnp.nan)
    return Moments(
        expected_return=mean,
        volatility=volatility,
        sharpe_ratio=sharpe,
        expected_return_standard_error=volatility / jnp.sqrt(enough),
        volatility_standard_error=volatility * jnp.sqrt((kurtosis - 1.0) / (4.0 * enough)),
        sharpe_ratio_standard_error=jnp.sqrt(
            (1.0 - skewness * sharpe + 0.25 * (kurtosis - 1.0) * sharpe**2) / enough
        ),
        n_observations=n,
    )
