"""Parts of a spectrum against all of it, and what estimators make of them."""

import numpy as np
import pytest

from compute.correlation.factors import principal_factors
from compute.correlation.random_matrix import denoised, detoned, marchenko_pastur_edges
from compute.correlation.sample import correlation_of, sample_covariance
from compute.correlation.spectrum import largest_pairs, pairs_above, smallest_eigenvalue


def correlation(n: int, count: int, seed: int = 0) -> np.ndarray:
    """Of returns with one factor; singular where count <= n."""
    rng = np.random.default_rng(seed)
    returns = rng.standard_normal((count, 1)) + rng.standard_normal((count, n))
    return correlation_of(sample_covariance(returns))[0]


@pytest.mark.parametrize(("n", "count"), [(1, 10), (2, 10), (30, 90), (40, 30)])
def test_parts_of_a_spectrum_are_those_of_all_of_it(n: int, count: int) -> None:
    matrix = correlation(n, count)
    values, vectors = np.linalg.eigh(matrix)
    assert smallest_eigenvalue(matrix) == pytest.approx(values[0], abs=1e-13 * n)
    edge = float(values[-1]) - 1e-6
    for found in (largest_pairs(matrix, 1), pairs_above(matrix, edge)):
        np.testing.assert_allclose(found[0], values[-1:], rtol=1e-13)
        np.testing.assert_allclose(abs(found[1][:, 0] @ vectors[:, -1]), 1.0, rtol=1e-12)
    assert pairs_above(matrix, float(values[-1]) + 1.0)[1].shape == (n, 0)


@pytest.mark.parametrize(("n", "count", "variance"), [(30, 90, 1.0), (40, 30, 1.0), (20, 50, 0.1)])
def test_denoised_by_the_kept_pairs_is_the_whole_spectrum_cleaned(
    n: int, count: int, variance: float
) -> None:
    matrix = correlation(n, count, seed=n)
    values, vectors = np.linalg.eigh(matrix)
    noise = values <= marchenko_pastur_edges(n, count, variance)[1]
    values[noise] = values[noise].mean()
    expected, _ = correlation_of((vectors * values) @ vectors.T)
    cleaned, kept = denoised(matrix, count, variance)
    assert kept == n - noise.sum()
    np.testing.assert_allclose(cleaned, expected, atol=1e-13)


def test_detoned_by_the_removed_pairs_is_the_rest_of_the_spectrum() -> None:
    matrix = correlation(30, 90)
    values, vectors = np.linalg.eigh(matrix)
    expected, _ = correlation_of((vectors[:, :-3] * values[:-3]) @ vectors[:, :-3].T)
    np.testing.assert_allclose(detoned(matrix, 3), expected, atol=1e-12)


def test_principal_factors_of_pure_noise_are_one_component() -> None:
    returns = np.linalg.qr(np.random.default_rng(0).standard_normal((60, 6)))[0]  # none above noise
    form = principal_factors(returns - returns.mean(axis=0))
    assert form.loadings.shape == (6, 1)
