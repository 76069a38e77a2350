"""Volatility targets and the exponentially weighted estimate."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.risk.volatility import ewma_variance, ewma_volatility, volatility_target_weight

RETURNS = np.array([0.01, -0.02, 0.015, -0.005, 0.03])


def test_volatility_target_table():
    weights = volatility_target_weight(np.array([0.10, 0.15]), np.array([0.25, 0.08]))
    np.testing.assert_allclose(weights, [0.4, 1.875], rtol=1e-12)
    capped = volatility_target_weight(
        np.array([0.10, 0.15]), np.array([0.25, 0.08]), weight_max=1.0
    )
    np.testing.assert_allclose(capped, [0.4, 1.0], rtol=1e-12)
    assert np.isnan(volatility_target_weight(0.1, np.nan, weight_max=1.0))


def test_ewma_table():
    # Weights of the closed sum: decay^T v0 + (1 - decay) sum decay^(T-1-t) r_t^2.
    powers = 0.94 ** np.arange(4, -1, -1)
    expected = 0.94**5 * 1e-4 + 0.06 * np.sum(powers * RETURNS**2)
    np.testing.assert_allclose(ewma_variance(RETURNS, 1e-4), expected, rtol=1e-12)
    np.testing.assert_allclose(ewma_variance(RETURNS, 1e-4), 0.000165347512, rtol=1e-9)
    np.testing.assert_allclose(ewma_volatility(RETURNS, 1e-4), 0.0128587524, rtol=5e-9)


def test_missing_return_leaves_the_variance_alone():
    gaps = np.array([0.01, np.nan, -0.02, 0.015, np.nan, -0.005, 0.03])
    np.testing.assert_array_equal(ewma_variance(gaps, 1e-4), ewma_variance(RETURNS, 1e-4))


def test_batch_equals_one_by_one():
    batch = np.stack([RETURNS, 2 * RETURNS])
    together = ewma_variance(batch, np.array([1e-4, 4e-4]))
    np.testing.assert_allclose(together, ewma_variance(RETURNS, 1e-4) * np.array([1.0, 4.0]))


@settings(deadline=None)
@given(st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_weight_meets_the_target(target, volatility):
    weight = float(volatility_target_weight(target, volatility))
    np.testing.assert_allclose(weight * volatility, target, rtol=1e-12)
