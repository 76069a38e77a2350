"""Shrinking for uncertainty: Baker and McHale's table."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.kelly.classic import kelly_fraction
from compute.kelly.confidence import numeric_shrinkage, shrinkage
from compute.kelly.interval import kelly_standard_error

mp = mpmath.mp.clone()
mp.dps = 50

p_b_sigma_raw_shrinkage_shrunk_numeric = [
    ("0.6", "1", "0.05", ".2", ".8", ".16", ".7966"),
    ("0.55", "1", "0.05", ".1", ".5", ".05", ".5620"),
    ("0.55", "1", "0.02", ".1", ".8620689655", ".0862068966", ".8612"),
    ("0.6", "1", "0.1", ".2", ".5", ".1", ".5606"),
    ("0.35", "2.5", "0.04", ".09", ".7208971164", ".0648807405", ".7422"),
    ("0.52", "1", "0.03", ".04", ".3076923077", ".0123076923", ".4220"),
]


@pytest.mark.parametrize("row", p_b_sigma_raw_shrinkage_shrunk_numeric)
def test_closed_form_table(row):
    p, b, sigma, raw, k, shrunk, _ = (mp.mpf(x) for x in row)
    edge = (b + 1) * p - 1
    expected = edge**2 / (edge**2 + (b + 1) ** 2 * sigma**2)
    assert abs(expected - k) < mp.mpf("6e-11")
    assert abs(edge / b - raw) < mp.mpf("1e-12")
    assert abs(expected * edge / b - shrunk) < mp.mpf("6e-11")

    fraction = kelly_fraction(float(p), float(b), 1.0)
    computed = shrinkage(fraction, kelly_standard_error(float(p), float(b), 1.0, float(sigma)))
    np.testing.assert_allclose(computed, float(expected), rtol=1e-12)
    np.testing.assert_allclose(computed * fraction, float(expected * edge / b), rtol=1e-12)


def test_shrinkage_at_its_ends():
    np.testing.assert_array_equal(
        shrinkage(np.array([0.2, 0.0, 0.0, np.nan]), np.array([0.0, 0.1, 0.0, 0.1])),
        [1.0, 0.0, 1.0, np.nan],
    )


@settings(deadline=None)
@given(st.floats(-2.0, 2.0), st.floats(0.0, 2.0), st.floats(0.01, 1.0))
def test_more_doubt_never_means_a_larger_stake(fraction, error, more):
    before = float(shrinkage(fraction, error))
    after = float(shrinkage(fraction, error + more))
    assert 0.0 <= after <= before <= 1.0


@settings(deadline=None)
@given(st.floats(0.05, 2.0), st.floats(0.01, 2.0))
def test_shrinkage_minimises_the_expected_loss(fraction, error):
    loss = lambda k: (k - 1) ** 2 * fraction**2 + k**2 * error**2  # noqa: E731
    best = float(shrinkage(fraction, error))
    assert loss(best) <= min(loss(best - 1e-3), loss(best + 1e-3))


@pytest.mark.parametrize("row", p_b_sigma_raw_shrinkage_shrunk_numeric)
def test_numeric_table_matches_the_integral(row):
    p, b, sigma, *_, printed = (mp.mpf(x) for x in row)
    weight = p * (1 - p) / sigma**2 - 1
    alpha, beta = p * weight, (1 - p) * weight
    scale = mp.beta(alpha, beta)
    density = lambda x: x ** (alpha - 1) * (1 - x) ** (beta - 1) / scale  # noqa: E731
    stake = lambda x: ((b + 1) * x - 1) / b  # noqa: E731
    fair = 1 / (b + 1)

    def slope(k):
        term = lambda x: (  # noqa: E731
            density(x) * stake(x) * (p * b / (1 + b * k * stake(x)) - (1 - p) / (1 - k * stake(x)))
        )
        ends = sorted({fair, *(min(max(p + j * sigma, fair), 1) for j in (-2, 2, 8))} | {mp.mpf(1)})
        return mp.quad(term, ends)

    with mp.workdps(25):
        expected = mp.findroot(
            slope, (printed - mp.mpf("0.01"), printed + mp.mpf("0.01")), tol=1e-20
        )
    assert abs(expected - printed) < mp.mpf("1e-3")
    computed = numeric_shrinkage(float(p), float(b), 1.0, float(sigma))
    np.testing.assert_allclose(computed, float(expected), rtol=1e-9)


def test_numeric_form_keeps_more_of_a_weak_edge():
    closed = shrinkage(0.04, kelly_standard_error(0.52, 1.0, 1.0, 0.03))
    assert float(numeric_shrinkage(0.52, 1.0, 1.0, 0.03)) > float(closed) + 0.1


def test_forms_differ_by_the_skew_of_growth_when_the_edge_is_sure():
    # The slope in k of E g(k f^) is, to order se^2, g'' ((k - 1) f^2 + se^2) + g''' f se^2 / 2, so
    # 1 - k = (se / f)^2 (1 + f g''' / (2 g'')), where the closed form has only the first factor.
    p, f = 0.6, 0.2
    second = -(p / (1 + f) ** 2 + (1 - p) / (1 - f) ** 2)
    third = 2 * (p / (1 + f) ** 3 - (1 - p) / (1 - f) ** 3)
    error = 2 * 0.001
    expected = (error / f) ** 2 * (1 + f * third / (2 * second))
    np.testing.assert_allclose(1 - numeric_shrinkage(p, 1.0, 1.0, 0.001), expected, rtol=1e-3)


def test_numeric_shrinkage_without_edge_is_zero_and_impossible_errors_are_nan():
    computed = numeric_shrinkage(
        np.array([0.45, 0.6, 0.6, np.nan]), 1.0, 1.0, np.array([0.05, 0.6, 0.0, 0.05])
    )
    np.testing.assert_array_equal(computed, [0.0, np.nan, np.nan, np.nan])
