"""The long-run no-trade region."""

import mpmath
import numpy as np
import pytest
from scipy.optimize import minimize

from compute.kelly.no_trade import long_run_band, no_trade_region

mp = mpmath.mp.clone()
mp.dps = 50


def asymptotic_half_width(target, spread, risk_aversion=1.0):
    """(3 / (4 gamma) pi^2 (1 - pi)^2 eps)^(1/3), the half-width for a small spread."""
    return np.cbrt(0.75 / risk_aversion * (target * (1.0 - target)) ** 2 * spread)


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
    region = no_trade_region(np.array([0.0, 0.25, np.nan, -0.05, 0.05]), 0.5, 0.01)
    np.testing.assert_array_equal(np.isnan(region.lower), [True, True, True, False, False])


def kept_growth(ends: np.ndarray, mu: float, s: float, cost: float, side: float) -> float:
    """Long-run growth of log wealth with the ratio risky / cash reflected at e^ends, costs paid.

    Straight from the stationary density of a reflected Brownian motion: independent of the region's
    equations. Wealth is valued halfway between bid and ask.
    """
    low, high = ends
    drift = mu - s**2 / 2
    rate = 2 * drift / s**2
    z = np.linspace(low, high, 4001)
    density = np.exp(rate * (z - high))
    density /= np.trapezoid(density, z)
    x = side * np.exp(z)
    weight = x / (1 + x)
    growth = np.trapezoid(density * (mu * weight - s**2 * weight**2 / 2), z)
    # At the lower end the ratio is pushed up: a purchase of a long position, a sale of a short one.
    for end, chance, way in ((low, density[0], side), (high, density[-1], -side)):
        x = side * np.exp(end)
        moved = 1.0 / abs(1 / x + (1 + way * cost))
        growth -= s**2 / 2 * chance * cost * moved / (1 + x)
    return float(growth)


@pytest.mark.parametrize("mu", [0.05, -0.05, -0.2])
def test_the_region_is_the_best_of_all_long_and_short(mu: float) -> None:
    s, spread = 0.4, 0.01
    cost = spread / (2 - spread)
    side = np.sign(mu)
    target = mu / s**2
    ratio = np.log(abs(target / (1 - target)))
    found = minimize(
        lambda ends: -kept_growth(ends, mu, s, cost, side),
        np.array([ratio - 0.4, ratio + 0.4]),
        method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-15, "maxiter": 4000},
    )
    x = side * np.exp(found.x)
    best = np.sort(x / (1 + x))
    band = long_run_band(target, cost, 1.0)
    assert [float(band.lower), float(band.upper)] == pytest.approx(best.tolist(), abs=2e-4)


def test_a_band_of_what_costs_nothing_or_earns_nothing_is_a_point() -> None:
    for stake, cost, fraction in ((0.7, 0.0, 0.5), (0.0, 0.01, 0.5), (2.0, 0.01, 0.5)):
        band = long_run_band(stake, cost, fraction)
        assert float(band.lower) == float(band.upper) == fraction * stake
    wide = long_run_band(np.array([4096.0, -4096.0, 1e-9]), 0.2, 0.5)
    assert np.isfinite(wide.lower).all()
    assert (wide.lower <= wide.upper).all()
