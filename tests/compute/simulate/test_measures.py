"""Measures of a sample by hand, and where they are not defined."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import norm

from compute.analytics.evidence import periods_needed
from compute.risk.drawdown import drawdowns
from compute.simulate.measures import measures
from compute.simulate.sharpe import (
    lo_scale,
    probabilistic_sharpe,
    sharpe_error_of,
)

SAMPLE = np.array(
    [0.02, -0.01, 0.015, 0.03, -0.025, 0.01, 0.005, -0.04, 0.035, 0.02, -0.015, 0.025]
)
EXPECTED = {
    "total_return": 0.0690611195,
    "cagr": 0.0690611195,
    "log_growth": 0.0667808048,
    "volatility": 0.0811844141,
    "sharpe": 0.5666112211,
    "sortino": 0.8503949466,
    "max_drawdown": 0.0499132,
    "calmar": 1.3836243611,
    "ulcer": 0.0183894954,
    "omega": 1.7777777778,
    "hit_rate": 2 / 3,
    "sharpe_probability": 0.6965063660,
}


@pytest.mark.parametrize(("name", "value"), EXPECTED.items())
def test_a_year_of_months_by_the_stated_conventions(name: str, value: float) -> None:
    found = measures(SAMPLE, 12, 0.002)
    assert getattr(found, name) == pytest.approx(value, abs=5.1e-11)  # ten printed digits


def test_the_error_of_the_sharpe_ratio_is_mertens() -> None:
    error = measures(SAMPLE, 12, 0.002).sharpe_error
    assert error == pytest.approx(0.3179886328 * np.sqrt(12), rel=1e-9)


def test_a_benchmark_of_a_half_a_year_lowers_the_probability() -> None:
    found = probabilistic_sharpe(SAMPLE - 0.002, 0.5 / np.sqrt(12))
    assert found == pytest.approx(0.5241096344, rel=1e-9)


@pytest.mark.parametrize(("skewness", "kurtosis", "sure"), [(-2.448, 10.164, 0.913), (0, 3, 0.982)])
def test_the_published_probability_of_a_sharpe_ratio(
    skewness: float, kurtosis: float, sure: float
) -> None:
    """Bailey and Lopez de Prado 2012: 24 months at 0.458 a month."""
    error = sharpe_error_of(0.458, 24, skewness, kurtosis)
    assert norm.cdf(0.458 / error) == pytest.approx(sure, abs=5.1e-4)


def test_the_drawdown_path_includes_the_start() -> None:
    path = drawdowns(np.array([-0.1, 0.05, 0.2]))
    np.testing.assert_allclose(path, [0.1, 1 - 0.9 * 1.05, 0.0], atol=1e-15)


@pytest.mark.parametrize(
    ("returns", "undefined"),
    [
        ([], ["total_return", "cagr", "sharpe", "max_drawdown", "hit_rate"]),
        ([0.01], ["volatility", "sharpe", "calmar"]),
        ([0.01, 0.01, 0.01], ["sharpe", "sharpe_probability", "calmar", "omega"]),
        ([0.5, -1.0, 0.2], ["cagr", "log_growth"]),
    ],
)
def test_what_is_not_defined_is_none(returns: list[float], undefined: list[str]) -> None:
    found = measures(np.array(returns), 252)
    assert {name: getattr(found, name) for name in undefined} == dict.fromkeys(undefined)


def test_a_return_that_is_no_number_is_named() -> None:
    with pytest.raises(ValueError, match="period 1"):
        measures(np.array([0.1, np.nan]), 252)


@given(arrays.arrays(np.float64, st.integers(2, 60), elements=st.floats(-0.5, 0.5)))
def test_drawdowns_are_fractions_and_growth_adds_up(returns: np.ndarray) -> None:
    falls = drawdowns(returns)
    assert ((falls >= -1e-12) & (falls <= 1)).all()  # 1 - 2^-54 is 1
    found = measures(returns, 12)
    assert found.total_return is not None
    assert found.log_growth is not None
    assert np.expm1(found.log_growth * len(returns) / 12) == pytest.approx(
        found.total_return, rel=1e-9, abs=1e-12
    )


def test_a_month_of_autocorrelated_returns_is_scaled_by_lo() -> None:
    """Lo 2002: twelve months with an autocorrelation of the first lag."""
    for first, expected in ((0.2, 12 / np.sqrt(16.4)), (-0.1, 3.8332593900), (0.0, np.sqrt(12))):
        assert lo_scale(12, np.array([first])) == pytest.approx(expected, abs=5.1e-11)
    # The same of the covariance matrix of twelve months: their sum's variance is 1' R 1.
    rho = np.array([0.3, -0.2, 0.1, 0.05])
    lag = np.abs(np.arange(12)[:, None] - np.arange(12))
    matrix = np.where(lag == 0, 1.0, np.where(lag <= 4, rho[np.minimum(lag, 4) - 1], 0.0))
    assert lo_scale(12, rho) == pytest.approx(12 / np.sqrt(matrix.sum()), rel=1e-14)
    assert lo_scale(2, rho) == pytest.approx(2 / np.sqrt(2.6), rel=1e-14)
    assert lo_scale(12, np.array([-0.6])) is None


def test_the_error_of_lo_is_that_of_mertens_for_normal_returns() -> None:
    """sqrt((1 + S^2 / 2) / n), where Mertens divides by n - 1."""
    error = sharpe_error_of(0.1635665705, 13, skewness=0.0, kurtosis=3.0)
    assert error == pytest.approx(0.2905995256, abs=5.1e-11)


def test_the_shortest_record_of_the_sample() -> None:
    assert measures(SAMPLE, 12, 0.002).track_record_min == pytest.approx(113.48, abs=5.1e-3)
    assert measures(-SAMPLE, 12).track_record_min is None


def test_the_error_of_a_dependent_sharpe_ratio_is_that_of_many_samples() -> None:
    """An AR(1) of 0.3: the spread of a year's ratio over 400 histories of 20 years."""
    generator = np.random.default_rng(6)
    found, errors, plain = [], [], []
    for _ in range(400):
        luck = generator.normal(0.0, 0.01, 5100)
        moved = np.empty(5100)
        moved[0] = luck[0]
        for i in range(1, 5100):
            moved[i] = 0.3 * moved[i - 1] + luck[i]
        one = measures(moved[60:] + 0.0005, 252)
        found.append(one.sharpe_autocorrelated)
        errors.append(one.sharpe_autocorrelated_error)
        plain.append(one.sharpe)
    # Variance of a year's sum over that of a day: 252 (1 + rho) / (1 - rho), but for its ends.
    deviation = 0.01 / np.sqrt(1 - 0.3**2)
    truth = 0.0005 / deviation * np.sqrt(252 * 0.7 / 1.3)
    assert np.mean(found) == pytest.approx(truth, abs=4 * np.std(found) / 20 + 0.01)
    assert np.mean(plain) > 1.3 * truth
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.12)


def test_how_long_until_growth_shows() -> None:
    """16 / SR^2 years of full Kelly: a Sharpe ratio of 1 takes 16, of a half 64."""
    logs = np.log1p(SAMPLE)
    expected = 4.0 * logs.var(ddof=1) / logs.mean() ** 2
    assert measures(SAMPLE, 12).evidence_periods == pytest.approx(expected, rel=1e-12)
    assert measures(np.zeros(12), 12).evidence_periods is None
    for ratio, years in ((1.0, 16.0), (0.5, 64.0)):
        found = periods_needed(np.array(ratio**2 / 2), np.array(ratio))
        assert found == pytest.approx(years, rel=1e-15)
