"""The long-run no-trade region."""

import mpmath
import numpy as np
import pytest

from compute.kelly.no_trade import asymptotic_half_width, no_trade_region

mp = mpmath.mp.clone()
mp.dps = 50

mu_s_gamma_eps_band_rate_wide = [
    ("0.05", "0.4", "1", "0.01", ".24301653", ".38198347", ".0074262638", ".242284"),
    ("0.05", "0.4", "1", "0.002", ".27159438", ".35340562", ".0076786384", ".271437"),
    ("0.08", "0.4", "1", "0.01", ".42293332", ".57706668", ".0195248582", ".422319"),
    ("0.08", "0.16", "5", "0.01", ".58194231", ".66805769", ".02488135", ".581485"),
]


def mp_gap(mu, s, gamma, eps):
    """Solve the boundary value problem for the gap, with the Riccati equation integrated."""

    def mismatch(lam):
        low, high = ((mu + sign * lam) / (gamma * s**2) for sign in (-1, 1))
        constant = (mu**2 - lam**2) / (gamma * s**4)
        speed = lambda w: constant - (1 - gamma) * w**2 - (2 * mu / s**2 - 1) * w  # noqa: E731
        time = mp.quad(lambda w: 1 / speed(w), [low, (low + high) / 2, high])
        ratio = (mu + lam) * (mu - lam - gamma * s**2) / ((mu - lam) * (mu + lam - gamma * s**2))
        return time - mp.log(ratio / (1 - eps))

    start = gamma * s**2 * mp.mpf("0.07")
    return mp.findroot(mismatch, (start / 2, start), "anderson", tol=1e-60)


@pytest.mark.parametrize("row", mu_s_gamma_eps_band_rate_wide)
def test_region_table(row):
    mu, s, gamma, eps, lower, upper, rate, wide = (mp.mpf(x) for x in row)
    lam, variance = mp_gap(mu, s, gamma, eps), gamma * s**2
    expected = [(mu - lam) / variance, (mu + lam) / variance, (mu**2 - lam**2) / (2 * variance)]
    assert abs(expected[0] - lower) < mp.mpf("6e-9")
    assert abs(expected[1] - upper) < mp.mpf("6e-9")
    assert abs(expected[2] - rate) < mp.mpf("6e-9")

    region = no_trade_region(*(float(x) for x in (mu, s, eps, gamma)))
    np.testing.assert_allclose(
        [region.lower, region.upper, region.growth_rate],
        [float(x) for x in expected],
        rtol=1e-12,
    )
    half = asymptotic_half_width(region.target, float(eps), float(gamma))
    np.testing.assert_allclose(region.target - half, float(wide), atol=6e-7)


def test_a_leveraged_target_has_a_region_around_it():
    # pi* = 2: the region is above 1 and the same equation holds.
    region = no_trade_region(0.08, 0.2, 0.002)
    assert 1.0 < float(region.lower) < 2.0 < float(region.upper)
    half = float(asymptotic_half_width(2.0, 0.002))
    np.testing.assert_allclose(region.upper - region.lower, 2 * half, rtol=0.05)


def test_cheaper_trading_narrows_the_region_to_the_target():
    spreads = np.array([1e-2, 1e-4, 1e-6])
    region = no_trade_region(0.05, 0.4, spreads)
    width = np.asarray(region.upper - region.lower)
    half = np.asarray(asymptotic_half_width(0.3125, spreads))
    assert np.all(np.diff(width) < 0)
    np.testing.assert_allclose(width[2], 2 * half[2], rtol=1e-3)


def test_where_there_is_no_region_the_answer_is_nan():
    region = no_trade_region(np.array([-0.05, 0.0, 0.25, np.nan, 0.05]), 0.5, 0.01)
    np.testing.assert_array_equal(np.isnan(region.lower), [True, True, True, True, False])
