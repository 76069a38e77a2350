"""Estimates of edges from outcomes, against SciPy and published numbers."""

import numpy as np
import pytest
from scipy import stats

from compute.edge.estimate import EdgeSettings, estimates_of, estimates_of_scenarios
from compute.edge.shrinkage import Means, james_stein, with_prior, with_views

K7 = [
    ((1.0, 1.0), 6, 4, 1 / 6, -0.38419057, 0.66502381, 0.725586),
    ((1.0, 1.0), 60, 40, 0.1960784314, 0.00348816, 0.38138297, 0.976978),
    ((10.0, 10.0), 6, 4, 0.0666666667, -0.28612258, 0.41102883, 0.644464),
    ((0.5, 0.5), 55, 45, 0.0990099010, -0.09554202, 0.28984612, 0.841342),
]


@pytest.mark.parametrize(("prior", "wins", "losses", "f", "low", "high", "positive"), K7)
def test_the_credible_interval_of_kelly_is_not_cut_at_0(
    prior: tuple[float, float],
    wins: int,
    losses: int,
    f: float,
    low: float,
    high: float,
    positive: float,
) -> None:
    outcomes = np.array([1.0] * wins + [-1.0] * losses)
    found = estimates_of([outcomes], EdgeSettings(*prior))
    assert found.kelly[0] == pytest.approx(f, abs=1e-9)
    assert (found.kelly_low[0], found.kelly_high[0]) == (
        pytest.approx(low, abs=1e-8),
        pytest.approx(high, abs=1e-8),
    )
    assert found.kelly_positive[0] == pytest.approx(positive, abs=1e-6)


def test_means_have_intervals_of_student() -> None:
    x = np.random.default_rng(3).normal(0.01, 0.05, 25)
    found = estimates_of([x], EdgeSettings(probability=0.9, risk_free_rate=0.001))
    assert found.mean[0] == pytest.approx(x.mean())
    assert found.volatility[0] == pytest.approx(x.std(ddof=1))
    assert found.mean_error[0] == pytest.approx(stats.sem(x))
    low, high = stats.t.interval(0.9, 24, x.mean(), stats.sem(x))
    assert (found.mean_low[0], found.mean_high[0]) == (pytest.approx(low), pytest.approx(high))
    assert found.volatility_error[0] == pytest.approx(x.std(ddof=1) / np.sqrt(48))
    assert found.kelly_moments[0] == pytest.approx((x.mean() - 0.001) / x.var(ddof=1))
    assert found.payoff[0] == pytest.approx(x[x > 0].mean())
    assert found.payoff_error[0] == pytest.approx(stats.sem(x[x > 0]))
    assert found.loss_fraction_error[0] == pytest.approx(stats.sem(x[x < 0]))


def test_old_outcomes_count_less() -> None:
    x = np.array([-0.1] * 50 + [0.1] * 50)
    found = estimates_of([x], EdgeSettings(half_life=10.0))
    weight = 0.5 ** (np.arange(100)[::-1] / 10.0)
    assert found.mean[0] == pytest.approx(np.average(x, weights=weight))
    effective = weight.sum() ** 2 / (weight**2).sum()
    assert found.wins[0] + found.losses[0] == pytest.approx(effective)
    assert found.count[0] == 100
    same = estimates_of([x], EdgeSettings(half_life=1e6))
    assert same.mean[0] == pytest.approx(0.0, abs=1e-4)


def test_what_was_never_seen_is_taken_at_its_worst() -> None:
    found = estimates_of([np.full(5, 0.1), np.full(5, -0.1), np.zeros(4)], EdgeSettings())
    assert found.loss_fraction.tolist() == pytest.approx([1.0, 0.1, 1.0])
    assert found.payoff.tolist() == pytest.approx([0.1, 0.1, 1.0])
    assert found.win_probability[1:].max() <= 0.5
    assert np.isfinite(found.kelly).all()


def test_scenarios_are_weighted_by_their_probabilities() -> None:
    x, p = np.array([0.02, -0.5, 9.0]), np.array([0.98, 0.02, 0.0])
    found = estimates_of_scenarios([x], p, EdgeSettings())
    assert found.mean[0] == pytest.approx(0.98 * 0.02 - 0.01)
    assert found.payoff[0] == pytest.approx(0.02)
    assert found.loss_fraction[0] == pytest.approx(0.5)


def test_eighteen_batters() -> None:
    """Efron and Morris 1975, table 1: B = 0.791."""
    hits = np.array([18, 17, 16, 15, 14, 14, 13, 12, 11, 11, 10, 10, 10, 10, 10, 9, 8, 7])
    x = np.sqrt(45) * np.arcsin(2 * hits / 45 - 1)
    found = james_stein(Means(x, np.eye(18)))
    assert found.centre == pytest.approx(x.mean())
    assert found.intensity == pytest.approx(0.791, abs=5e-4)
    assert found.means.mean == pytest.approx(found.centre + (1 - found.intensity) * (x - x.mean()))


def test_shrunk_means_are_nearer_to_the_truth_together() -> None:
    rng = np.random.default_rng(5)
    truth, error = rng.normal(0.0, 0.5, 12), rng.uniform(0.5, 1.5, 12)
    raw = shrunk = 0.0
    for _ in range(400):
        means = Means(truth + error * rng.standard_normal(12), np.diag(error**2))
        raw += (((means.mean - truth) / error) ** 2).sum()
        shrunk += (((james_stein(means).means.mean - truth) / error) ** 2).sum()
    assert shrunk < 0.6 * raw


def test_few_means_stay_as_they_are() -> None:
    means = Means(np.array([0.1, 0.2, 0.3]), np.eye(3))
    assert james_stein(means).means.mean.tolist() == [0.1, 0.2, 0.3]


def test_views_are_those_of_black_and_litterman() -> None:
    """By the master formula ((C^-1 + A'W^-1 A)^-1 (C^-1 m + A'W^-1 q)), with inverses."""
    rng = np.random.default_rng(7)
    root = rng.standard_normal((5, 5))
    means = Means(rng.normal(0.0, 0.1, 5), 0.01 * root @ root.T + 0.001 * np.eye(5))
    views = np.array([[1.0, -1.0, 0, 0, 0], [0, 0, 0.5, 0.5, -1.0]])
    told, error = np.array([0.02, -0.01]), np.array([0.01, 0.02])
    precision, trust = np.linalg.inv(means.covariance), np.diag(error**-2.0)
    covariance = np.linalg.inv(precision + views.T @ trust @ views)
    mean = covariance @ (precision @ means.mean + views.T @ trust @ told)
    found = with_views(means, views, told, error)
    assert found.mean == pytest.approx(mean, rel=1e-9)
    assert found.covariance == pytest.approx(covariance, rel=1e-8, abs=1e-12)


def test_a_certain_view_is_kept_and_an_empty_one_changes_nothing() -> None:
    means = Means(np.array([0.1, 0.2]), np.array([[0.04, 0.01], [0.01, 0.09]]))
    sure = with_views(means, np.array([[1.0, -1.0]]), np.array([0.0]), np.array([0.0]))
    assert sure.mean[0] == pytest.approx(sure.mean[1])
    weak = with_prior(means, np.zeros(2), np.full(2, 1e6))
    assert weak.mean == pytest.approx(means.mean, rel=1e-6)
    half = with_prior(Means(np.array([0.2]), np.array([[0.01]])), np.zeros(1), np.full(1, 0.1))
    assert half.mean[0] == pytest.approx(0.1)
    assert half.error[0] == pytest.approx(0.1 / np.sqrt(2))
