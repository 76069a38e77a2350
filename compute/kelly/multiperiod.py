"""What changes when the horizon is long: very little for log utility, something otherwise.

Log utility is myopic: with independent returns the stake of each period is that of a single
one, and ``classic`` and ``continuous`` apply at every step (Mossin 1968; Hakansson 1971).
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import floats


def merton_fraction(
    expected_return: ArrayLike,
    volatility: ArrayLike,
    risk_aversion: ArrayLike,
    risk_free_rate: ArrayLike = 0.0,
) -> Array:
    """Return (m - r) / (gamma s^2), the constant fraction for relative risk aversion gamma > 0."""
    m, s, gamma, r = floats(expected_return, volatility, risk_aversion, risk_free_rate)
    return (m - r) / (gamma * s**2)


def mean_reverting_fraction(
    log_price: ArrayLike,
    reversion_speed: ArrayLike,
    long_run_log_price: ArrayLike,
    volatility: ArrayLike,
    risk_free_rate: ArrayLike = 0.0,
) -> Array:
    """Return (k (th - x) + s^2 / 2 - r) / s^2 for a log price dX = k (th - X) dt + s dW.

    The s^2 / 2 turns the drift of the log price into that of the price. Rates per unit of time.
    """
    x, k, theta, s, r = floats(
        log_price, reversion_speed, long_run_log_price, volatility, risk_free_rate
    )
    return (k * (theta - x) - r) / s**2 + 0.5


def trading_rate(
    discount_rate: ArrayLike, risk_aversion: ArrayLike, cost_scale: ArrayLike
) -> Array:
    """Return the share a / lam of the gap to the aim to trade per period, in (0, 1).

        a = (-B + sqrt(B^2 + 4 gamma lam (1 - rho)^2)) / (2 (1 - rho))
        B = gamma (1 - rho) + lam rho

    for quadratic costs lam / 2 per unit of variance, discount rho in [0, 1), gamma and lam > 0.
    Garleanu and Pedersen 2013.
    """
    rho, gamma, lam = floats(discount_rate, risk_aversion, cost_scale)
    linear = gamma * (1.0 - rho) + lam * rho
    root = jnp.sqrt(linear**2 + 4.0 * gamma * lam * (1.0 - rho) ** 2)
    # The formula above, divided by lam and multiplied out so that it doesn't cancel.
    return 2.0 * gamma * (1.0 - rho) / (linear + root)
