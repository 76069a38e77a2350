"""Moments of returns and their standard errors."""

import numpy as np
from scipy import stats

from compute.edge.moments import moments_from_returns

RETURNS = np.array([0.01, -0.02, 0.015, -0.005, 0.03, 0.002])


def test_moments_agree_with_numpy_and_scipy():
    moments = moments_from_returns(RETURNS, 0.001)
    mean, deviation = RETURNS.mean(), RETURNS.std(ddof=1)
    sharpe = (mean - 0.001) / deviation
    skewness, kurtosis = stats.skew(RETURNS), stats.kurtosis(RETURNS, fisher=False)
    np.testing.assert_allclose(moments.expected_return, mean, rtol=1e-12)
    np.testing.assert_allclose(moments.volatility, deviation, rtol=1e-12)
    np.testing.assert_allclose(moments.sharpe_ratio, sharpe, rtol=1e-12)
    np.testing.assert_allclose(
        moments.expected_return_standard_error, stats.sem(RETURNS), rtol=1e-12
    )
    np.testing.assert_allclose(
        moments.volatility_standard_error, deviation * np.sqrt((kurtosis - 1) / 24), rtol=1e-12
    )
    variance = (1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2) / 6
    np.testing.assert_allclose(moments.sharpe_ratio_standard_error, np.sqrt(variance), rtol=1e-12)


def test_missing_returns_do_not_count_and_a_masked_in_nan_does():
    padded = np.append(RETURNS, np.nan)
    plain = moments_from_returns(RETURNS)
    for field, expected in zip(moments_from_returns(padded), plain, strict=True):
        np.testing.assert_allclose(field, expected, rtol=1e-12)
    broken = moments_from_returns(padded, mask=np.ones(7, bool))
    assert np.isnan(broken.expected_return)
    assert np.isnan(broken.volatility)


def test_too_little_to_say_is_nan():
    moments = moments_from_returns(np.array([[0.01, np.nan], [0.01, 0.01]]))
    np.testing.assert_array_equal(np.isnan(moments.expected_return), [True, False])
    np.testing.assert_array_equal(np.isnan(moments.sharpe_ratio), [True, True])


def test_sharpe_error_covers_for_skewed_returns():
    rng = np.random.default_rng(6)
    shape = 4.0
    returns = 0.4 + (rng.gamma(shape, 1.0, (3_000, 500)) - shape) / np.sqrt(shape)
    moments = moments_from_returns(returns)
    error = np.asarray(moments.sharpe_ratio_standard_error)
    covered = np.mean(np.abs(np.asarray(moments.sharpe_ratio) - 0.4) < 1.96 * error)
    assert 0.93 < covered < 0.97
