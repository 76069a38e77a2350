"""Standard errors and intervals of a size."""

import jax
import mpmath
import numpy as np
import pytest
from scipy import stats

from compute.edge.posterior import BetaPosterior, beta_posterior, posterior_mean
from compute.kelly import interval
from compute.kelly.classic import kelly_fraction
from compute.kelly.interval import (
    continuous_standard_error,
    estimation_growth_loss,
    kelly_standard_error,
    normal_interval,
    proportion_standard_error,
)

posterior_interval = jax.jit(interval.posterior_interval)
mp = mpmath.mp.clone()
mp.dps = 50


def test_win_rate_over_a_hundred_even_bets():
    error = kelly_standard_error(0.6, 1.0, 1.0, proportion_standard_error(0.6, 100))
    np.testing.assert_allclose(error, 2 * np.sqrt(0.6 * 0.4 / 100), rtol=1e-12)
    np.testing.assert_allclose(error, 0.0979796, rtol=5e-7)
    ends = normal_interval(0.2, error)
    np.testing.assert_allclose(np.array(ends), [0.008, 0.392], atol=5e-4)


def test_delta_method_is_the_gradient_in_every_input():
    p, b, a, errors = 0.55, 0.4, 0.25, np.array([0.03, 0.05, 0.02])
    gradient = np.array(jax.grad(kelly_fraction, argnums=(0, 1, 2))(p, b, a))
    expected = np.sqrt(np.sum((gradient * errors) ** 2))
    np.testing.assert_allclose(kelly_standard_error(p, b, a, *errors), expected, rtol=1e-12)


def test_ten_years_of_a_stock_say_little():
    error = continuous_standard_error(0.2, 10.0)
    np.testing.assert_allclose(error, np.sqrt(10.0) / 2, rtol=1e-12)
    ends = normal_interval(2.0, error)
    z = stats.norm.ppf(0.975)
    np.testing.assert_allclose(np.array(ends), [2 - z * error, 2 + z * error], rtol=1e-12)
    np.testing.assert_allclose(np.array(ends), [-1.099, 5.099], atol=5e-4)
    np.testing.assert_allclose(estimation_growth_loss(1.0, 10.0), 0.05, rtol=1e-12)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_normal_interval_covers_as_promised(level):
    ends = normal_interval(0.0, 1.0, level)
    coverage = stats.norm.cdf(ends.upper) - stats.norm.cdf(ends.lower)
    np.testing.assert_allclose(coverage, level, rtol=1e-12)


def test_delta_interval_covers_simulated_truths():
    rng = np.random.default_rng(11)
    truth, n = 0.6, 400
    estimate = rng.binomial(n, truth, size=20_000) / n
    error = kelly_standard_error(estimate, 1.0, 1.0, proportion_standard_error(estimate, n))
    lower, upper = normal_interval(kelly_fraction(estimate, 1.0, 1.0), error)
    size = 2 * truth - 1
    covered = np.mean((np.asarray(lower) <= size) & (size <= np.asarray(upper)))
    assert 0.93 < covered < 0.97


@pytest.mark.parametrize(
    ("prior", "data", "size", "low", "high"),
    [
        ((1, 1), (6, 4), 1 / 6, -0.38419057, 0.66502381),
        ((1, 1), (60, 40), 0.1960784314, 0.00348816, 0.38138297),
        ((10, 10), (6, 4), 0.0666666667, -0.28612258, 0.41102883),
        ((0.5, 0.5), (55, 45), 0.0990099010, -0.09554202, 0.28984612),
    ],
)
def test_posterior_table(prior, data, size, low, high):
    posterior = beta_posterior(*data, prior_wins=prior[0], prior_losses=prior[1])
    alpha, beta = (mp.mpf(float(x)) for x in posterior)
    exact_size = 2 * alpha / (alpha + beta) - 1
    computed = kelly_fraction(posterior_mean(posterior), 1.0, 1.0)
    np.testing.assert_allclose(computed, float(exact_size), rtol=1e-12)
    np.testing.assert_allclose(computed, size, rtol=1e-9)

    ends = np.array(posterior_interval(posterior, 1.0, 1.0))
    np.testing.assert_allclose(ends, [low, high], atol=6e-9)
    for end, level in zip(ends, ("0.025", "0.975"), strict=True):
        p = mp.findroot(
            lambda x, level=level: mp.betainc(alpha, beta, 0, x, regularized=True) - mp.mpf(level),
            mp.mpf((1 + end) / 2),
        )
        np.testing.assert_allclose((1 + end) / 2, float(p), rtol=1e-12)


def test_posterior_interval_covers_simulated_truths():
    rng = np.random.default_rng(4)
    truth = rng.uniform(size=4_000)
    wins = rng.binomial(60, truth)
    posterior = BetaPosterior(1.0 + wins, 61.0 - wins)
    lower, upper = posterior_interval(posterior, 0.8, 0.5)
    size = np.asarray(kelly_fraction(truth, 0.8, 0.5))
    covered = np.mean((np.asarray(lower) <= size) & (size <= np.asarray(upper)))
    assert 0.93 < covered < 0.97
