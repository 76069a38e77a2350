"""Factor models of a covariance, B F B' + diag(d), from principal components or given factors."""

from dataclasses import dataclass

import numpy as np

from compute.correlation.random_matrix import marchenko_pastur_edges
from compute.correlation.sample import correlation_of, sample_covariance
from compute.correlation.spectrum import largest_pairs, pairs_above
from compute.history import Floats


@dataclass(frozen=True)
class FactorForm:
    """loadings B (n, k), factor covariance F (k, k), specific variance d (n,) >= 0."""

    loadings: Floats
    factor_covariance: Floats
    specific_variance: Floats

    @property
    def matrix(self) -> Floats:
        """B F B' + diag(d), (n, n)."""
        product = self.loadings @ self.factor_covariance @ self.loadings.T
        return product + np.diag(self.specific_variance)


def principal_factors(returns: Floats, count: int = 0) -> FactorForm:
    """The k largest principal components of the correlation, the rest as specific variance.

    B = D V sqrt(l), F = 1, d_i = s_i^2 (1 - sum_k V_ik^2 l_k), so that variances are the sample's.
    count: k; 0 takes the components above the edge of noise, one at least.
    """
    correlation, deviation = correlation_of(sample_covariance(returns))
    n, values, vectors = len(correlation), np.zeros(0), np.zeros((0, 0))
    if not count:
        _, edge = marchenko_pastur_edges(n, len(returns))
        values, vectors = pairs_above(correlation, edge)
    k = count or max(1, len(values))
    if k >= n:
        raise ValueError(f"has {n} instruments; there must be fewer factors than that")
    if len(values) < k:
        values, vectors = largest_pairs(correlation, k)
    loadings = vectors * np.sqrt(np.maximum(values, 0.0))
    specific = np.maximum(1.0 - (loadings**2).sum(axis=1), 0.0)
    return FactorForm(deviation[:, None] * loadings, np.eye(k), deviation**2 * specific)


def given_factors(returns: Floats, factors: Floats) -> FactorForm:
    """Loadings of returns (T, n) on factor returns (T, k) by least squares with a constant.

    F is the factors' sample covariance, d the residual variance (T - k - 1 degrees of freedom).
    """
    count, k = factors.shape
    if count <= k + 1:
        raise ValueError(f"has {count} observations; {k} factors need {k + 2}")
    design = np.column_stack([np.ones(count), factors])
    solution, _, rank, _ = np.linalg.lstsq(design, returns, rcond=None)
    if rank <= k:
        raise ValueError("factors are linearly dependent")
    residual = returns - design @ solution
    specific = np.asarray((residual**2).sum(axis=0) / (count - k - 1), dtype=np.float64)
    return FactorForm(
        np.asarray(solution[1:].T, dtype=np.float64), sample_covariance(factors), specific
    )
