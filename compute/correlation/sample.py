"""Sample and exponentially weighted covariance, also pair by pair where histories have gaps."""

import numpy as np

from compute.history import Floats


def scaled(correlation: Floats, deviation: Floats) -> Floats:
    """D C D for standard deviations D, (n, n)."""
    return correlation * np.outer(deviation, deviation)


def correlation_of(covariance: Floats) -> tuple[Floats, Floats]:
    """Correlation (n, n) and standard deviations (n,) of a covariance.

    An instrument without variance correlates with nothing.
    """
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    some = np.where(deviation > 0.0, deviation, 1.0)
    correlation = covariance / np.outer(some, some)
    np.fill_diagonal(correlation, 1.0)
    return correlation, deviation


def sample_covariance(returns: Floats) -> Floats:
    """S = sum_t (r_t - m)(r_t - m)' / (T - 1), (n, n), of returns (T, n).

    NaN: an entry is the product of each instrument's own deviation and the correlation over the
    periods both have. Such a matrix may be indefinite.
    """
    if np.isnan(returns).any():
        return _pairwise(returns, np.ones(len(returns)))
    centred = returns - returns.mean(axis=0)
    return centred.T @ centred / (len(returns) - 1)


def ewma_weights(count: int, decay: float) -> Floats:
    """(1 - L) L^(T-1-t) / (1 - L^T), t = 0 .. T-1: weights of T observations, summing to 1."""
    weights = decay ** np.arange(count - 1, -1, -1, dtype=np.float64)
    return np.asarray(weights / weights.sum())


def ewma_covariance(returns: Floats, decay: float) -> Floats:
    """sum_t w_t r_t r_t', (n, n): exponentially weighted second moments of returns (T, n).

    The closed form of S_t = L S_{t-1} + (1 - L) r_t r_t' with the weights made to sum to 1
    (RiskMetrics Technical Document 1996; the mean is taken as zero, as there). decay: L in (0, 1).
    NaN as in `sample_covariance`.
    """
    weights = ewma_weights(len(returns), decay)
    if np.isnan(returns).any():
        return _pairwise(returns, weights, centre=False)
    rooted = returns * np.sqrt(weights)[:, None]
    return rooted.T @ rooted  # a matrix and its own transpose: half the work, and symmetric


def _pairwise(returns: Floats, weights: Floats, *, centre: bool = True) -> Floats:
    there = ~np.isnan(returns)
    x = np.where(there, returns, 0.0)
    w = there * weights[:, None]
    both = w.T @ there.astype(np.float64)
    if (both <= 0.0).any():
        raise ValueError("two instruments have no period in common")
    product, square = (w * x).T @ x, (w * x * x).T @ there
    if centre:
        total = (w * x).T @ there  # sum of i over the periods of i and j
        product = product - total * total.T / both
        square = square - total * total / both
    scale = np.sqrt(square * square.T)
    correlation = np.divide(product, scale, out=np.zeros_like(product), where=scale > 0.0)
    np.fill_diagonal(correlation, 1.0)
    n_own = there.sum(axis=0)
    own = np.diag(square) / np.diag(both)
    own = own * n_own / np.maximum(n_own - 1, 1) if centre else own
    return scaled(np.clip(correlation, -1.0, 1.0), np.sqrt(own))
