"""The variance of a mean over dependent periods."""

import numpy as np

from compute.market import Floats

DEVIATION_MIN = 1e-12
"""A standard deviation below this part of |mean| is rounding."""


def lags_of(n: int) -> int:
    """Lags that count of n periods, 4 (n / 100)^(2/9) (Newey and West 1994)."""
    return int(4.0 * (n / 100.0) ** (2.0 / 9.0))


def long_run_variance(series: Floats, lags: int) -> float:
    """R(0) + 2 sum_k (1 - k / (lags + 1)) R(k), R the autocovariances of `series` (n,).

    Over n it is the variance of the mean. Bartlett weights keep it from being negative but for
    rounding (Newey and West 1987).
    """
    n, centred = len(series), series - np.mean(series)
    variance = float(centred @ centred) / n
    for lag in range(1, lags + 1):
        weight = 1.0 - lag / (lags + 1.0)
        variance += 2.0 * weight * float(centred[lag:] @ centred[:-lag]) / n
    return variance
