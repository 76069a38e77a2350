"""The continuous approximation and Thorp's truncated normal."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.kelly.continuous import (
    continuous_growth_rate,
    continuous_kelly_fraction,
    growth_volatility,
)

mp = mpmath.mp.clone()
mp.dps = 50


def test_stock_index_table():
    m, s, r = 0.11, 0.15, 0.06
    best = continuous_kelly_fraction(m, s, r)
    np.testing.assert_allclose(best, 20 / 9, rtol=1e-12)
    fractions = jnp.stack([best, jnp.ones_like(best), best / 2, 2 * best])
    growth = continuous_growth_rate(fractions, m, s, r)
    np.testing.assert_allclose(growth, [0.52 / 4.5, 0.09875, 0.305 / 3, 0.06], rtol=1e-12)
    np.testing.assert_allclose(growth_volatility(best, s), 1 / 3, rtol=1e-12)


def test_index_since_1926():
    fraction = continuous_kelly_fraction(0.058, 0.216)
    np.testing.assert_allclose(fraction, float(mp.mpf("0.058") / mp.mpf("0.216") ** 2), rtol=1e-12)
    np.testing.assert_allclose(fraction, 1.24314129, rtol=5e-9)


def test_gradients_match_the_closed_forms():
    gradient = jax.grad(continuous_kelly_fraction, argnums=(0, 1, 2))(0.11, 0.15, 0.06)
    variance = 0.15**2
    expected = [1 / variance, -2 * 0.05 / 0.15**3, -1 / variance]
    np.testing.assert_allclose(np.array(gradient), expected, rtol=1e-12)


returns = st.floats(-0.5, 0.5)


@settings(deadline=None)
@given(returns, st.floats(0.05, 1.0), returns)
def test_half_kelly_keeps_three_quarters_of_the_excess_growth(m, s, r):
    best = continuous_kelly_fraction(m, s, r)
    full = float(continuous_growth_rate(best, m, s, r)) - r
    half = float(continuous_growth_rate(best / 2, m, s, r)) - r
    assert half == pytest.approx(0.75 * full, rel=1e-9, abs=1e-15)


@settings(deadline=None)
@given(returns, st.floats(0.05, 1.0))
def test_no_excess_return_no_size(m, s):
    assert float(continuous_kelly_fraction(m, s, m)) == 0.0


@settings(deadline=None)
@given(returns, st.floats(0.05, 1.0), st.floats(0.1, 10.0))
def test_the_unit_of_time_does_not_matter(m, s, years):
    size = float(continuous_kelly_fraction(m, s))
    rescaled = float(continuous_kelly_fraction(m * years, s * np.sqrt(years)))
    assert rescaled == pytest.approx(size, rel=1e-12)
