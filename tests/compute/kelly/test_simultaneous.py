"""Bets settled together."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.kelly.classic import kelly_fraction
from compute.kelly.exact import exact_growth_rate, exact_kelly_fraction
from compute.kelly.simultaneous import (
    equicorrelation_penalty,
    independent_bets_fraction,
    two_even_bets_fraction,
)

mp = mpmath.mp.clone()
mp.dps = 50


@pytest.mark.parametrize(
    ("edge", "correlation", "printed"),
    [
        ("0.02", "0", "0.0199920032"),
        ("0.2", "0", "0.1923076923"),
        ("0.2", "0.5", "0.1315789474"),
        ("0.2", "-0.5", "0.3571428571"),
    ],
)
def test_two_bets_table(edge, correlation, printed):
    # Joint outcomes of two coins with mean m and correlation rho: P(both win) = (1 + 2m + c) / 4,
    # P(both lose) = (1 - 2m + c) / 4, where c = E XY = m^2 + rho (1 - m^2); the rest cancels.
    m, rho = mp.mpf(edge), mp.mpf(correlation)
    c = m**2 + rho * (1 - m**2)
    both, neither = (1 + 2 * m + c) / 4, (1 - 2 * m + c) / 4
    slope = lambda f: both / (1 + 2 * f) - neither / (1 - 2 * f)  # noqa: E731
    expected = mp.findroot(slope, (mp.mpf("0.001"), mp.mpf("0.49")), "anderson", tol=1e-60)
    assert abs(expected - mp.mpf(printed)) < mp.mpf("6e-11")
    computed = two_even_bets_fraction(float(m), float(rho))
    np.testing.assert_allclose(computed, float(expected), rtol=1e-12)


def test_perfectly_correlated_bets_split_one():
    np.testing.assert_allclose(2 * two_even_bets_fraction(0.2, 1.0), 0.2, rtol=1e-12)


@pytest.mark.parametrize(
    ("p", "n", "printed_fraction", "printed_growth"),
    [
        ("0.6", 3, ".18419859", ".05795409"),
        ("0.6", 5, ".16538046", ".09192728"),
        ("0.6", 10, ".09988511", ".14315002"),
        ("0.55", 10, ".08965275", None),
    ],
)
def test_independent_bets_table(p, n, printed_fraction, printed_growth):
    win = mp.mpf(p)
    odds = [mp.binomial(n, k) * win**k * (1 - win) ** (n - k) for k in range(n + 1)]
    sums = [2 * k - n for k in range(n + 1)]
    slope = lambda f: mp.fsum(w * x / (1 + f * x) for w, x in zip(odds, sums, strict=True))  # noqa: E731
    low, high = mp.mpf(0), mp.mpf(1) / n
    for _ in range(170):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    growth = mp.fsum(w * mp.log(1 + low * x) for w, x in zip(odds, sums, strict=True))
    assert abs(low - mp.mpf(printed_fraction)) < mp.mpf("6e-9")
    computed = independent_bets_fraction(float(p), 1.0, 1.0, n)
    np.testing.assert_allclose(computed, float(low), rtol=1e-12)
    computed_growth = exact_growth_rate(
        computed, np.array(sums, float), np.array([float(w) for w in odds])
    )
    np.testing.assert_allclose(computed_growth, float(growth), rtol=1e-11)
    if printed_growth is not None:
        assert abs(growth - mp.mpf(printed_growth)) < mp.mpf("6e-9")


def test_independent_bets_batch_and_two_bets_agree():
    edges = np.array([0.02, 0.2, -0.1])
    pair = independent_bets_fraction((1 + edges) / 2, 1.0, 1.0, 2)
    np.testing.assert_allclose(pair, two_even_bets_fraction(edges, 0.0), rtol=1e-12)


@settings(deadline=None)
@given(st.floats(0.1, 0.9), st.floats(0.1, 3.0), st.floats(0.1, 1.0))
def test_one_bet_together_with_nothing_is_kelly(p, b, a):
    together = exact_kelly_fraction(np.array([b, -a]), np.array([p, 1 - p]))
    assert float(together) == pytest.approx(float(kelly_fraction(p, b, a)), rel=1e-10, abs=1e-12)


def test_single_bet_of_the_binomial_form_is_kelly():
    np.testing.assert_allclose(independent_bets_fraction(0.6, 0.3, 0.2, 1), 5 / 3, rtol=1e-12)


def test_equicorrelation_table():
    penalty = equicorrelation_penalty(np.array([4.0, 10.0, 1.0]), np.array([0.38, 0.3, 0.9]))
    np.testing.assert_allclose(penalty, [1 / 2.14, 1 / 3.7, 1.0], rtol=1e-12)
    np.testing.assert_allclose(penalty[:2], [0.46729, 0.27027], rtol=5e-6)


@settings(deadline=None)
@given(st.integers(2, 8), st.floats(0.0, 0.95))
def test_equicorrelation_penalty_is_the_inverse_covariance_at_work(n, rho):
    covariance = np.full((n, n), rho) + (1 - rho) * np.eye(n)
    expected = np.linalg.solve(covariance, np.ones(n))
    np.testing.assert_allclose(np.full(n, equicorrelation_penalty(n, rho)), expected, rtol=1e-9)
