"""Covariance in stress: of the periods that were least likely, taken all together."""

import numpy as np

from compute.correlation.shrinkage import ledoit_wolf
from compute.history import Floats


def turbulence(returns: Floats) -> Floats:
    """(r_t - m)' S^-1 (r_t - m), (T,): how unusual each period was, S by Ledoit-Wolf."""
    covariance, _ = ledoit_wolf(returns)
    centred = returns - returns.mean(axis=0)
    solved = np.linalg.solve(covariance, centred.T)
    return np.einsum("ti,it->t", centred, solved)


def stress_covariance(returns: Floats, fraction: float) -> tuple[Floats, int]:
    """Second moments about the mean of the `fraction` of periods of highest turbulence.

    Chow, Jacquier, Kritzman and Lowry 1999, "Optimal portfolios in good times and bad". Periods
    are chosen by their distance in all directions, not by falling markets: choosing by the sign or
    size of one return changes correlations by itself (Boyer, Gibson and Loretan 1999), while
    for normal returns this leaves every correlation as it is and only scales variances. Returns
    the covariance and the number of periods.
    """
    count = max(2, round(fraction * len(returns)))
    chosen = np.argsort(turbulence(returns), kind="stable")[-count:]
    rows = returns[chosen] - returns.mean(axis=0)
    return rows.T @ rows / count, count
