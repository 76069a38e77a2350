"""The no-trade region of a long-run investor who pays a proportional spread.

With excess return mu, volatility s, risk aversion gamma (1 is Kelly) and relative bid-ask spread
eps, hold the risky fraction between (mu - lam) / (gamma s^2), valued at the ask, and
(mu + lam) / (gamma s^2), valued at the bid, where lam > 0 solves

    w(log(u/l)) = (mu + lam) / (gamma s^2)        w(0) = (mu - lam) / (gamma s^2)
    w' + (1 - gamma) w^2 + (2 mu / s^2 - 1) w = (mu^2 - lam^2) / (gamma s^4)
    u/l = (mu + lam)(mu - lam - gamma s^2) / ((1 - eps)(mu - lam)(mu + lam - gamma s^2))

Gerhold, Guasoni, Muhle-Karbe and Schachermayer (2014, arXiv:1108.1167); the log case goes back to
Taksar, Klass and Assaf 1988. The equation is autonomous, so the time it takes from one boundary
to the other is a quadrature, and lam the root of one smooth function.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import decreasing_root, floats, gauss_legendre
from compute.kelly.costs import Band

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
    """Return the exact region. Needs s > 0, 0 < spread < 1 and gamma > 0.

    With mu < 0 the position is short: the equations are the same, and lower is the larger one.
    NaN where mu = 0, and where the target is exactly 1: buy and hold, no trade at all.
    """
    mu, s, eps, gamma, r = jnp.broadcast_arrays(
        *floats(excess_return, volatility, spread, risk_aversion, risk_free_rate)
    )
    variance = gamma * s**2
    room = variance - mu
    possible = (mu != 0.0) & (room != 0.0)
    widest = jnp.where(possible, jnp.minimum(jnp.abs(mu), jnp.abs(room)), jnp.nan)

    def surplus(lam: Array) -> Array:
        log_ratio = 2.0 * (jnp.arctanh(lam / mu) + jnp.arctanh(lam / room)) - jnp.log1p(-eps)
        return log_ratio - _crossing_time(lam, mu, s, gamma)

    lam = decreasing_root(surplus, jnp.zeros_like(widest), widest)
    rate = r + (mu**2 - lam**2) / (2.0 * variance)
    return NoTradeRegion((mu - lam) / variance, (mu + lam) / variance, mu / variance, rate)


def long_run_band(stake: ArrayLike, trade_cost: ArrayLike, fraction: ArrayLike) -> Band:
    """Return the region as weights at the price halfway between bid and ask, for any Kelly stake.

    ``stake`` is full Kelly without costs, negative for short; ``trade_cost`` k what a trade costs
    either way, as a part of its value at that price, so that the spread is 2k / (1 + k);
    ``fraction`` c of Kelly in (0, 1], which is a risk aversion of 1/c. Exact for the stake
    mu / s^2 of a lognormal price, and what such a price would have for any other edge. The band is
    the point c f where nothing is staked or a trade costs nothing, and where c f is exactly 1.
    """
    f, k, c = jnp.broadcast_arrays(*floats(stake, trade_cost, fraction))
    usable = (f != 0.0) & (k > 0.0) & (c > 0.0)
    cost = jnp.where(usable, k, 0.01)
    region = no_trade_region(
        jnp.where(usable, f, 0.5), 1.0, 2.0 * cost / (1.0 + cost), 1.0 / jnp.where(usable, c, 1.0)
    )
    lower = region.lower / (1.0 + cost * (1.0 - region.lower))
    upper = region.upper / (1.0 - cost * (1.0 - region.upper))
    found = usable & jnp.isfinite(lower) & jnp.isfinite(upper)
    return Band(jnp.where(found, lower, c * f), jnp.where(found, upper, c * f))


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
