"""Sharpe ratios of returns that depend on each other, and how long a record has to be.

Lo (2002): the ratio of q periods together is eta(q) S, with S of one and

    eta(q) = q / sqrt(q + 2 sum_{k < q} (q - k) rho_k)

which is sqrt(q) without autocorrelation. rho_k counts up to the lag of Newey and West,
4 (n/100)^(2/9), and is 0 beyond: what a series says of longer lags is noise.
"""

from math import sqrt
from statistics import NormalDist

import numpy as np

from compute.market import Floats
from compute.simulate.long_run import DEVIATION_MIN, lags_of, long_run_variance

SURE = 0.95


def sharpe_ratio(excess: Floats) -> float | None:
    """mean / sd per period, n - 1 in the denominator; None where there is no variation."""
    if len(excess) < 2:
        return None
    mean, deviation = float(excess.mean()), float(excess.std(ddof=1))
    return mean / deviation if deviation > DEVIATION_MIN * max(abs(mean), DEVIATION_MIN) else None


def sharpe_error(excess: Floats) -> float | None:
    """Standard error of the Sharpe ratio per period, with the population skewness and kurtosis."""
    ratio = sharpe_ratio(excess)
    return None if ratio is None else sharpe_error_of(ratio, len(excess), *_shape(excess))


def sharpe_error_of(ratio: float, n: int, skewness: float, kurtosis: float) -> float:
    """Standard error of a Sharpe ratio S of n returns of that skewness g3 and kurtosis g4.

    sqrt((1 - g3 S + (g4 - 1)/4 S^2) / (n - 1)), all per period, g4 of a normal 3. Mertens 2002;
    Lo 2002 is its case of g3 = 0, g4 = 3.
    """
    variance = 1.0 - skewness * ratio + (kurtosis - 1.0) / 4.0 * ratio**2
    return sqrt(max(variance, 0.0) / (n - 1))


def probabilistic_sharpe(excess: Floats, benchmark: float) -> float | None:
    """P(true Sharpe ratio > benchmark), both per period: Phi((S - S*) / se)."""
    ratio, error = sharpe_ratio(excess), sharpe_error(excess)
    if ratio is None or not error:
        return None
    return NormalDist().cdf((ratio - benchmark) / error)


def _shape(values: Floats) -> tuple[float, float]:
    """Population skewness and kurtosis."""
    centred = values - values.mean()
    variance = float(np.mean(centred**2))
    return float(np.mean(centred**3)) / variance**1.5, float(np.mean(centred**4)) / variance**2


def lo_scale(periods: int, correlation: Floats) -> float | None:
    """eta(q) for autocorrelations of lags 1, 2, ..; None where they leave no variance."""
    lags = np.arange(1, min(len(correlation), periods - 1) + 1)
    within = periods + 2.0 * float((periods - lags) @ correlation[: len(lags)])
    return periods / sqrt(within) if within > 0.0 else None


def autocorrelated_sharpe(excess: Floats, periods: int) -> tuple[float, float] | None:
    """The ratio of `periods` together by eta(q), and its standard error; None where not defined.

    The error is eta(q) times that of the ratio a period by the delta method, of the long-run
    variance of (z - S (z^2 - 1) / 2) with Bartlett weights, z = (r - mean) / sd; at lag 0 that is
    Mertens' (2002).
    """
    ratio, n = sharpe_ratio(excess), len(excess)
    if ratio is None or n < 4:
        return None
    lags = min(lags_of(n), n - 2)
    centred = excess - excess.mean()
    square = float(centred @ centred)
    correlation = np.array([float(centred[k:] @ centred[:-k]) / square for k in range(1, lags + 1)])
    scale = lo_scale(periods, correlation)
    if scale is None:
        return None
    z = centred / sqrt(square / n)
    influence = z - 0.5 * ratio * (z**2 - 1.0)
    return scale * ratio, scale * sqrt(max(long_run_variance(influence, lags), 0.0) / n)


def track_record_min(excess: Floats) -> float | None:
    """Periods until P(true Sharpe ratio > 0) is `SURE`, 1 + (n - 1) (z se / S)^2.

    Bailey and Lopez de Prado 2012. None where S is not defined or not above 0.
    """
    ratio, error = sharpe_ratio(excess), sharpe_error(excess)
    if ratio is None or error is None or ratio <= 0.0:
        return None
    return 1.0 + (len(excess) - 1) * (NormalDist().inv_cdf(SURE) * error / ratio) ** 2
