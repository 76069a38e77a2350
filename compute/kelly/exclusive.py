"""Mutually exclusive bets, of which at most one pays: the horse race.

    maximise  sum_i p_i ln(c + o_i f_i) + (1 - sum p) ln c      c = 1 - sum f,  f >= 0

Backing a runner moves cash into the one state where it wins. In decreasing order of p_i o_i,
add runners while p_i o_i exceeds the cash left, R = (1 - sum p) / (1 - sum 1/o) over those
added; then f_i = p_i - R / o_i. Smoczynski and Tomkins 2010.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import xlogy
from jax.typing import ArrayLike

from compute.edge.numeric import floats

# A runner whose p o equals the reserve to rounding adds stake and no growth.
TIE = 1e-12


class RaceBets(NamedTuple):
    """Stakes (n,) as fractions of wealth, the cash reserve () and the expected log growth ()."""

    fractions: Array
    reserve: Array
    growth: Array


@jax.jit
def horse_race(win_probabilities: ArrayLike, gross_odds: ArrayLike) -> RaceBets:
    """Return the growth-optimal stakes on one race of n runners; ``vmap`` for many races.

    ``win_probabilities`` (n,) sum to at most 1, the rest being that nothing pays;
    ``gross_odds`` (n,) > 0 pay the stake back too: 2 is even money. Where the optimum is not
    unique (fair odds) the answer is the one with the least total stake. A runner with
    probability 0 is padding. NaN in any runner gives NaN for the race.
    """
    p, o = floats(win_probabilities, gross_odds)
    order = jnp.argsort(-p * o)
    value, implied = (p * o)[order], (1.0 / o)[order]
    left = 1.0 - (jnp.cumsum(p[order]) - p[order])
    room = 1.0 - (jnp.cumsum(implied) - implied)
    reserves = left / jnp.where(room > 0.0, room, jnp.inf)
    worth = value > reserves * (1.0 + TIE)
    n_backed = jnp.sum(jnp.cumprod(worth.astype(jnp.int32)))

    backed = jnp.arange(p.shape[0]) < n_backed
    unbacked = _remainder(jnp.where(backed, p[order], 0.0))
    cash = unbacked / (1.0 - jnp.sum(jnp.where(backed, implied, 0.0))) + 0.0 * jnp.sum(value)
    is_backed = backed[jnp.argsort(order)]
    fractions = jnp.where(is_backed, jnp.maximum(p - cash / o, 0.0), 0.0 * cash)
    growth = jnp.sum(xlogy(p, cash + o * fractions)) + xlogy(_remainder(p), cash)
    return RaceBets(fractions, cash, growth)


def _remainder(p: Array) -> Array:
    """Return 1 - sum p, and 0 where only the rounding of the sum would make it positive."""
    rest = 1.0 - jnp.sum(p)
    return jnp.where(rest < TIE, 0.0, rest)
