"""Fits of GARCH and of regimes: other programs' optima, known data, and losses by hand."""

import warnings

import numpy as np
import pytest
from arch import arch_model
from arch.data import sp500
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

from compute.adapt import fit_regimes as regimes_module
from compute.adapt.fit_garch import _likelihood, fit_garch
from compute.adapt.fit_regimes import _Guess, _smoothed, fit_regimes
from compute.adapt.held_out import (
    exponential_variances,
    garch_variances,
    qlike,
    regime_variances,
)
from compute.adapt.regimes import RegimeSwitching
from compute.market import Floats

RETURNS = np.array([0.004, -0.012, -0.031, 0.018, -0.025, 0.002])
TWO = RegimeSwitching((0.0006, -0.0010), (0.008, 0.020), ((0.98, 0.02), (0.05, 0.95)))


@pytest.fixture(scope="module")
def index() -> Floats:
    """Log returns of the S&P 500, 1999 to 2018, in percent."""
    closes = sp500.load()["Adj Close"].to_numpy()
    return 100.0 * np.diff(np.log(closes))


@pytest.mark.parametrize("asymmetric", [False, True])
def test_d7_6_the_optimum_of_another_program(index: Floats, asymmetric: bool) -> None:
    found = fit_garch(index, asymmetric=asymmetric)
    theirs = arch_model(index, p=1, o=int(asymmetric), q=1).fit(
        disp="off",
        backcast=float(np.mean((index - found.mean) ** 2)),
        tol=1e-14,
        options={"maxiter": 1000},
    )
    # Theirs begins at a given variance, ours at that of the mean which is fitted with the rest.
    ours = [found.mean, found.omega, found.alpha, *([found.gamma] * asymmetric), found.beta]
    assert ours == pytest.approx(theirs.params.to_numpy().tolist(), abs=2e-5)
    assert found.converged
    assert found.log_likelihood >= theirs.loglikelihood - 1e-6
    table = (0.020151, 0.0, 0.179711, 0.892149) if asymmetric else (0.017744, 0.101899, 0, 0.885263)
    told = (found.omega, found.alpha, found.gamma, found.beta)
    assert told == pytest.approx(table, abs=3e-4), "the table begins its variances elsewhere"
    square, h = (index - found.mean) ** 2, [0.0]
    last, fell = (square.mean(), square.mean()), 0.5
    for value, change in zip(square, index - found.mean, strict=True):
        news = (found.alpha + found.gamma * fell) * last[0]
        h.append(found.omega + news + found.beta * last[1])
        last, fell = (value, h[-1]), float(change < 0.0)
    h = np.array(h[1:])
    by_hand = -0.5 * np.sum(np.log(2 * np.pi) + np.log(h) + square / h)
    assert found.log_likelihood == pytest.approx(by_hand, abs=1e-6)


def test_the_slope_is_that_of_the_likelihood() -> None:
    x = np.random.default_rng(3).standard_normal(200)
    theta = np.array([0.02, 0.1, 0.05, 0.1, 0.8])
    slope = approx_fprime(theta, lambda t: _likelihood(t, x)[0], 1e-7)
    assert _likelihood(theta, x)[1] == pytest.approx(slope, rel=1e-4, abs=1e-3)


def clustered(count: int, seed: int) -> Floats:
    """Returns of GJR-GARCH: without any clustering the likelihood has no single top."""
    generator, h, out = np.random.default_rng(seed), 1.0, []
    for z in generator.standard_normal(count):
        out.append(np.sqrt(h) * z)
        h = 0.05 + (0.05 + 0.15 * (z < 0.0)) * out[-1] ** 2 + 0.82 * h
    return np.array(out)


@given(st.integers(0, 10**6), st.floats(1e-4, 1e4))
@settings(max_examples=8, deadline=None)
def test_the_unit_of_returns_changes_nothing_else(seed: int, unit: float) -> None:
    x = clustered(600, seed)
    one, other = fit_garch(x, asymmetric=True), fit_garch(unit * x, asymmetric=True)
    shifted = one.log_likelihood - len(x) * np.log(unit)
    assert other.log_likelihood == pytest.approx(shifted, abs=1e-4)
    assert other.persistence < 1.0
    assert min(other.alpha, other.gamma, other.beta, other.omega) >= 0.0


def test_returns_that_do_not_vary_have_no_fit() -> None:
    for fit in (lambda x: fit_garch(x, asymmetric=False), lambda x: fit_regimes(x, 2)):
        with pytest.raises(ValueError, match="vary"):
            fit(np.zeros(2000))


def test_d7_1_smoothed_probabilities_and_likelihood_of_a_step() -> None:
    guess = _Guess(
        np.array(TWO.mean), np.array(TWO.deviation), np.array(TWO.transition), TWO.stationary
    )
    share, pairs, value = _smoothed(RETURNS, guess)
    smoothed = (0.8114260700, 0.9112125239, 0.9992249420, 0.9977098306, 0.9945487405, 0.8793623891)
    assert share[:, 1] == pytest.approx(smoothed, abs=1e-10)
    assert value == pytest.approx(14.297829737950, abs=1e-11)
    assert pairs.sum() == pytest.approx(len(RETURNS) - 1)
    assert pairs.sum(axis=1) == pytest.approx(share[:-1].sum(axis=0))


def drawn(count: int, seed: int = 5) -> Floats:
    """Returns of two regimes."""
    generator = np.random.default_rng(seed)
    state, out = 0, []
    for _ in range(count):
        out.append(generator.normal(TWO.mean[state], TWO.deviation[state]))
        state = int(generator.choice(2, p=TWO.transition[state]))
    return np.array(out)


def test_the_regimes_are_those_of_another_program() -> None:
    x = drawn(1500)
    found = fit_regimes(x, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = MarkovRegression(100.0 * x, k_regimes=2, switching_variance=True).fit()
    stay, back, *rest = theirs.params
    order = np.argsort(rest[2:])
    transition = np.array([[stay, 1.0 - stay], [back, 1.0 - back]])[np.ix_(order, order)]
    # Theirs begins with the probabilities of the long run, ours with those that fit.
    assert np.array(found.regimes.transition) == pytest.approx(transition, abs=2e-3)
    assert found.regimes.mean == pytest.approx(np.array(rest[:2])[order] / 100.0, abs=3e-5)
    deviation = np.sqrt(np.array(rest[2:])[order]) / 100.0
    assert found.regimes.deviation == pytest.approx(deviation, rel=5e-3)
    likelihood = theirs.llf + len(x) * np.log(100.0)
    assert likelihood - 1e-3 < found.log_likelihood < likelihood + 2.0
    assert found.converged
    assert not found.is_noise
    assert sum(found.occupancy) == pytest.approx(1.0)
    assert found.duration[0] > found.duration[1] > 3.0


def test_an_optimum_has_no_better_neighbour() -> None:
    x = drawn(600)
    found = fit_regimes(x, 2)
    own = found.regimes
    start = _smoothed(x, _guess(own, np.array([0.5, 0.5])))[0][0]
    for _ in range(200):  # the start of the fit is the share of the first return
        start = _smoothed(x, _guess(own, start))[0][0]
    best = _smoothed(x, _guess(own, start))[2]
    assert found.log_likelihood == pytest.approx(best, abs=1e-3)
    for factor in (0.98, 1.02):
        worse = RegimeSwitching(
            own.mean, (own.deviation[0] * factor, own.deviation[1]), own.transition
        )
        assert _smoothed(x, _guess(worse, start))[2] < best


def _guess(own: RegimeSwitching, start: Floats) -> _Guess:
    return _Guess(np.array(own.mean), np.array(own.deviation), np.array(own.transition), start)


def test_noise_has_no_regimes() -> None:
    x = np.random.default_rng(11).standard_normal(1500)
    x[700] = 12.0  # one return makes a regime of its own
    assert fit_regimes(x, 2).is_noise
    assert regimes_module.OBSERVATIONS_MIN == 1000


def test_losses_by_hand() -> None:
    returns, variance = np.array([0.01, 0.0, -0.02]), np.array([1e-4, 1e-4, 2e-4])
    assert qlike(returns, variance) == pytest.approx((0.0 + 2.0 - np.log(2.0) - 1.0) / 2.0)
    plain = exponential_variances(np.array([1.0, 2.0, 3.0]), 1.0)
    assert plain[1:] == pytest.approx([1.0, (0.5 * 0.5 + 0.5 * 4.0) / 0.75])
    assert np.isnan(plain[0])


@given(st.integers(1, 60), st.sampled_from([np.nan, 1e9]))
@settings(max_examples=20, deadline=None)
def test_no_prediction_sees_what_came_after_it(t: int, future: float) -> None:
    x = drawn(60, seed=1)
    changed = np.where(np.arange(60) < t, x, future)
    fit = fit_garch(drawn(300), asymmetric=True)
    with np.errstate(all="ignore"):
        for made in (
            lambda y: exponential_variances(y, 5.0),
            lambda y: garch_variances(y, fit),
            lambda y: regime_variances(y, TWO),
        ):
            assert made(changed)[:t].tobytes() == made(x[:t])[:t].tobytes() == made(x)[:t].tobytes()
