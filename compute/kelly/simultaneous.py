"""Bets settled together: each stake is smaller than alone, since they share one wealth."""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import floats
from compute.kelly.exact import exact_kelly_fraction


def two_even_bets_fraction(edge: ArrayLike, correlation: ArrayLike) -> Array:
    """Return m / (1 + m^2 + rho (1 - m^2)), the stake on each of two alike even-money bets.

    ``edge`` m = p - q >= 0, ``correlation`` rho of the outcomes in [-1, 1]. rho = 1 is one bet
    split in two: only the sum, m, is determined. Thorp 2006, section 5 at rho = 0 and 1.
    """
    m, rho = floats(edge, correlation)
    return m / (1.0 + m**2 + rho * (1.0 - m**2))


def independent_bets_fraction(
    win_probability: ArrayLike, payoff: ArrayLike, loss_fraction: ArrayLike, n_bets: int
) -> Array:
    """Return the stake on each of ``n_bets`` alike and independent bets, settled together.

    The exact Kelly fraction of the binomial sum: k wins return k b - (n - k) a on the stake.
    Negative means no bet on this side. ``n_bets`` is static, 1 to 1,000.
    """
    p, b, a = jnp.broadcast_arrays(*floats(win_probability, payoff, loss_fraction))
    wins = jnp.arange(n_bets + 1.0).reshape((1,) * p.ndim + (n_bets + 1,))
    losses = n_bets - wins
    ways = jnp.asarray([float(math.comb(n_bets, k)) for k in range(n_bets + 1)]).reshape(wins.shape)
    odds = ways * p[..., None] ** wins * (1.0 - p)[..., None] ** losses
    return exact_kelly_fraction(wins * b[..., None] - losses * a[..., None], odds)


def equicorrelation_penalty(n_bets: ArrayLike, correlation: ArrayLike) -> Array:
    """Return 1 / (1 + (n - 1) rho), by which n equally correlated positions shrink.

    Exact for alike continuous assets, and the cheap correction otherwise. rho > -1 / (n - 1).
    """
    n, rho = floats(n_bets, correlation)
    return 1.0 / (1.0 + (n - 1.0) * rho)
