"""The Beta posterior of a win probability."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import gammaln

from compute.edge.posterior import (
    BetaPosterior,
    beta_posterior,
    posterior_from_estimate,
    posterior_mean,
    posterior_quantile,
    posterior_standard_error,
)


def test_counts_add_to_the_prior():
    posterior = beta_posterior(np.array([6.0, 0.0]), np.array([4.0, 0.0]), prior_wins=2.0)
    np.testing.assert_array_equal(posterior.alpha, [8.0, 2.0])
    np.testing.assert_array_equal(posterior.beta, [5.0, 1.0])


@settings(deadline=None)
@given(st.floats(0.5, 2000.0), st.floats(0.5, 2000.0), st.sampled_from([0.025, 0.5, 0.9]))
def test_moments_and_quantiles_agree_with_scipy(alpha, beta, level):
    posterior = BetaPosterior(np.float64(alpha), np.float64(beta))
    reference = stats.beta(alpha, beta)
    assert float(posterior_mean(posterior)) == pytest.approx(reference.mean(), rel=1e-12)
    assert float(posterior_standard_error(posterior)) == pytest.approx(reference.std(), rel=1e-12)
    # Against the distribution function, as SciPy's own quantile is good to nine digits only.
    # Ours takes differences of ln Gamma(alpha + beta), whose rounding is what remains.
    rounding = 32.0 * np.finfo(float).eps * (10.0 + gammaln(alpha + beta))
    reached = reference.cdf(float(posterior_quantile(posterior, level)))
    assert reached == pytest.approx(level, rel=rounding)


@settings(deadline=None)
@given(st.floats(0.05, 0.95), st.floats(0.001, 0.2))
def test_estimate_and_error_are_recovered(mean, error):
    posterior = posterior_from_estimate(mean, error)
    if error**2 >= mean * (1 - mean):
        assert np.isnan(posterior.alpha)
        return
    assert float(posterior_mean(posterior)) == pytest.approx(mean, rel=1e-9)
    assert float(posterior_standard_error(posterior)) == pytest.approx(error, rel=1e-9)


def test_impossible_errors_are_nan():
    posterior = posterior_from_estimate(np.array([0.6, 0.6, np.nan]), np.array([0.0, 0.5, 0.1]))
    assert np.isnan(posterior.alpha).all()
    assert np.isnan(posterior.beta).all()
