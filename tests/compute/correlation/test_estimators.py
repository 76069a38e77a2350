"""Estimators of covariance against published numbers, scikit-learn, pandas and simulated truths."""

import numpy as np
import pandas as pd
import pytest
from sklearn.covariance import LedoitWolf

from compute.correlation import estimate as door
from compute.correlation.dynamic import dcc_step, fit_dcc
from compute.correlation.estimate import Estimator, Settings, estimate, held_out, log_likelihood
from compute.correlation.factors import given_factors, principal_factors
from compute.correlation.nearest import nearest_correlation, repaired
from compute.correlation.random_matrix import denoised, detoned, marchenko_pastur_edges
from compute.correlation.sample import (
    correlation_of,
    ewma_covariance,
    ewma_weights,
    sample_covariance,
    scaled,
)
from compute.correlation.shrinkage import (
    ledoit_wolf,
    ledoit_wolf_nonlinear,
    nonlinear_eigenvalues,
)
from compute.correlation.stress import stress_covariance

R13B = np.array([[1, 0.6, 0.1, 0.05], [0.6, 1, 0.2, 0.1], [0.1, 0.2, 1, 0.3], [0.05, 0.1, 0.3, 1]])
R14 = np.array(
    [
        (0.01, 0.02, -0.01),
        (-0.02, -0.01, 0.005),
        (0.015, 0.03, 0.02),
        (-0.005, -0.02, -0.015),
        (0.02, 0.01, 0),
        (-0.01, 0.005, 0.01),
    ]
)


def draw(covariance: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).multivariate_normal(
        np.zeros(len(covariance)), covariance, count
    )


def equicorrelated(n: int, rho: float) -> np.ndarray:
    return (1 - rho) * np.eye(n) + rho


@pytest.mark.parametrize(
    ("n", "count", "variance", "low", "high"),
    [
        (406, 1309, 1.0, 0.196319, 2.424001),
        (406, 1309, 0.74, 0.145276, 1.793761),
        (100, 1000, 1.0, 0.467544, 1.732456),
        (50, 252, 1.0, 0.307542, 2.089284),
    ],
)
def test_edges_of_noise_r13(n: int, count: int, variance: float, low: float, high: float) -> None:
    edges = marchenko_pastur_edges(n, count, variance)
    assert edges == pytest.approx((low, high), abs=5e-7)


def test_denoised_r13b() -> None:
    cleaned, kept = denoised(R13B, 100)
    assert kept == 1
    upper = cleaned[np.triu_indices(4, 1)]
    expected = [0.33031704, 0.22112182, 0.17318240, 0.23068459, 0.18067194, 0.12094595]
    np.testing.assert_allclose(upper, expected, atol=5e-9)


def test_detoned_is_a_singular_correlation_without_the_market() -> None:
    market = equicorrelated(6, 0.5)
    rest = detoned(market)
    assert np.allclose(np.diag(rest), 1.0)
    values = np.linalg.eigvalsh(rest)
    assert abs(values[0]) < 1e-12
    np.testing.assert_allclose(rest @ np.ones(6), 0.0, atol=1e-12)
    with pytest.raises(ValueError, match="one must be left"):
        detoned(market, 6)


def test_ledoit_wolf_r14_and_scikit_learn() -> None:
    covariance, amount = ledoit_wolf(R14)
    assert amount == pytest.approx(0.4980212903, abs=5e-11)
    assert covariance[0, 0] == pytest.approx(0.00020798, abs=5e-9)
    assert covariance[0, 1] == pytest.approx(0.00008715, abs=5e-9)
    assert covariance[1, 2] == pytest.approx(0.00005368, abs=5e-9)
    for seed, shape in enumerate([(6, 3), (40, 60), (300, 25), (12, 1)]):
        returns = np.random.default_rng(seed).standard_t(4, shape) * 0.02
        oracle = LedoitWolf().fit(returns)
        covariance, amount = ledoit_wolf(returns)
        np.testing.assert_allclose(covariance, oracle.covariance_, rtol=1e-10, atol=1e-18)
        assert amount == pytest.approx(oracle.shrinkage_, rel=1e-9)


def test_nonlinear_shrinkage_r15() -> None:
    shrunk = nonlinear_eigenvalues(np.array([0.1, 0.5, 1, 2, 5.0]), 50)
    expected = [0.12525794, 0.63175799, 1.14459389, 2.10848723, 4.94762134]
    np.testing.assert_allclose(shrunk, expected, atol=5e-9)


@pytest.mark.parametrize(("p", "count"), [(60, 180), (100, 60)])
def test_nonlinear_shrinkage_removes_most_of_the_loss(p: int, count: int) -> None:
    """PRIAL: share of the excess loss over the best rotation-equivariant estimate; also p > T."""
    truth = np.diag(np.concatenate([np.full(p // 5, 1.0), np.full(2 * p // 5, 3.0),
                                    np.full(p - p // 5 - 2 * p // 5, 10.0)]))  # fmt: skip
    ours, sample, best = 0.0, 0.0, 0.0
    for seed in range(20):
        returns = draw(truth, count, seed)
        s = sample_covariance(returns)
        _, vectors = np.linalg.eigh(s)
        oracle = (vectors * np.einsum("ji,jk,ki->i", vectors, truth, vectors)) @ vectors.T
        ours += np.linalg.norm(ledoit_wolf_nonlinear(returns) - oracle) ** 2
        sample += np.linalg.norm(s - oracle) ** 2
    prial = 1.0 - ours / sample - best
    assert prial > 0.9


def test_ewma_weights_are_the_recursion_in_closed_form() -> None:
    returns = draw(np.eye(3) * 1e-4, 50)
    state = np.zeros((3, 3))
    for row in returns:
        state = 0.94 * state + 0.06 * np.outer(row, row)
    expected = state / (1 - 0.94**50)
    np.testing.assert_allclose(ewma_covariance(returns, 0.94), expected, rtol=1e-12)
    assert ewma_weights(7, 0.9).sum() == pytest.approx(1.0, rel=1e-15)


def test_pairs_are_those_of_pandas() -> None:
    returns = draw(equicorrelated(5, 0.4), 80)
    returns[np.random.default_rng(1).random(returns.shape) < 0.2] = np.nan
    found, deviation = correlation_of(sample_covariance(returns))
    frame = pd.DataFrame(returns)
    np.testing.assert_allclose(found, frame.corr().to_numpy(), atol=1e-12)
    np.testing.assert_allclose(deviation, frame.std().to_numpy(), rtol=1e-12)
    whole = draw(equicorrelated(3, 0.2), 30)
    holes = whole.copy()
    holes[-1, :] = np.nan
    for made in (sample_covariance, lambda r: ewma_covariance(r, 0.9)):
        np.testing.assert_allclose(made(holes), made(whole[:-1]), rtol=1e-9)
    apart = np.array([[1.0, np.nan], [np.nan, 1.0], [2.0, np.nan], [np.nan, 3.0]])
    with pytest.raises(ValueError, match="no period in common"):
        sample_covariance(apart)


def test_principal_factors_keep_variances_and_explain_one_factor() -> None:
    loadings = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    truth = np.outer(loadings, loadings) + np.diag(1 - loadings**2)
    returns = draw(truth, 20_000) * 0.01
    form = principal_factors(returns)
    assert form.loadings.shape == (6, 1), "one eigenvalue lies above the edge of noise"
    sample = sample_covariance(returns)
    np.testing.assert_allclose(np.diag(form.matrix), np.diag(sample), rtol=1e-12)
    whole = principal_factors(returns, 5)
    assert np.linalg.norm(whole.matrix - sample) < np.linalg.norm(form.matrix - sample)
    with pytest.raises(ValueError, match="fewer factors"):
        principal_factors(returns, 6)


def test_given_factors_are_least_squares() -> None:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(500, 2)) * [0.01, 0.02]
    loadings = np.array([[1.0, 0.5], [0.2, -0.3], [0.0, 1.5]])
    noise = rng.normal(size=(500, 3)) * [0.005, 0.01, 0.002]
    form = given_factors(0.001 + factors @ loadings.T + noise, factors)
    np.testing.assert_allclose(form.loadings, loadings, atol=0.12)
    np.testing.assert_allclose(np.sqrt(form.specific_variance), [0.005, 0.01, 0.002], rtol=0.1)
    np.testing.assert_allclose(form.factor_covariance, np.cov(factors.T), rtol=1e-12)
    with pytest.raises(ValueError, match="dependent"):
        given_factors(noise, np.column_stack([factors[:, 0], factors[:, 0]]))


def test_dcc_step_r16() -> None:
    mean = np.array([[1, 0.5], [0.5, 1]])
    state, found = mean, []
    for shock in ((1.5, -1.0), (-2.0, -1.5)):
        state = dcc_step(state, np.array(shock), mean, 0.05, 0.9)
        found.append(correlation_of(state)[0][0, 1])
    assert found == pytest.approx([0.3880570001, 0.4725748982], abs=5e-11)


def test_dcc_finds_the_parameters_it_was_simulated_with() -> None:
    rng = np.random.default_rng(3)
    mean, n, count = equicorrelated(12, 0.5), 12, 2500
    state, rows = mean, []
    for _ in range(count):
        root = np.linalg.cholesky(correlation_of(state)[0])
        shock = root @ rng.normal(size=n)
        rows.append(shock)
        state = dcc_step(state, shock, mean, 0.04, 0.93)
    fitted = fit_dcc(np.array(rows) * 0.01)
    assert fitted.shock == pytest.approx(0.04, abs=0.015)
    assert fitted.persistence == pytest.approx(0.93, abs=0.04)
    truth, _ = correlation_of(state)
    error = np.abs(fitted.correlation - truth).mean()
    constant = np.abs(np.corrcoef(np.array(rows).T) - truth).mean()
    assert error < 0.75 * constant, "the forecast is nearer to the truth than a constant"


def test_stress_leaves_normal_correlations_and_finds_those_of_a_regime() -> None:
    calm, storm = equicorrelated(5, 0.2), 9.0 * equicorrelated(5, 0.8)
    normal, _ = stress_covariance(draw(calm, 40_000), 0.1)
    np.testing.assert_allclose(correlation_of(normal)[0], calm, atol=0.05)
    mixed = np.vstack([draw(calm, 9000), draw(storm, 1000, 1)])
    stressed, count = stress_covariance(mixed, 0.05)
    assert count == 500
    off = correlation_of(stressed)[0][np.triu_indices(5, 1)]
    assert off.min() > 0.6


def test_nearest_correlation_of_higham() -> None:
    given = np.array([[1.0, 1, 0], [1, 1, 1], [0, 1, 1]])
    found = nearest_correlation(given)
    assert found[0, 1] == pytest.approx(0.76068985, abs=1e-7)
    assert found[0, 2] == pytest.approx(0.15729811, abs=1e-7)
    fixed = repaired(scaled(given, np.array([0.1, 0.2, 0.3])))
    assert fixed.distance == pytest.approx(0.5278, abs=5e-5)
    assert fixed.smallest_eigenvalue == pytest.approx(1 - np.sqrt(2))
    np.testing.assert_allclose(np.sqrt(np.diag(fixed.matrix)), [0.1, 0.2, 0.3])
    good = repaired(equicorrelated(4, 0.3))
    assert (good.distance, good.matrix[0, 1]) == (0.0, 0.3)


@pytest.mark.parametrize("seed", range(5))
def test_no_correlation_is_nearer(seed: int) -> None:
    """Against random semidefinite neighbours of the answer: it is a projection."""
    rng = np.random.default_rng(seed)
    given = rng.uniform(-1, 1, (8, 8))
    given = 0.5 * (given + given.T)
    np.fill_diagonal(given, 1.0)
    found = nearest_correlation(given)
    assert np.linalg.eigvalsh(found)[0] > -1e-12
    best = np.linalg.norm(found - given)
    for _ in range(200):
        other, _ = correlation_of(sample_covariance(rng.normal(size=(9, 8))))
        for step in (1e-3, 1e-1, 1.0):
            assert np.linalg.norm(found + step * (other - found) - given) >= best - 1e-9


@pytest.mark.parametrize("estimator", list(Estimator))
def test_every_estimator_gives_a_covariance(estimator: Estimator) -> None:
    truth = scaled(equicorrelated(6, 0.4), np.linspace(0.005, 0.03, 6))
    returns = draw(truth, 400)
    factors = returns[:, :1] if estimator is Estimator.GIVEN_FACTORS else None
    made = estimate(returns, estimator, Settings(), factors)
    np.testing.assert_allclose(made.covariance, made.covariance.T, atol=1e-15)
    assert np.linalg.eigvalsh(made.covariance)[0] > -1e-12
    deviation = np.sqrt(np.diag(made.covariance))
    # A tenth of the periods, the wildest, is of larger scale in every direction alike.
    scale = (
        1.0
        if estimator is not Estimator.STRESS
        else float(np.median(deviation / np.sqrt(np.diag(truth))))
    )
    np.testing.assert_allclose(deviation, scale * np.sqrt(np.diag(truth)), rtol=0.35)
    if made.factor is not None:
        np.testing.assert_allclose(made.factor.matrix, made.covariance, rtol=1e-12)


def test_likelihood_out_of_sample_favours_shrinkage_where_data_are_few() -> None:
    truth = equicorrelated(40, 0.3) * 1e-4
    returns = draw(truth, 75)
    ours, sample = held_out(returns, Estimator.LEDOIT_WOLF, Settings(), 0.2)
    assert ours is not None
    assert sample is not None
    assert ours > sample + 1.0
    few = draw(truth, 30)
    ours, sample = held_out(few, Estimator.LEDOIT_WOLF, Settings(), 0.2)
    assert ours is not None
    assert sample is None, "singular: no likelihood"
    for noise, is_singular in ((1e-9, True), (1e-4, False)):
        returns = draw(truth, 75)
        twin = 1e3 * (returns[:, :1] + noise * draw(truth, 75, 2)[:, :1])
        both = np.hstack([returns[:, :3], twin])
        _, sample = held_out(both, Estimator.LEDOIT_WOLF, Settings(), 0.2)
        assert (sample is None) == is_singular, "no likelihood of rounding errors, at any scale"
    exact = log_likelihood(truth, np.zeros(40), draw(truth, 20_000, 5))
    expected = -0.5 * (40 * np.log(2 * np.pi) + np.linalg.slogdet(truth)[1] + 40)
    assert exact == pytest.approx(expected, abs=0.2)
    assert set(Estimator) >= door.PAIRWISE
