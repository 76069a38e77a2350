"""Kelly under a bound on the probability of a deep drawdown, one instrument."""

import mpmath
import numpy as np
import pytest

from compute.kelly.exact import exact_kelly_fraction
from compute.kelly.risk_constrained import drawdown_exponent, risk_constrained_kelly

mp = mpmath.mp.clone()
mp.dps = 50


def two(p, b):
    return np.array([b, -1.0]), np.array([p, 1 - p])


def mp_constrained(p, b, lam):
    gap = lambda f: p * (1 + b * f) ** -lam + (1 - p) * (1 - f) ** -lam - 1  # noqa: E731
    low, high = mp.mpf("0.01"), mp.mpf("0.5")
    for _ in range(170):
        middle = (low + high) / 2
        low, high = (middle, high) if gap(middle) < 0 else (low, middle)
    return low


@pytest.mark.parametrize(
    ("p", "b", "alpha", "beta", "printed"),
    [
        ("0.6", "1", "0.7", "0.1", "0.0542572855"),
        ("0.6", "1", "0.5", "0.125", "0.1008501473"),
        ("0.55", "1", "0.7", "0.1", "0.0268997435"),
        ("0.5", "2", "0.7", "0.1", "0.0654489210"),  # pays 3 for 1, stake included
        ("0.6", "1", "0.8", "0.05", "0.0280779740"),
    ],
)
def test_two_outcome_table(p, b, alpha, beta, printed):
    win, payoff = mp.mpf(p), mp.mpf(b)
    lam = mp.log(mp.mpf(beta)) / mp.log(mp.mpf(alpha))
    expected = mp_constrained(win, payoff, lam)
    assert abs(expected - mp.mpf(printed)) < mp.mpf("6e-11")
    exponent = drawdown_exponent(float(alpha), float(beta))
    np.testing.assert_allclose(exponent, float(lam), rtol=1e-12)
    computed = risk_constrained_kelly(*two(float(p), float(b)), exponent)
    np.testing.assert_allclose(computed.fraction, float(expected), rtol=1e-12)


def test_shadow_price_table_and_finite_difference():
    exponent = drawdown_exponent(0.7, 0.1)
    computed = risk_constrained_kelly(*two(0.6, 1.0), exponent)
    np.testing.assert_allclose(exponent, 6.45569624, rtol=1e-9)
    np.testing.assert_allclose(computed.fraction / 0.2, 0.271286, rtol=2e-6)
    np.testing.assert_allclose(computed.shadow_price, 0.11227904, rtol=5e-8)


def test_exponent_of_one_is_exactly_tight_at_the_kelly_bet():
    computed = risk_constrained_kelly(*two(0.6, 1.0), np.array(1.0))
    np.testing.assert_allclose(computed.fraction, 0.2, rtol=1e-9)
    loose = risk_constrained_kelly(*two(0.6, 1.0), np.array(0.5))
    np.testing.assert_allclose(loose.fraction, 0.2, rtol=1e-12)
    assert float(loose.shadow_price) == 0.0


def test_tighter_bounds_mean_smaller_stakes():
    exponents = np.linspace(1.0, 40.0, 25)
    outcomes, odds = two(0.6, 1.0)
    stakes = risk_constrained_kelly(np.tile(outcomes, (25, 1)), odds, exponents).fraction
    assert np.all(np.diff(stakes) < 0)
    assert np.all(np.asarray(stakes) > 0)


def test_the_promise_is_kept_on_simulated_paths():
    outcomes, odds = two(0.6, 1.0)
    stake = float(risk_constrained_kelly(outcomes, odds, drawdown_exponent(0.7, 0.1)).fraction)
    rng = np.random.default_rng(5)
    wins = rng.random((4_000, 2_000)) < 0.6
    log_wealth = np.cumsum(np.where(wins, np.log1p(stake), np.log1p(-stake)), axis=1)
    fell = np.mean(log_wealth.min(axis=1) < np.log(0.7))
    assert 0.03 < fell < 0.1


def test_sides_edges_and_lines_without_risk():
    lines = np.array([[0.15, -0.1], [-0.15, 0.1], [0.1, -0.15], [0.1, 0.2], [np.nan, 0.1]])
    odds = np.array([0.5, 0.5])
    computed = risk_constrained_kelly(lines, odds, np.array(6.0))
    free = exact_kelly_fraction(lines, odds)
    np.testing.assert_array_equal(np.sign(computed.fraction)[:4], np.sign(free)[:4])
    np.testing.assert_allclose(computed.fraction[1], -computed.fraction[0], rtol=1e-12)
    assert np.isinf(computed.fraction[3])
    assert np.isnan(computed.fraction[4])
    np.testing.assert_array_less(np.abs(computed.fraction[:3]), np.abs(free[:3]))


def test_no_edge_is_no_bet():
    computed = risk_constrained_kelly(*two(0.5, 1.0), np.array(3.0))
    assert float(computed.fraction) == 0.0
    assert float(computed.shadow_price) == 0.0
