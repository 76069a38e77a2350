"""Fractional Kelly: growth kept, drawdowns spared, and the way back from a tolerance."""

import jax
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.kelly.fractional import (
    multiplier_for_drawdown,
    reach_before_probability,
)

mp = mpmath.mp.clone()
mp.dps = 50

multiplier_growth_double_half_seventy = [
    ("0.2", ".36", ".998051", ".001953", ".040354"),
    ("0.25", ".4375", ".992248", ".0078125", ".082354"),
    ("0.5", ".75", ".888889", ".125", ".343"),
    ("0.7", ".91", ".783685", ".276022", ".515614"),
    ("0.8", ".96", ".738796", ".353553", ".585662"),
    ("1", "1", ".666667", ".5", ".7"),
    ("1.5", ".75", ".557507", ".793701", ".887904"),
    ("2", "0", ".5", "1", "1"),
]


def mp_reach(upper, lower, c):
    k = 1 - 2 / c
    if k == 0:
        return -mp.log(lower) / (mp.log(upper) - mp.log(lower))
    return (1 - lower**k) / (upper**k - lower**k)


@pytest.mark.parametrize("row", multiplier_growth_double_half_seventy)
def test_fraction_table(row):
    c = mp.mpf(row[0])
    expected = [
        c * (2 - c),
        mp_reach(mp.mpf(2), mp.mpf("0.5"), c),
        mp.mpf("0.5") ** (2 / c - 1),
        mp.mpf("0.7") ** (2 / c - 1),
    ]
    for value, printed in zip(expected, row[1:], strict=True):
        assert abs(value - mp.mpf(printed)) < mp.mpf("6e-7")
    multiplier = float(c)
    reached = reach_before_probability(2.0, 0.5, multiplier)
    np.testing.assert_allclose(reached, float(expected[1]), rtol=1e-12)
    for level, probability in ((0.5, expected[2]), (0.7, expected[3])):
        allowed = multiplier_for_drawdown(level, float(probability), multiplier_max=2.0)
        np.testing.assert_allclose(allowed, multiplier, rtol=1e-12)


def test_reach_before_is_smooth_through_twice_kelly():
    multipliers = np.array([2.0 - 1e-9, 2.0, 2.0 + 1e-9])
    reached = reach_before_probability(3.0, 0.5, multipliers)
    expected = [float(mp_reach(mp.mpf(3), mp.mpf("0.5"), mp.mpf(c))) for c in multipliers]
    np.testing.assert_allclose(reached, expected, rtol=1e-12)


@settings(deadline=None)
@given(st.floats(0.05, 0.95), st.floats(0.05, 1.0))
def test_multiplier_inverts_the_drawdown_probability(level, multiplier):
    tolerance = level ** (2.0 / multiplier - 1.0)
    inverse = float(multiplier_for_drawdown(level, tolerance))
    assert inverse == pytest.approx(multiplier, rel=1e-9)


def test_multiplier_is_capped_at_full_kelly_and_zero_without_tolerance():
    # P(ever halve) = 1/2 at full Kelly; a tolerance of 0.9 would allow more, and isn't used.
    tolerances = np.array([0.0, 0.125, 0.5, 0.9])
    capped = multiplier_for_drawdown(0.5, tolerances)
    np.testing.assert_allclose(capped, [0.0, 0.5, 1.0, 1.0], rtol=1e-12)
    free = multiplier_for_drawdown(0.5, tolerances, multiplier_max=2.0)
    assert 1.0 < float(free[3]) < 2.0


def test_gradient_of_the_reach_probability_is_finite_at_its_limit():
    gradient = jax.grad(reach_before_probability, argnums=2)(2.0, 0.5, 2.0)
    assert np.isfinite(gradient)
