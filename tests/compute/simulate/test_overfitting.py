"""Deflation and overfitting against published numbers and noise."""

from statistics import NormalDist

import numpy as np
import pytest

from compute.simulate.overfitting import (
    deflated,
    deflated_sharpe,
    expected_maximum,
    overfitting_probability,
    sharpe_ratios,
)
from compute.simulate.sharpe import probabilistic_sharpe, sharpe_error


@pytest.mark.parametrize(("trials", "expected"), [(1, 0.0), (100, 2.5306)])
def test_the_best_of_noise(trials: int, expected: float) -> None:
    assert expected_maximum(trials) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("trials", "skewness", "kurtosis", "expected"),
    [(100, -3.0, 10.0, 0.9004), (46, -3.0, 10.0, 0.9505), (88, 0.0, 3.0, 0.9505)],
)
def test_the_example_of_bailey_and_lopez_de_prado(
    trials: int, skewness: float, kurtosis: float, expected: float
) -> None:
    # A Sharpe ratio of 2.5 a year over 1,250 days, trials with an annual variance of a half.
    ratio, benchmark = 2.5 / 250**0.5, (0.5 / 250) ** 0.5 * expected_maximum(trials)
    variance = 1.0 - skewness * ratio + (kurtosis - 1.0) / 4.0 * ratio**2
    found = NormalDist().cdf((ratio - benchmark) / (variance / 1249) ** 0.5)
    assert found == pytest.approx(expected, abs=6e-5)


def test_a_single_trial_is_not_deflated() -> None:
    excess = np.random.default_rng(1).normal(0.001, 0.01, 500)
    alone = deflated_sharpe(excess, sharpe_ratios(excess[:, None]), 1)
    many = np.random.default_rng(2).normal(0.0, 0.01, (500, 40))
    among = deflated_sharpe(excess, sharpe_ratios(many), 40)
    assert alone is not None
    assert among is not None
    assert among < alone


def test_deflation_from_the_spread_alone_is_that_from_all_ratios() -> None:
    many = np.random.default_rng(2).normal(0.0005, 0.01, (500, 40))
    ratios, chosen = sharpe_ratios(many), many[:, 7]
    error = sharpe_error(chosen)
    assert error is not None
    for trials in (40, 1000):
        whole = deflated_sharpe(chosen, ratios, trials)
        assert deflated(ratios[7], error, ratios.std(ddof=1), trials) == whole
    assert deflated(ratios[7], error, 0.0, 40) == probabilistic_sharpe(chosen, 0.0)


def test_noise_is_overfitted_about_half_the_time_and_an_edge_is_not() -> None:
    noise = np.random.default_rng(0).standard_normal((160, 10))
    found = overfitting_probability(noise, 8)
    assert found.splits == 70
    assert found.probability == pytest.approx(0.2285714286, abs=1e-9)
    assert found.logit_mean == pytest.approx(0.3866115119, abs=1e-9)
    edge = 0.01 * noise
    edge[:, 3] += 0.006
    assert overfitting_probability(edge, 8).probability == 0.0


def test_one_setting_or_too_few_periods_are_refused() -> None:
    with pytest.raises(ValueError, match="1 settings"):
        overfitting_probability(np.zeros((100, 1)))
    with pytest.raises(ValueError, match="over 10 periods"):
        overfitting_probability(np.zeros((10, 3)))
