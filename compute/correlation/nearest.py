"""The correlation matrix nearest to a symmetric one, in the Frobenius norm."""

from dataclasses import dataclass

import numpy as np

from compute.correlation.sample import correlation_of, scaled
from compute.correlation.spectrum import smallest_eigenvalue
from compute.history import Floats
from compute.optimize.time_limit import checkpoint

ROUNDS_MAX = 500
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Repaired:
    """The nearest matrix, |repaired - given|_F over entries scaled to correlations, and the
    smallest eigenvalue of what was given in that scale."""

    matrix: Floats
    distance: float
    smallest_eigenvalue: float


def nearest_correlation(given: Floats) -> Floats:
    """The positive semidefinite matrix of unit diagonal nearest to `given` (n, n), symmetric.

    Alternating projections with Dykstra's correction (Higham 2002, "Computing the nearest
    correlation matrix", IMA J. Numerical Analysis 22). It stops where a round moves it by less
    than 1e-10 of its norm; the last step is a congruence, so the result is semidefinite to
    rounding.
    """
    n = len(given)
    y = given.copy()
    correction = np.zeros_like(y)
    for _ in range(ROUNDS_MAX):
        checkpoint()
        r = y - correction
        x = _semidefinite(r)
        correction = x - r
        before, y = y, x.copy()
        np.fill_diagonal(y, 1.0)
        if np.linalg.norm(y - before) <= TOLERANCE * np.linalg.norm(y):
            break
    correlation, _ = correlation_of(_semidefinite(y))
    correlation[np.diag_indices(n)] = 1.0
    return 0.5 * (correlation + correlation.T)


def repaired(matrix: Floats, tolerance: float = 0.0) -> Repaired:
    """A covariance or correlation made semidefinite; variances stay as they are.

    tolerance: of an eigenvalue of the correlation. What is below 0 by no more comes back as given:
    by rounding an estimate from fewer periods than instruments always is.
    """
    correlation, deviation = correlation_of(matrix)
    smallest = smallest_eigenvalue(correlation)
    if smallest >= -tolerance:
        return Repaired(matrix, 0.0, smallest)
    nearest = nearest_correlation(correlation)
    distance = float(np.linalg.norm(nearest - correlation))
    return Repaired(scaled(nearest, deviation), distance, smallest)


def _semidefinite(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    return (vectors * np.maximum(values, 0.0)) @ vectors.T
