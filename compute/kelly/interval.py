"""How sure a size is: standard errors by the delta method, and the interval they give.

An interval belongs to the raw stake, before limits; its lower end may be negative, which says
that the data don't rule out an edge on the other side.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtri
from jax.typing import ArrayLike

from compute.edge.numeric import floats
from compute.edge.posterior import BetaPosterior, posterior_quantile
from compute.kelly.classic import kelly_fraction, kelly_sensitivity


class Interval(NamedTuple):
    """The two ends of an interval, each of the shape of the inputs."""

    lower: Array
    upper: Array


def kelly_standard_error(
    win_probability: ArrayLike,
    payoff: ArrayLike,
    loss_fraction: ArrayLike,
    win_probability_standard_error: ArrayLike,
    payoff_standard_error: ArrayLike = 0.0,
    loss_fraction_standard_error: ArrayLike = 0.0,
) -> Array:
    """Return the standard error of f* = p/a - q/b from independent errors in p, b and a.

    se^2 = (1/a + 1/b)^2 se_p^2 + (q/b^2)^2 se_b^2 + (p/a^2)^2 se_a^2
    """
    slope = kelly_sensitivity(win_probability, payoff, loss_fraction)
    se_p, se_b, se_a = floats(
        win_probability_standard_error, payoff_standard_error, loss_fraction_standard_error
    )
    variance = (
        (slope.win_probability * se_p) ** 2
        + (slope.payoff * se_b) ** 2
        + (slope.loss_fraction * se_a) ** 2
    )
    # The slope of the root at 0 is infinite; without an error there is nothing to differentiate.
    unsure = variance > 0.0
    return jnp.where(unsure, jnp.sqrt(jnp.where(unsure, variance, 1.0)), 0.0)


def proportion_standard_error(win_probability: ArrayLike, n_outcomes: ArrayLike) -> Array:
    """Return sqrt(p q / n), the standard error of a win rate observed over n outcomes."""
    p, n = floats(win_probability, n_outcomes)
    return jnp.sqrt(p * (1.0 - p) / n)


def continuous_standard_error(volatility: ArrayLike, observation_time: ArrayLike) -> Array:
    """Return 1 / (s sqrt(T)), the standard error of (m^ - r) / s^2 when s is known.

    T in the unit of time of s: ten years of history leave +-1.58 on a stock of 20 % a year.
    """
    s, t = floats(volatility, observation_time)
    return 1.0 / (s * jnp.sqrt(t))


def estimation_growth_loss(n_instruments: ArrayLike, observation_time: ArrayLike) -> Array:
    """Return N / (2 T), the growth a plug-in Kelly of N assets is expected to lose per time."""
    n, t = floats(n_instruments, observation_time)
    return n / (2.0 * t)


def normal_interval(
    fraction: ArrayLike, fraction_standard_error: ArrayLike, level: ArrayLike = 0.95
) -> Interval:
    """Return f -+ z se, the two-sided normal interval that covers with probability ``level``."""
    f, error, level = floats(fraction, fraction_standard_error, level)
    half_width = ndtri(0.5 * (1.0 + level)) * error
    return Interval(f - half_width, f + half_width)


def posterior_interval(
    posterior: BetaPosterior,
    payoff: ArrayLike,
    loss_fraction: ArrayLike,
    level: ArrayLike = 0.95,
) -> Interval:
    """Return the central credible interval of f* = p/a - q/b under a Beta posterior of p.

    Exact, because f* increases with p: the ends are f* at the ends of the interval of p.
    """
    (level,) = floats(level)
    low = posterior_quantile(posterior, 0.5 * (1.0 - level))
    high = posterior_quantile(posterior, 0.5 * (1.0 + level))
    return Interval(
        kelly_fraction(low, payoff, loss_fraction), kelly_fraction(high, payoff, loss_fraction)
    )
