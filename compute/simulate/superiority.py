"""Is the best of many better than a benchmark, or was one of so many bound to look so?

    T = max(0, max_k sqrt(n) mean(d_k) / w_k)

d_k: growth of trial k less the benchmark's, w_k its long-run deviation under the stationary
bootstrap. T is compared with its bootstrap distribution where no trial is better: every mean moved
to 0 (as White 2000), or only those that are not clearly worse (Hansen 2005), so that many bad
trials don't hide a good one. Both are of the studentised T: Hansen's consistent p-value and its
upper bound. White's own statistic, and that of programs that do not divide by w_k, are of the raw
means, and may be far from these where trials differ in volatility.
"""

from math import log, sqrt

import numpy as np

from compute.market import Floats
from compute.simulate.bootstrap import REPLICATIONS, block_length, resampled_places


def superiority(
    difference: Floats,
    block: float | None = None,
    replications: int = REPLICATIONS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """p-values (consistent, upper bound) of differences (n periods, k trials).

    block: mean length of a block, by default what the trial of the largest mean asks for. Of 2,000
    replications p-values near a half have a standard error of 0.011. None where no trial differs
    from the benchmark at all, or there are fewer than 4 periods.
    """
    n = len(difference)
    varied = difference[:, difference.std(axis=0) > 0.0] if n >= 4 else difference[:, :0]
    if not varied.size:
        return None
    if block is None:
        block = block_length(varied[:, int(varied.mean(axis=0).argmax())])
    mean, deviation = varied.mean(axis=0), np.sqrt(_variance(varied, block))
    statistic = max(0.0, float((sqrt(n) * mean / deviation).max()))
    places = resampled_places(n, block, replications, seed)
    # How often each period was drawn: one product gives the means of all replications.
    drawn = np.stack([np.bincount(row, minlength=n) for row in places]).astype(np.float64)
    means = drawn @ varied / n
    clear = mean >= -deviation * sqrt(2.0 * log(log(n)) / n)
    found = []
    for centre in (np.where(clear, mean, 0.0), mean):
        highest = (sqrt(n) * (means - centre) / deviation).max(axis=1)
        found.append(float(np.mean(np.maximum(highest, 0.0) >= statistic)))
    return found[0], found[1]


def _variance(series: Floats, block: float) -> Floats:
    """Variance of sqrt(n) times the mean under the stationary bootstrap, exactly, (k,)."""
    n, p = len(series), 1.0 / block
    centred = series - series.mean(axis=0)
    variance = (centred**2).mean(axis=0)
    for lag in range(1, n):  # blocks go on from the end at the start, so large lags count again
        weight = (n - lag) / n * (1.0 - p) ** lag + lag / n * (1.0 - p) ** (n - lag)
        if weight < 1e-12:
            continue
        variance = variance + 2.0 * weight * (centred[lag:] * centred[:-lag]).sum(axis=0) / n
    return np.maximum(variance, 1e-300)
