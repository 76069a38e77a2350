"""Logistic regression and calibration against scikit-learn, SciPy and published numbers."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from compute.learn import logistic
from compute.learn.calibration import Calibration, calibrator, chosen
from compute.learn.scores import rising

S = np.arange(-2.0, 2.6, 0.5)
Y = np.array([0.0, 0, 1, 0, 0, 1, 0, 1, 1, 1])


def sample(seed: int, n: int = 400, k: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, k))
    y = (random.random(n) < expit(0.3 + x @ np.linspace(-1.0, 1.0, k))).astype(float)
    return x, y, random.uniform(0.1, 1.0, n)


@pytest.mark.parametrize("ridge", [0.0, 0.5, 30.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_fit_is_that_of_scikit_learn(seed: int, ridge: float) -> None:
    x, y, weight = sample(seed)
    theirs = LogisticRegression(
        C=1.0 / ridge if ridge else np.inf, solver="newton-cholesky", tol=1e-14, max_iter=1000
    ).fit(x, y, sample_weight=weight)
    ours = logistic.fit(x, y, weight, ridge).coefficients
    assert ours == pytest.approx(np.concatenate([theirs.intercept_, theirs.coef_[0]]), abs=1e-9)


def test_the_intercept_is_not_penalised() -> None:
    x, y, weight = sample(1)
    p = (weight @ y) / weight.sum()
    found = logistic.fit(x, y, weight, 1e12).coefficients
    assert found == pytest.approx([logit(p), 0.0, 0.0, 0.0, 0.0], abs=1e-9)


def test_the_covariance_is_the_sandwich_and_grows_with_clusters() -> None:
    x, y, _ = sample(2, n=4000, k=1)
    one = logistic.fit(x, y, np.ones(len(y)), 0.0)
    p = expit(one.coefficients[0] + x[:, 0] * one.coefficients[1])
    design = np.stack([np.ones(len(y)), x[:, 0]], axis=1)
    inverse = np.linalg.inv((design * (p * (1 - p))[:, None]).T @ design)
    assert one.covariance == pytest.approx(inverse, rel=0.15)
    # The same rows four times over know nothing more.
    four = np.tile(np.arange(len(y)), 4)
    again = logistic.fit(np.tile(x, (4, 1)), np.tile(y, 4), np.ones(4 * len(y)), 0.0, four)
    assert again.covariance == pytest.approx(one.covariance, rel=1e-6)


def test_separable_rows_end_in_finite_weights() -> None:
    x = np.linspace(-1.0, 1.0, 20)[:, None]
    found = logistic.fit(x, (x[:, 0] > 0).astype(float), np.ones(20), 1e-3)
    assert np.isfinite(found.coefficients).all()
    assert np.isfinite(found.covariance).all()


def test_platt_is_that_of_his_paper() -> None:
    found = calibrator(Calibration.PLATT, expit(S), Y)
    # His numbers to eight digits, and those of mpmath with 30.
    by_mpmath = [-0.664043076062425948, 0.166010769015606622]
    assert -found.coefficients[::-1] == pytest.approx(by_mpmath, abs=1e-13)
    three = calibrator(Calibration.PLATT, expit([5.0, -4.0, 1.0]), np.array([1.0, 0.0, 0.0]))
    by_mpmath = [-0.202614489618475599, 0.652366638998449143]
    assert -three.coefficients[::-1] == pytest.approx(by_mpmath, abs=1e-13)


def test_beta_never_falls() -> None:
    found = calibrator(Calibration.BETA, expit(S), Y)
    c, a, b = found.coefficients
    assert (a, b, c) == pytest.approx((0.0, 2.10007405901342212, -2.04729884245283087), abs=1e-12)
    assert np.diff(found.apply(np.linspace(0.001, 0.999, 500), np.zeros(500))[0]).min() >= 0.0


def test_beta_with_both_weights_is_the_optimum() -> None:
    random = np.random.default_rng(7)
    s = random.uniform(0.02, 0.98, 3000)
    y = (random.random(3000) < expit(0.8 * np.log(s) - 1.3 * np.log1p(-s) + 0.2)).astype(float)
    c, a, b = calibrator(Calibration.BETA, s, y).coefficients

    def loss(w: np.ndarray) -> float:
        z = w[0] * np.log(s) - w[1] * np.log1p(-s) + w[2]
        return float((np.logaddexp(0.0, z) - y * z).sum())

    theirs = minimize(loss, [1.0, 1.0, 0.0], method="BFGS", options={"gtol": 1e-8}).x
    assert (a, b, c) == pytest.approx(theirs, abs=1e-4)


def test_isotonic_pools_violators_and_is_never_certain() -> None:
    y = np.array([0.0, 0, 1, 0, 1, 0, 1, 1, 0, 1])
    s = np.linspace(0.1, 0.9, 10)
    pooled = [0, 0, 0.5, 0.5, 0.5, 0.5, 2 / 3, 2 / 3, 2 / 3, 1]
    assert rising(s, y) == pytest.approx(pooled, abs=1e-15)
    p, error = calibrator(Calibration.ISOTONIC, s, y).apply(s, np.zeros(10))
    assert p == pytest.approx(np.clip(pooled, 1 / 12, 11 / 12), abs=1e-15)
    assert (error > 0.0).all()


def test_errors_of_calibration_cover_the_truth() -> None:
    """Of many samples the calibrated p is within two standard errors in about 95 of 100."""
    random, inside = np.random.default_rng(3), 0
    for _ in range(200):
        s = random.uniform(0.2, 0.8, 500)
        y = (random.random(500) < s).astype(float)
        p, error = calibrator(Calibration.PLATT, s, y).apply(np.array([0.6]), np.zeros(1))
        inside += abs(p[0] - 0.6) < 2.0 * error[0]
    assert 180 <= inside <= 198


def test_claims_that_are_always_right_have_an_error_all_the_same() -> None:
    """By hand: 51/52 of each 50, and sqrt(p (1 - p) / 50), as of a fit with a number for each."""
    score = np.repeat([0.0, 1.0], 50)
    p, error = calibrator(Calibration.PLATT, score, score).apply(np.array([1.0, 0.0]), np.zeros(2))
    assert p == pytest.approx([51 / 52, 1 / 52], rel=1e-6)
    assert error == pytest.approx(np.sqrt(51.0 / 52**2 / 50.0), rel=1e-6)


def test_the_kind_follows_the_number_of_outcomes() -> None:
    assert [chosen(n).name for n in (0, 299, 300, 1999, 2000)] == [
        "NONE", "NONE", "PLATT", "PLATT", "BETA",
    ]  # fmt: skip
