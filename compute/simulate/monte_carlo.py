"""What may come: wealth of a constant fraction over many simulated futures.

Paths are drawn by counter-based keys from one seed, so path i meets the same luck at every
fraction: differences between fractions are not differences in luck.
"""

from dataclasses import dataclass
from math import ceil, log, sqrt
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from compute.kelly.fractional import reach_before_probability
from compute.market import Floats

PROBABILITIES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles of a fan."""

STEPS_MAX = 25_200


@dataclass(frozen=True)
class Fan:
    """Simulated futures of one fraction of Kelly, wealth 1 at the start.

    time: years, (k,). wealth: quantiles at each time, (5, k), of `PROBABILITIES`. growth: mean log
    wealth a year. fell_below: P(wealth at some step <= level), for each level asked for.
    drawdown: median and 95 % of the largest fall from a peak. under_water: mean share of steps
    below the peak before. ran_out: P(nothing is left), by losses or withdrawals.
    """

    time: Floats
    wealth: Floats
    growth: float
    fell_below: Floats
    drawdown: tuple[float, float]
    under_water: float
    ran_out: float


def bootstrap_paths(returns: Floats, steps: int, paths: int, block: float, seed: int) -> Floats:
    """Returns drawn from a history in blocks of mean length `block`, (paths, steps).

    The stationary bootstrap: tails, and volatility that comes in clusters, stay as they were.
    """
    n = len(returns)
    generator = np.random.Generator(np.random.Philox(seed))
    starts = generator.integers(0, n, (paths, steps))
    goes_on = generator.random((paths, steps)) >= 1.0 / block
    goes_on[:, 0] = False
    # The place in the current block: the last start, and the steps since then.
    step = np.arange(steps)
    since = np.maximum.accumulate(np.where(goes_on, -1, step), axis=1)
    rows = np.arange(paths)[:, None]
    return returns[(starts[rows, since] + step - since) % n]


def normal_paths(mean: float, deviation: float, steps: int, paths: int, seed: int) -> Floats:
    """Independent normal returns a step, (paths, steps); every second path mirrors the one before.

    Mirrored (antithetic) luck has the exact mean, which steadies the quantiles.
    """
    half = ceil(paths / 2)
    drawn = jax.random.normal(jax.random.key(seed, impl="threefry2x32"), (half, steps))
    luck = np.stack([np.asarray(drawn), -np.asarray(drawn)], axis=1).reshape(2 * half, steps)
    return mean + deviation * luck[:paths]


def student_paths(
    mean: float, deviation: float, degrees: float, steps: int, paths: int, seed: int
) -> Floats:
    """Independent Student t returns of that mean and standard deviation, (paths, steps).

    Raises `ValueError` for 2 degrees of freedom or fewer, which have no standard deviation.
    """
    if degrees <= 2.0:
        raise ValueError(f"{degrees:g} degrees of freedom have no standard deviation")
    generator = np.random.Generator(np.random.Philox(seed))
    drawn = generator.standard_t(degrees, (paths, steps)) * sqrt((degrees - 2.0) / degrees)
    return mean + deviation * drawn


def fan(
    excess: Floats,
    fraction: float,
    steps_per_year: float,
    risk_free_rate: float = 0.0,
    levels: Floats | None = None,
    points: int = 50,
    withdrawal: float = 0.0,
) -> Fan:
    """Wealth of `fraction` of equity in an asset with these excess returns, (paths, steps).

    Rebalanced at each step: W' = (W - withdrawal) (1 + rf + fraction excess); a path that reaches
    0 stays there. withdrawal: taken before each step, 0 or more, as part of the wealth at the
    start: then the order of returns counts too, as losses at the start are of more wealth.
    """
    levels = np.zeros(0) if levels is None else np.asarray(levels, dtype=np.float64)
    marks = np.unique(np.linspace(0, excess.shape[1], min(points, excess.shape[1]) + 1).astype(int))
    log_wealth, lowest, fall, below = _paths(excess, fraction, risk_free_rate, withdrawal)
    wealth = np.exp(np.concatenate([np.zeros((len(excess), 1)), log_wealth], axis=1))[:, marks]
    years = excess.shape[1] / steps_per_year
    final = log_wealth[:, -1]
    return Fan(
        time=marks / steps_per_year,
        wealth=np.quantile(wealth, PROBABILITIES, axis=0),
        growth=float(final.mean()) / years,
        fell_below=np.array([float(np.mean(lowest <= log(level))) for level in levels]),
        drawdown=(float(np.median(fall)), float(np.quantile(fall, 0.95))),
        under_water=float(below.mean()),
        ran_out=float(np.isneginf(final).mean()),
    )


def _paths(
    excess: Floats, fraction: float, rate: float, withdrawal: float
) -> tuple[Floats, Floats, Floats, Floats]:
    told = (jnp.asarray(excess), jnp.asarray(fraction), jnp.asarray(rate))
    found = _walk(*told) if withdrawal == 0.0 else _drawn_on(*told, jnp.asarray(withdrawal))
    log_wealth, lowest, fall, below = (np.asarray(part) for part in found)
    return log_wealth, lowest, fall, below


@jax.jit
def _walk(excess: Array, fraction: Array, rate: Array) -> tuple[Array, Array, Array, Array]:
    """Log wealth after each step (paths, steps), its minimum, largest fall, share below a peak."""
    growth = jnp.log(jnp.maximum(1.0 + rate + fraction * excess, 0.0))
    return _falls(jnp.cumsum(growth, axis=1))


@jax.jit
def _drawn_on(
    excess: Array, fraction: Array, rate: Array, withdrawal: Array
) -> tuple[Array, Array, Array, Array]:
    """The same of wealth that something is taken out of before each step."""

    def step(wealth: Array, moved: Array) -> tuple[Array, Array]:
        left = jnp.maximum(wealth - withdrawal, 0.0) * jnp.maximum(1.0 + rate + moved, 0.0)
        return left, left

    start = jnp.ones(excess.shape[0])
    wealth = jax.lax.scan(step, start, fraction * excess.T)[1].T
    return _falls(jnp.log(wealth))


def _falls(log_wealth: Array) -> tuple[Array, Array, Array, Array]:
    """What `_walk` returns, of log wealth."""
    peak = jnp.maximum(jax.lax.cummax(log_wealth, axis=1), 0.0)
    fall = jnp.max(1.0 - jnp.exp(log_wealth - peak), axis=1)
    below = jnp.mean(log_wealth < peak, axis=1)
    return log_wealth, jnp.minimum(jnp.min(log_wealth, axis=1), 0.0), fall, below


def ever_below_by(level: float, growth: float, deviation: float, years: float) -> float:
    """P(wealth of geometric Brownian motion falls to `level` < 1 within `years`).

    Phi((a - g T)/(s sqrt T)) + exp(2 g a / s^2) Phi((a + g T)/(s sqrt T)), a = ln level, g the mean
    and s the deviation of log wealth a year: the reflection principle. As T grows and g > 0 it
    becomes level^(2 g / s^2) (Thorp 2006, section 7.3).
    """
    a, scale = log(level), deviation * sqrt(years)
    tail, below = float(np.exp(2.0 * growth * a / deviation**2)), NormalDist().cdf
    return below((a - growth * years) / scale) + tail * below((a + growth * years) / scale)


@dataclass(frozen=True)
class LognormalChances:
    """Chances of geometric Brownian motion in closed form.

    halves_before_doubling: whenever that is. fell_below: P(falls to each level within the years).
    """

    halves_before_doubling: float
    fell_below: Floats


def lognormal_chances(
    fraction: float, mean: float, deviation: float, rate: float, levels: Floats, years: float
) -> LognormalChances | None:
    """Chances of a constant fraction in an asset of that excess mean and deviation a year.

        growth g = rate + f mean - f^2 deviation^2 / 2,   deviation s = |f| deviation

    None where g or s is not positive: wealth shrinks in the long run, or does not move by chance.
    """
    spread = abs(fraction) * deviation
    growth = rate + fraction * mean - 0.5 * spread**2
    if not (spread > 0.0 and growth > 0.0):
        return None
    # The multiple of full Kelly with the same odds, 2 / c - 1 = 2 g / s^2.
    multiple = 2.0 / (1.0 + 2.0 * growth / spread**2)
    doubles = float(reach_before_probability(2.0, 0.5, multiple))
    below = np.array([ever_below_by(level, growth, spread, years) for level in levels])
    return LognormalChances(1.0 - doubles, below)
