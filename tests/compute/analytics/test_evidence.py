"""How long until one could know, against numbers worked out beforehand and by simulation."""

import numpy as np
import pytest

from compute.analytics.evidence import (
    periods_needed,
    sequential_result,
    sequential_test,
)


@pytest.mark.parametrize(
    ("p", "stake", "variance", "bets"),
    [(0.6, 0.2, 0.0394564689, 389), (0.51, 0.02, None, 39_989)],
)
def test_bets_until_the_growth_of_kelly_shows(
    p: float, stake: float, variance: float | None, bets: int
) -> None:
    """A8.4, at even odds."""
    growth = p * np.log1p(stake) + (1 - p) * np.log1p(-stake)
    deviation = np.sqrt(p * (1 - p)) * (np.log1p(stake) - np.log1p(-stake))
    if variance is not None:
        assert deviation**2 == pytest.approx(variance, abs=5.1e-11)
    assert round(float(periods_needed(growth, deviation))) == bets


def test_no_growth_never_shows() -> None:
    found = periods_needed(np.array([0.0, -0.01, 0.01]), np.array([0.1, 0.1, 0.1]))
    np.testing.assert_allclose(found, [np.inf, 400.0, 400.0])


def test_the_sequential_test_of_an_edge() -> None:
    """A8.6: claimed 0.55 against 0.50, errors 0.05 and 0.10 (Wald 1945)."""
    found = sequential_test(np.array([0.55]), np.array([0.5]), 0.05, 0.10)
    assert found is not None
    assert found.gone_above == pytest.approx(2.8903717579, abs=5.1e-11)
    assert found.holds_below == pytest.approx(-2.2512917986, abs=5.1e-11)
    assert found.bets_if_it_holds == pytest.approx(398.18, abs=5.1e-3)
    assert found.bets_if_gone == pytest.approx(472.86, abs=5.1e-3)
    assert found.bets_fixed == pytest.approx(851.6, abs=0.051)


def test_the_test_keeps_its_errors_and_takes_as_long_as_it_says() -> None:
    generator = np.random.default_rng(2)
    claimed, even = np.full(6000, 0.55), np.full(6000, 0.5)
    plan = sequential_test(claimed, even)
    assert plan is not None
    for truth, wrong, most, mean in (
        (0.55, True, 0.05, plan.bets_if_it_holds),
        (0.5, False, 0.1, plan.bets_if_gone),
    ):
        ends = [
            sequential_result(claimed, even, (generator.random(6000) < truth).astype(float))
            for _ in range(400)
        ]
        stopped = [end for end in ends if end is not None and end.is_gone is not None]
        assert len(stopped) == 400
        missed = np.mean([end.is_gone is wrong for end in stopped])
        assert missed <= most + 2.6 * np.sqrt(most / 400)
        took = np.array([end.bets for end in stopped])
        # Wald leaves out by how much the bounds are overshot, about half a step in 2.2.
        assert took.mean() == pytest.approx(mean, abs=3 * took.std() / 20 + 0.05 * mean)


def test_bets_of_several_kinds_and_without_an_edge() -> None:
    claimed, fair = np.array([0.55, 0.4, 0.6]), np.array([0.5, 0.5, 0.5])
    found = sequential_result(claimed, fair, np.array([1.0, 1.0, 0.0]))
    assert found is not None
    assert found.log_ratio == pytest.approx(np.log(0.5 / 0.55) + np.log(0.5 / 0.4), rel=1e-14)
    assert (found.is_gone, found.bets) == (None, 2)
    assert found.test.bets_fixed is None
    assert sequential_test(np.array([0.4]), np.array([0.5])) is None
    sure = sequential_result(np.array([1.0]), np.array([0.5]), np.array([0.0]))
    assert sure is not None
    assert sure.is_gone
