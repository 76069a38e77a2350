"""Proper scores of forecast returns against numbers worked out beforehand, and their integrals."""

from math import inf

import numpy as np
import pytest
from mpmath import mp
from scipy import integrate, stats

from compute.analytics.return_forecasts import (
    INTERVAL,
    QUANTILES,
    Scores,
    crps_ensemble,
    crps_normal,
    ensemble_scores,
    interval_score,
    normal_scores,
    pinball,
    return_forecast,
)


def one(*values: float) -> tuple[np.ndarray, ...]:
    return tuple(np.array([value]) for value in values)


@pytest.mark.parametrize(
    ("mean", "deviation", "y", "expected"),
    [
        (0.0, 1.0, 0.0, 0.2336949773),
        (0.0, 1.0, 1.0, 0.6024413576),
        (0.001, 0.02, -0.03, 0.0207611814),
    ],
)
def test_crps_of_a_normal(mean: float, deviation: float, y: float, expected: float) -> None:
    """A8.11, and the integral that it stands for."""
    found = float(crps_normal(*one(mean, deviation, y))[0])
    assert found == pytest.approx(expected, abs=5.1e-11)
    law = stats.norm(mean, deviation)
    below = integrate.quad(lambda x: law.cdf(x) ** 2, -inf, y, epsabs=1e-13)[0]
    above = integrate.quad(lambda x: law.sf(x) ** 2, y, inf, epsabs=1e-13)[0]
    assert found == pytest.approx(below + above, abs=1e-10)


def test_log_score_and_pit_of_a_normal() -> None:
    """A8.11; the PIT to 50 digits, Phi(-1.55)."""
    mp.dps = 50
    found = normal_scores(*one(0.001, 0.02, -0.03))
    assert found.log_score[0] == pytest.approx(-1.7918344722, abs=5.1e-11)
    assert found.pit[0] == pytest.approx(float(mp.ncdf(mp.mpf("-1.55"))), rel=1e-13)


def test_crps_of_an_ensemble_plain_and_fair() -> None:
    """A8.12."""
    members, equal = np.array([[0.0], [0.2], [0.5], [1.0]]), np.full(4, 0.25)
    y = np.array([0.3])
    assert crps_ensemble(members, equal, y)[0] == pytest.approx(0.11875, abs=1e-15)
    assert crps_ensemble(members, equal, y, is_fair=True)[0] == pytest.approx(0.05, abs=1e-15)


def test_an_unequal_ensemble_by_its_double_sum() -> None:
    generator = np.random.default_rng(5)
    members, p = generator.normal(size=(7, 3)), generator.dirichlet(np.ones(7))
    y = np.array([0.1, -2.0, 3.0])
    apart = np.einsum("i,j,ijn->n", p, p, np.abs(members[:, None] - members[None]))
    near = p @ np.abs(members - y)
    np.testing.assert_allclose(crps_ensemble(members, p, y), near - 0.5 * apart, rtol=1e-13)
    fair = near - 0.5 * apart / (1.0 - p @ p)
    np.testing.assert_allclose(crps_ensemble(members, p, y, is_fair=True), fair, rtol=1e-13)
    lone = crps_ensemble(members[:1], np.ones(1), y, is_fair=True)
    np.testing.assert_allclose(lone, np.abs(members[0] - y), rtol=1e-15)


def test_interval_score_and_pinball() -> None:
    """A8.13."""
    low, high = one(-0.02, 0.03)
    for y, expected in ((0.01, 0.05), (0.05, 0.45), (-0.03, 0.25)):
        found = interval_score(low, high, np.array([y]), 0.1)[0]
        assert found == pytest.approx(expected, abs=1e-15)
    for y, expected in ((0.05, 0.018), (0.01, 0.002)):
        found = pinball(np.array([0.03]), 0.9, np.array([y]))[0]
        assert found == pytest.approx(expected, abs=1e-15)


def test_an_ensemble_of_a_normal_scores_as_the_normal() -> None:
    members = stats.norm(0.01, 0.05).ppf((np.arange(4000) + 0.5) / 4000)[:, None] * np.ones(5)
    y = np.array([-0.2, -0.03, 0.01, 0.02, 0.3])
    found = ensemble_scores(members, np.full(4000, 1.0 / 4000), y, np.full(5, 0.5))
    expected = normal_scores(np.full(5, 0.01), np.full(5, 0.05), y)
    for name in ("crps", "crps_no_edge", "pinball"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=2e-4)
    # An end is at most a member away, and counts twenty times where it is missed.
    np.testing.assert_allclose(found.interval_score, expected.interval_score, atol=2.5e-3)
    np.testing.assert_allclose(found.pit, expected.pit, atol=2e-4)
    np.testing.assert_array_equal(found.below, expected.below)


def test_the_place_of_what_came_is_uniform_where_members_and_it_are_alike() -> None:
    generator = np.random.default_rng(8)
    draws = generator.normal(size=(6, 4000))
    found = ensemble_scores(draws[:5], np.full(5, 0.2), draws[5], generator.random(4000))
    assert stats.kstest(found.pit, "uniform").pvalue > 0.01
    tied = ensemble_scores(
        np.zeros((4, 1000)), np.full(4, 0.25), np.zeros(1000), np.linspace(0, 1, 1000)
    )
    np.testing.assert_allclose(tied.pit, np.linspace(0, 1, 1000), atol=1e-12)


def test_true_forecasts_cover_and_wrong_ones_are_found_out() -> None:
    generator = np.random.default_rng(3)
    mean, deviation = generator.normal(0.0, 0.01, 2000), generator.uniform(0.01, 0.03, 2000)
    y = mean + deviation * generator.normal(size=2000)
    right = return_forecast(
        [
            normal_scores(mean[i : i + 10], deviation[i : i + 10], y[i : i + 10])
            for i in range(0, 2000, 10)
        ]
    )
    narrow = return_forecast([normal_scores(mean, 0.5 * deviation, y)])
    assert right is not None
    assert narrow is not None
    # A8.5's acceptance of a 95 % interval, scaled to the 90 % scored here: 2.576 standard errors.
    assert abs(right.coverage - INTERVAL) < 2.576 * np.sqrt(0.09 / 2000)
    np.testing.assert_allclose(right.below, QUANTILES, atol=2.6 * 0.5 / np.sqrt(2000))
    assert right.pit_probability > 0.01
    assert right.edge_gain.low is not None
    assert right.edge_gain.low > 0.0
    assert right.pit_bins.sum() == right.lines == 2000
    distance = stats.kstest(normal_scores(mean, deviation, y).pit, "uniform")
    assert right.pit_distance == pytest.approx(distance.statistic, abs=1e-12)
    assert right.pit_probability == pytest.approx(distance.pvalue, rel=1e-9)
    assert narrow.pit_probability < 1e-6
    assert narrow.coverage < 0.65
    assert narrow.crps > right.crps
    assert narrow.log_score is not None
    assert right.log_score is not None
    assert narrow.log_score > right.log_score
    assert narrow.interval_score > right.interval_score
    assert (narrow.pinball[[0, 4]] > right.pinball[[0, 4]]).all()


def test_nothing_to_score_is_none() -> None:
    nothing = np.zeros(0)
    empty: Scores = normal_scores(nothing, nothing, nothing)
    assert return_forecast([]) is None
    assert return_forecast([empty]) is None
