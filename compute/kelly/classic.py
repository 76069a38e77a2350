"""One bet with two outcomes: gain the fraction b of the stake, or lose the fraction a of it.

    g(f) = p ln(1 + b f) + q ln(1 - a f),   q = 1 - p
    f*   = p / a - q / b                    (a = 1: edge over odds)

A short position is the same bet seen from the other side: p, b and a describe the position
that would be taken, and ``side`` gives the stake its sign. Kelly 1956; Thorp 2006, sections 2-3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import decreasing_root, floats, weighted_log1p


class KellySensitivity(NamedTuple):
    """Partial derivatives of f* = p/a - q/b, each of the shape of the inputs."""

    win_probability: Array
    payoff: Array
    loss_fraction: Array


def kelly_fraction(
    win_probability: ArrayLike, payoff: ArrayLike, loss_fraction: ArrayLike
) -> Array:
    """Return f* = p/a - q/b, the stake as a fraction of equity that maximises growth.

    Zero or less means no bet on this side; more than 1 means leverage, possible when a < 1, and
    is left for the limits to cap. Expects 0 <= p <= 1, b > 0, a > 0 (``validate.check_bet``);
    NaN in any input of a line gives NaN for that line.
    """
    p, b, a = floats(win_probability, payoff, loss_fraction)
    return p / a - (1.0 - p) / b


def growth_rate(
    fraction: ArrayLike, win_probability: ArrayLike, payoff: ArrayLike, loss_fraction: ArrayLike
) -> Array:
    """Return g(f) = p ln(1 + b f) + q ln(1 - a f), the expected log growth of one bet.

    ``-inf`` where the stake can ruin (f >= 1/a with q > 0, or f <= -1/b with p > 0).
    """
    f, p, b, a = floats(fraction, win_probability, payoff, loss_fraction)
    return weighted_log1p(p, b * f) + weighted_log1p(1.0 - p, -a * f)


@jax.jit
def zero_growth_fraction(
    win_probability: ArrayLike, payoff: ArrayLike, loss_fraction: ArrayLike
) -> Array:
    """Return the stake f_c > f* at which growth is back to zero: bet more and wealth decays.

    About 2 f* for a small edge. 0 where there is no edge, 1/a where a loss can't happen.
    """
    p, b, a = jnp.broadcast_arrays(*floats(win_probability, payoff, loss_fraction))
    best = kelly_fraction(p, b, a)
    turning = decreasing_root(lambda f: growth_rate(f, p, b, a), jnp.maximum(best, 0.0), 1.0 / a)
    return jnp.where(best <= 0.0, 0.0, turning)


def break_even_probability(payoff: ArrayLike, loss_fraction: ArrayLike) -> Array:
    """Return a / (a + b), the win probability at which the bet is fair and f* is zero."""
    b, a = floats(payoff, loss_fraction)
    return a / (a + b)


def doubling_time(growth: ArrayLike) -> Array:
    """Return ln 2 / g, the expected number of bets to double; ``inf`` where g <= 0."""
    (growth,) = floats(growth)
    stagnant = growth <= 0.0
    return jnp.where(stagnant, jnp.inf, jnp.log(2.0) / jnp.where(stagnant, 1.0, growth))


def kelly_sensitivity(
    win_probability: ArrayLike, payoff: ArrayLike, loss_fraction: ArrayLike
) -> KellySensitivity:
    """Return df*/dp = 1/a + 1/b, df*/db = q/b^2 and df*/da = -p/a^2."""
    p, b, a = jnp.broadcast_arrays(*floats(win_probability, payoff, loss_fraction))
    return KellySensitivity(1.0 / a + 1.0 / b, (1.0 - p) / b**2, -p / a**2)
