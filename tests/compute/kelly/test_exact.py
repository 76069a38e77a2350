"""Kelly from scenarios: the crash lottery, the boundaries, hostile distributions."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compute.kelly.classic import growth_rate, kelly_fraction
from compute.kelly.continuous import continuous_kelly_fraction
from compute.kelly.exact import exact_kelly_fraction
from tests.compute.kelly.plain_growth import exact_growth_rate

mp = mpmath.mp.clone()
mp.dps = 50

CRASH = np.array([0.02, -0.5])
CRASH_ODDS = np.array([0.98, 0.02])


def mp_optimum(outcomes, weights):
    """Bisect G'(f) = 0 at 50 digits."""
    x, w = [mp.mpf(float(v)) for v in outcomes], [mp.mpf(float(v)) for v in weights]
    low, high = -1 / max(x), -1 / min(x)
    for _ in range(170):
        f = (low + high) / 2
        slope = mp.fsum(wk * xk / (1 + f * xk) for wk, xk in zip(w, x, strict=True))
        low, high = (f, high) if slope > 0 else (low, f)
    return low


def test_crash_lottery_is_sized_from_its_tail():
    exact = exact_kelly_fraction(CRASH, CRASH_ODDS)
    np.testing.assert_allclose(exact, 0.96, rtol=1e-12)
    mean = float(CRASH_ODDS @ CRASH)
    deviation = float(np.sqrt(CRASH_ODDS @ (CRASH - mean) ** 2))
    gaussian = continuous_kelly_fraction(mean, deviation)
    np.testing.assert_allclose(gaussian, 1.811375, rtol=5e-7)
    np.testing.assert_allclose(mean / (mean**2 + deviation**2), 1.780415, rtol=5e-7)
    np.testing.assert_allclose(
        exact_growth_rate(gaussian, CRASH, CRASH_ODDS), -0.0123479, atol=6e-8
    )


def test_short_is_the_mirror_of_long():
    fractions = exact_kelly_fraction(np.stack([CRASH, -CRASH]), CRASH_ODDS)
    np.testing.assert_allclose(fractions, [0.96, -0.96], rtol=1e-12)


def test_caps_are_hard_and_one_sided_distributions_go_to_them():
    outcomes = np.stack([CRASH, -CRASH, [0.1, 0.2], [-0.1, -0.2], [0.0, 0.0]])
    free = exact_kelly_fraction(outcomes, CRASH_ODDS)
    np.testing.assert_allclose(free, [0.96, -0.96, np.inf, -np.inf, 0.0], rtol=1e-12)
    capped = exact_kelly_fraction(outcomes, CRASH_ODDS, long_max=0.5, short_max=0.25)
    np.testing.assert_allclose(capped, [0.5, -0.25, 0.5, -0.25, 0.0], rtol=1e-12)


def test_two_outcomes_reduce_to_the_closed_form():
    rng = np.random.default_rng(1)
    p, b, a = rng.uniform(0.05, 0.95, 200), rng.uniform(0.01, 4, 200), rng.uniform(0.01, 1.5, 200)
    outcomes, weights = np.stack([b, -a], axis=-1), np.stack([p, 1 - p], axis=-1)
    exact = exact_kelly_fraction(outcomes, weights)
    np.testing.assert_allclose(exact, kelly_fraction(p, b, a), rtol=1e-11, atol=1e-13)
    half = 0.5 * exact
    np.testing.assert_allclose(
        exact_growth_rate(half, outcomes, weights), growth_rate(half, p, b, a), atol=1e-14
    )


def test_risk_free_rate_is_earned_on_what_is_not_staked():
    # G = p ln(1 + r + f (b - r)) + q ln(1 + r - f (a + r)): the classic bet with excess outcomes
    # (b - r) / (1 + r) and (a + r) / (1 + r), plus ln(1 + r).
    p, b, a, r = 0.6, 0.3, 0.2, 0.01
    excess_b, excess_a = (b - r) / (1 + r), (a + r) / (1 + r)
    outcomes, weights = np.array([b, -a]), np.array([p, 1 - p])
    exact = exact_kelly_fraction(outcomes, weights, r)
    np.testing.assert_allclose(exact, kelly_fraction(p, excess_b, excess_a), rtol=1e-12)
    growth = exact_growth_rate(exact, outcomes, weights, r)
    expected = growth_rate(exact, p, excess_b, excess_a) + np.log1p(r)
    np.testing.assert_allclose(growth, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("outcomes", "weights"),
    [
        ([0.001, -0.999, 3.0], [0.9, 1e-9, 1e-3]),
        ([1e-6, -0.5], [1 - 1e-12, 1e-12]),
        ([1e4, -1e-4, -0.3], [1e-6, 0.5, 0.5]),
        ([0.5, -1e-8, 1e-8, -0.9], [1e-9, 0.3, 0.3, 1e-9]),
        ([2.0, -1.0, 1e-3, -1e-3, 0.4], [0.2, 0.2, 0.2, 0.2, 0.2]),
    ],
)
def test_hostile_distributions_match_fifty_digits(outcomes, weights):
    expected = float(mp_optimum(outcomes, weights))
    np.testing.assert_allclose(
        exact_kelly_fraction(np.array(outcomes), np.array(weights)), expected, rtol=1e-10
    )


def test_fat_tailed_batch_matches_fifty_digits():
    rng = np.random.default_rng(3)
    outcomes = 0.02 * rng.standard_t(3, size=(6, 60)) + 0.004
    weights = np.full(60, 1 / 60)
    expected = [float(mp_optimum(line, weights)) for line in outcomes]
    np.testing.assert_allclose(exact_kelly_fraction(outcomes, weights), expected, rtol=1e-12)


def test_padding_scenarios_are_neutral_whatever_they_hold():
    padded = np.array([0.02, -0.5, np.nan, -5.0])
    odds = np.array([0.98, 0.02, 0.0, 0.0])
    np.testing.assert_allclose(exact_kelly_fraction(padded, odds), 0.96, rtol=1e-12)


def test_nan_stays_on_its_own_line():
    outcomes = np.array([[0.02, -0.5], [np.nan, -0.5], [0.02, np.nan]])
    fractions = exact_kelly_fraction(outcomes, CRASH_ODDS, long_max=1.0)
    np.testing.assert_array_equal(np.isnan(fractions), [False, True, True])


def test_gradient_is_that_of_the_implicit_function():
    # For two outcomes f* = p/a - q/b, whose derivatives are known.
    size = lambda p, b, a: exact_kelly_fraction(jnp.stack([b, -a]), jnp.stack([p, 1 - p]))  # noqa: E731
    gradient = jax.jit(jax.grad(size, argnums=(0, 1, 2)))(0.6, 0.3, 0.2)
    np.testing.assert_allclose(np.array(gradient), [25 / 3, 40 / 9, -15.0], rtol=1e-11)


lines = hnp.arrays(np.float64, (3, 5), elements=st.floats(-0.875, 3.0, width=32))


@settings(deadline=None)
@given(lines, hnp.arrays(np.float64, 5, elements=st.floats(0.015625, 1.0, width=32)))
def test_optimum_is_at_least_as_good_as_any_stake_within_the_caps(outcomes, weights):
    weights = weights / weights.sum()
    best = exact_kelly_fraction(outcomes, weights, long_max=2.0, short_max=1.0)
    assert np.all((best >= -1.0) & (best <= 2.0))
    growth = exact_growth_rate(best, outcomes, weights)
    for stake in np.linspace(-1.0, 2.0, 13):
        other = exact_growth_rate(np.full(3, stake), outcomes, weights)
        assert np.all(np.asarray(growth) >= np.asarray(other) - 1e-12)
