"""How sure one can be of a mean over dependent periods: the stationary bootstrap.

Blocks of geometric length are drawn from the series, wrapped around its end, so that dependence
within a block is kept (Politis and Romano 1994). The mean length is chosen from the series (Politis
and White 2004, with the correction of Patton, Politis and White 2009).
"""

from dataclasses import dataclass
from math import ceil, log10, sqrt

import numpy as np

from compute.market import Floats, Integers
from compute.simulate.long_run import DEVIATION_MIN, lags_of, long_run_variance

OBSERVATIONS_MIN = 60
"""Fewer say too little about their own dependence for an interval."""

REPLICATIONS = 2_000
CRITICAL = 2.0
"""Autocorrelations beyond CRITICAL sqrt(log10 n / n) count as such (Politis and White 2004)."""


@dataclass(frozen=True)
class Interval:
    """A mean per period with a 95 % percentile interval; low and high are None for too few."""

    mean: float
    low: float | None
    high: float | None
    t_statistic: float | None
    """Of the mean, by the long-run variance with Bartlett weights (Newey and West 1987)."""
    observations: int


def block_length(series: Floats) -> float:
    """The mean block length for the mean of `series` (n,), at least 1.

    b = (2 G^2 / (2 g(0)^2))^(1/3) n^(1/3), with the spectral density g(0) = sum lam(k/2m) R(k), and
    G = sum lam(k/2m) |k| R(k), R the autocovariances and lam the flat-top window; a series without
    variation has 1.
    """
    n = len(series)
    centred = series - series.mean()
    lag_max = min(ceil(sqrt(n)) + max(5, int(log10(n))), n - 1)
    covariance = np.array(
        [float(centred[lag:] @ centred[: n - lag]) / n for lag in range(lag_max + 1)]
    )
    if covariance[0] <= (DEVIATION_MIN * series.mean()) ** 2:
        return 1.0
    m = _cut_off(centred, n)
    span = min(2 * m, lag_max)
    lags = np.arange(-span, span + 1)
    window = np.minimum(1.0, 2.0 * (1.0 - np.abs(lags) / span))
    weighted = window * covariance[np.abs(lags)]
    slope, density = float(weighted @ np.abs(lags)), float(weighted.sum())
    if density <= 0.0:
        return 1.0
    longest = ceil(min(3.0 * sqrt(n), n / 3.0))
    return float(min(max((slope**2 / density**2 * n) ** (1.0 / 3.0), 1.0), longest))


def _cut_off(centred: Floats, n: int) -> int:
    """The first lag m from which a run of autocorrelations is as good as none, at least 1."""
    runs = max(5, int(log10(n)))
    lag_max = ceil(sqrt(n)) + runs
    bound = CRITICAL * sqrt(log10(n) / n)
    # Each lag is scaled by the two stretches that it compares, as in the authors' own program.
    correlation = []
    for lag in range(1, min(lag_max, n - 2) + 1):
        ahead, behind = centred[lag:], centred[: n - lag]
        scale = sqrt(float(ahead @ ahead) * float(behind @ behind))
        correlation.append(abs(float(ahead @ behind)) / scale if scale > 0.0 else 0.0)
    beyond = np.array(correlation) >= bound
    for start in range(len(beyond) - runs + 1):
        if not beyond[start : start + runs].any():
            return start + 1
    return lag_max


def resampled_places(n: int, mean_length: float, replications: int, seed: int) -> Integers:
    """Places of the periods of each replication, (replications, n), blocks wrapped around."""
    generator = np.random.Generator(np.random.PCG64(seed))
    starts = generator.integers(0, n, (replications, n))
    goes_on = generator.random((replications, n)) >= 1.0 / mean_length
    goes_on[:, 0] = False
    places = np.empty((replications, n), dtype=np.int64)
    places[:, 0] = starts[:, 0]
    for period in range(1, n):
        following = (places[:, period - 1] + 1) % n
        places[:, period] = np.where(goes_on[:, period], following, starts[:, period])
    return places


def mean_interval(series: Floats, seed: int = 0) -> Interval:
    """The mean of a series per period, and how sure it is; reproducible by its seed."""
    n = len(series)
    mean = float(series.mean()) if n else 0.0
    if n < OBSERVATIONS_MIN:
        return Interval(mean, None, None, None, n)
    length = block_length(series)
    means = series[resampled_places(n, length, REPLICATIONS, seed)].mean(axis=1)
    low, high = (float(end) for end in np.quantile(means, [0.025, 0.975]))
    return Interval(mean, low, high, _t_statistic(series), n)


def _t_statistic(series: Floats) -> float | None:
    n = len(series)
    variance = long_run_variance(series, lags_of(n))
    return float(series.mean()) / sqrt(variance / n) if variance > 0.0 else None
