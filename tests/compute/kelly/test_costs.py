"""Kelly with trading costs."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.kelly.classic import kelly_fraction
from compute.kelly.costs import (
    fee_kelly_fraction,
    impact_kelly_fraction,
)

mp = mpmath.mp.clone()
mp.dps = 50


@pytest.mark.parametrize(
    ("p", "b", "a", "c", "printed"),
    [
        ("0.6", "1", "1", "0.01", ".1900190019"),
        ("0.55", "0.02", "0.01", "0.001", "26.3157894737"),
        ("0.6", "0.3", "0.2", "0.005", "1.5708970649"),
    ],
)
def test_fee_table(p, b, a, c, printed):
    p, b, a, c = mp.mpf(p), mp.mpf(b), mp.mpf(a), mp.mpf(c)
    slope = lambda f: p * (b - c) / (1 + (b - c) * f) - (1 - p) * (a + c) / (1 - (a + c) * f)  # noqa: E731
    expected = mp.findroot(slope, (mp.mpf(0), mp.mpf("0.999") / (a + c)), "anderson", tol=1e-60)
    assert abs(expected - mp.mpf(printed)) < mp.mpf("6e-11")
    computed = fee_kelly_fraction(float(p), float(b), float(a), float(c))
    np.testing.assert_allclose(computed, float(expected), rtol=1e-12)


def test_fee_that_eats_the_payoff_never_turns_into_a_bet():
    fractions = fee_kelly_fraction(0.6, 0.01, 1.0, np.array([0.01, 0.02, np.nan]))
    np.testing.assert_array_equal(fractions, [-np.inf, -np.inf, np.nan])


@settings(deadline=None)
@given(st.floats(0.05, 0.95), st.floats(0.1, 3.0), st.floats(0.1, 1.0), st.floats(0.0, 0.09))
def test_fees_never_enlarge_a_bet(p, b, a, c):
    free = float(kelly_fraction(p, b, a))
    assert float(fee_kelly_fraction(p, b, a, c)) <= free + 1e-12


def test_impact_table():
    m, variance, c = mp.mpf("0.01"), mp.mpf("0.04"), mp.mpf("0.003")
    slope = lambda f: m - variance * f - mp.mpf("1.5") * c * mp.sqrt(f)  # noqa: E731
    expected = mp.findroot(slope, (mp.mpf("0.01"), mp.mpf("0.25")), "anderson", tol=1e-60)
    assert abs(expected - mp.mpf(".1997232872")) < mp.mpf("6e-11")
    computed = impact_kelly_fraction(np.array([0.01, -0.01]), 0.2, 0.003)
    np.testing.assert_allclose(computed, [float(expected), -float(expected)], rtol=1e-12)


def test_impact_at_its_ends():
    np.testing.assert_allclose(impact_kelly_fraction(0.01, 0.2, 0.0), 0.25, rtol=1e-12)
    assert float(impact_kelly_fraction(0.0, 0.2, 0.0)) == 0.0
    huge = float(impact_kelly_fraction(0.01, 0.2, 1e6))
    np.testing.assert_allclose(huge, (0.01 / 1.5e6) ** 2, rtol=1e-9)
