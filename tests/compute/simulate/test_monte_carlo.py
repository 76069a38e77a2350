"""Simulated futures against closed forms."""

import numpy as np
import pytest
from scipy.stats import norm

from compute.simulate.monte_carlo import (
    bootstrap_paths,
    ever_below_by,
    fan,
    lognormal_chances,
    normal_paths,
    student_paths,
)

MEAN, DEVIATION, RATE = 0.11, 0.15, 0.06
KELLY = (MEAN - RATE) / DEVIATION**2


def growth_of(fraction: float) -> tuple[float, float]:
    stake = fraction * KELLY
    deviation = stake * DEVIATION
    return RATE + stake * (MEAN - RATE) - deviation**2 / 2, deviation


def lognormal_quantile(growth: float, deviation: float, years: float, z: float) -> float:
    return float(np.exp(growth * years + deviation * np.sqrt(years) * z))


@pytest.mark.parametrize(
    ("fraction", "years", "expected"),
    [
        (0.5, 5, 0.0584840356),
        (0.5, 1, 0.0076081658),
        (1.0, 5, 0.3986243662),
        (1.0, 1, 0.1900687064),
    ],
)
def test_the_chance_of_ever_losing_thirty_per_cent(
    fraction: float, years: float, expected: float
) -> None:
    growth, deviation = growth_of(fraction)
    assert ever_below_by(0.7, growth, deviation, years) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.5, [1.1615469579, 2.7639661710, 6.5770126143]),
        (1.0, [0.5608664967, 3.1757872538, 17.9822199063]),
    ],
)
def test_quantiles_of_ten_years(fraction: float, expected: list[float]) -> None:
    """T14.1, in continuous time (with 1.64485 for the 95 % point); simulated by fortnights."""
    growth, deviation = growth_of(fraction)
    ends = [lognormal_quantile(growth, deviation, 10.0, norm.ppf(p)) for p in (0.05, 0.5, 0.95)]
    np.testing.assert_allclose(ends, expected, rtol=5e-8)
    excess = normal_paths((MEAN - RATE) / 26, DEVIATION / 26**0.5, 260, 40_000, seed=1)
    found = fan(excess, fraction * KELLY, 26, RATE / 26).wealth[[0, 2, 4], -1]
    np.testing.assert_allclose(found, expected, rtol=0.05)


def test_simulated_futures_agree_with_the_closed_forms() -> None:
    steps, years = 252 * 5, 5.0
    excess = normal_paths((MEAN - RATE) / 252, DEVIATION / 252**0.5, steps, 4_000, seed=1)
    found = fan(excess, 0.5 * KELLY, 252, RATE / 252, levels=np.array([0.7]))
    growth, deviation = growth_of(0.5)
    exact = [lognormal_quantile(growth, deviation, years, norm.ppf(p)) for p in (0.05, 0.5, 0.95)]
    np.testing.assert_allclose(found.wealth[[0, 2, 4], -1], exact, rtol=0.05)
    assert found.growth == pytest.approx(growth, abs=0.004)
    assert found.fell_below[0] == pytest.approx(0.0588, abs=0.012)
    assert found.drawdown[0] == pytest.approx(0.243, abs=0.012)
    assert found.drawdown[1] == pytest.approx(0.407, abs=0.02)


def test_the_same_luck_at_every_fraction() -> None:
    excess = normal_paths(0.001, 0.01, 300, 200, seed=9)
    half, full = fan(excess, 0.5, 252), fan(excess, 1.0, 252)
    again = fan(normal_paths(0.001, 0.01, 300, 200, seed=9), 0.5, 252)
    np.testing.assert_array_equal(half.wealth, again.wealth)
    assert full.growth != half.growth


def test_blocks_keep_neighbours_together() -> None:
    returns = np.arange(100, dtype=float)
    drawn = bootstrap_paths(returns, 200, 50, block=10.0, seed=2)
    follows = (np.diff(drawn, axis=1) % 100) == 1
    assert 1.0 / (1.0 - follows.mean()) == pytest.approx(10.0, rel=0.1)
    assert set(np.unique(drawn)) <= set(returns)


def test_student_returns_have_the_moments_asked_for() -> None:
    drawn = student_paths(0.001, 0.02, 5.0, 2_000, 200, seed=3)
    assert drawn.mean() == pytest.approx(0.001, abs=2e-4)
    assert drawn.std() == pytest.approx(0.02, rel=0.01)
    with pytest.raises(ValueError, match="2 degrees"):
        student_paths(0.0, 0.1, 2.0, 10, 10, seed=1)


def test_a_path_that_is_ruined_stays_there() -> None:
    excess = np.array([[-0.6, 0.5, 0.5], [0.1, 0.1, 0.1]])
    found = fan(excess, 2.0, 252, levels=np.array([0.5]))
    assert found.wealth[0, -1] < 0.2
    assert found.fell_below[0] == 0.5


@pytest.mark.parametrize(("multiple", "expected"), [(1.0, 1 / 3), (0.5, 1 / 9), (2 / 3, 1 / 5)])
def test_the_chance_of_halving_before_doubling_is_that_of_thorp(
    multiple: float, expected: float
) -> None:
    """1 / (1 + 2^(2/c - 1)) at c times full Kelly; 1/3 at full Kelly (Thorp 2006, section 7.3)."""
    found = lognormal_chances(multiple * KELLY, MEAN - RATE, DEVIATION, 0.0, np.zeros(0), 5.0)
    assert found is not None
    assert found.halves_before_doubling == pytest.approx(expected, rel=1e-12)


def test_chances_in_closed_form_want_growth_and_risk() -> None:
    for fraction in (2.5 * KELLY, -1.0, 0.0):
        assert lognormal_chances(fraction, 0.05, DEVIATION, 0.0, np.zeros(0), 5.0) is None


@pytest.mark.parametrize(
    ("returns", "withdrawal", "expected"),
    [
        ((-0.3, 0.1, 0.1, 0.1, 0.1), 0.05, 0.7183715),
        ((0.1, 0.1, 0.1, 0.1, -0.3), 0.05, 0.8111915),
        ((-0.3, 0.1, 0.1, 0.1, 0.1), 0.0, 1.02487),
        ((0.1, 0.1, 0.1, 0.1, -0.3), 0.0, 1.02487),
    ],
)
def test_with_withdrawals_the_order_of_returns_counts(
    returns: tuple[float, ...], withdrawal: float, expected: float
) -> None:
    """T14.4."""
    found = fan(np.array([returns]), 1.0, 1.0, withdrawal=withdrawal)
    assert found.wealth[2, -1] == pytest.approx(expected, rel=1e-12)
    assert found.ran_out == 0.0


def test_what_is_withdrawn_runs_out() -> None:
    found = fan(np.array([[0.0] * 4, [1.0] * 4]), 1.0, 1.0, withdrawal=0.4)
    assert found.ran_out == 0.5
    np.testing.assert_allclose(found.wealth[[0, -1], -1], np.quantile([0.0, 4.0], [0.05, 0.95]))
    assert np.isneginf(found.growth)
