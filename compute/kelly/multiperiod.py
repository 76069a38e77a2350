"""What changes when the horizon is long: very little for log utility, something otherwise.

Log utility is myopic: with independent returns the stake of each period is that of a single
one, and ``classic`` and ``continuous`` apply at every step (Mossin 1968; Hakansson 1971).
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from numpy.typing import NDArray

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


def aim_share(half_life: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """Return 1 / (1 + phi a / gamma), the part of the one-period optimum to aim at.

    A return that is expected to halve in ``half_life`` periods loses phi = 1 - 2^(-1/half_life) of
    itself in each. At the trading rate r = a / lam without discount a / gamma is (1 - r) / r: who
    trades slowly aims at what will still be there. 1 for an endless half-life, and for a rate of
    1. Garleanu and Pedersen 2013, proposition 2.
    """
    lost = -np.expm1(-np.log(2.0) / half_life)
    share: NDArray[np.float64] = 1.0 / (1.0 + lost * (1.0 - rate) / rate)
    return share
