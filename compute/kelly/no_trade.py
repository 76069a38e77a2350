"""The no-trade region of a long-run investor who pays a proportional spread.

With excess return mu, volatility s, risk aversion gamma (1 is Kelly) and relative bid-ask spread
eps, hold the risky fraction between (mu - lam) / (gamma s^2), valued at the ask, and
(mu + lam) / (gamma s^2), valued at the bid, where lam > 0 solves

    w(log(u/l)) = (mu + lam) / (gamma s^2)        w(0) = (mu - lam) / (gamma s^2)
    w' + (1 - gamma) w^2 + (2 mu / s^2 - 1) w = (mu^2 - lam^2) / (gamma s^4)
    u/l = (mu + lam)(mu - lam - gamma s^2) / ((1 - eps)(mu - lam)(mu + lam - gamma s^2))

Gerhold, Guasoni, Muhle-Karbe and Schachermayer (arXiv:1108.1167); the log case goes back to
Taksar, Klass and Assaf 1988. The equation is autonomous, so the time it takes from one boundary
to the other is a quadrature, and lam the root of one smooth function.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import decreasing_root, floats, gauss_legendre

NODES = 96


class NoTradeRegion(NamedTuple):
    """The region and what it leaves, each of one shape.

    ``target`` is the fraction without costs; ``growth_rate`` the equivalent safe rate
    r + (mu^2 - lam^2) / (2 gamma s^2).
    """

    lower: Array
    upper: Array
    target: Array
    growth_rate: Array


@jax.jit
def no_trade_region(
    excess_return: ArrayLike,
    volatility: ArrayLike,
    spread: ArrayLike,
    risk_aversion: ArrayLike = 1.0,
    risk_free_rate: ArrayLike = 0.0,
) -> NoTradeRegion:
    """Return the exact region. Needs mu > 0, s > 0, 0 < spread < 1 and gamma > 0.

    NaN where mu <= 0, and where the target is exactly 1: buy and hold, no trade at all.
    """
    mu, s, eps, gamma, r = jnp.broadcast_arrays(
        *floats(excess_return, volatility, spread, risk_aversion, risk_free_rate)
    )
    variance = gamma * s**2
    room = variance - mu
    possible = (mu > 0.0) & (room != 0.0)
    widest = jnp.where(possible, jnp.minimum(mu, jnp.abs(room)), jnp.nan)

    def surplus(lam: Array) -> Array:
        log_ratio = 2.0 * (jnp.arctanh(lam / mu) + jnp.arctanh(lam / room)) - jnp.log1p(-eps)
        return log_ratio - _crossing_time(lam, mu, s, gamma)

    lam = decreasing_root(surplus, jnp.zeros_like(widest), widest)
    rate = r + (mu**2 - lam**2) / (2.0 * variance)
    return NoTradeRegion((mu - lam) / variance, (mu + lam) / variance, mu / variance, rate)


def asymptotic_half_width(
    target: ArrayLike, spread: ArrayLike, risk_aversion: ArrayLike = 1.0
) -> Array:
    """Return (3 / (4 gamma) pi^2 (1 - pi)^2 eps)^(1/3), the half-width for a small spread."""
    pi, eps, gamma = floats(target, spread, risk_aversion)
    return jnp.cbrt(0.75 / gamma * (pi * (1.0 - pi)) ** 2 * eps)


def _crossing_time(lam: Array, mu: Array, s: Array, gamma: Array) -> Array:
    """Return the integral of dw / w'(w) from the lower to the upper boundary."""
    nodes, weights = (
        jnp.asarray(v).reshape((NODES,) + (1,) * lam.ndim) for v in gauss_legendre(NODES)
    )
    low, width = (mu - lam) / (gamma * s**2), 2.0 * lam / (gamma * s**2)
    w = low[None] + width[None] * nodes
    speed = (
        ((mu**2 - lam**2) / (gamma * s**4))[None]
        - (1.0 - gamma)[None] * w**2
        - (2.0 * mu / s**2 - 1.0)[None] * w
    )
    return width * jnp.sum(weights / speed, axis=0)
