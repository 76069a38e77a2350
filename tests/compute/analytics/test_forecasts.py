"""E-values and scores against numbers worked out beforehand."""

import numpy as np
import pytest

from compute.analytics.forecasts import (
    E_VALUE_GONE,
    bet_forecast,
    e_value,
    edge_gone,
    growth_forecast,
)


def test_the_edge_is_gone_step_by_step() -> None:
    won = np.array([1, 0, 0, 1, 0, 0, 0, 1, 0, 0], dtype=float)
    expected = [
        0.90909091, 1.01010101, 1.12233446, 1.02030405, 1.13367117,
        1.25963463, 1.39959403, 1.27235821, 1.41373135, 1.57081261,
    ]  # fmt: skip
    found = [
        edge_gone(np.full(n, 0.55), np.full(n, 0.5), won[:n], np.arange(n))
        for n in range(1, len(won) + 1)
    ]
    np.testing.assert_allclose(found, expected, rtol=5e-9)


def test_the_steps_of_the_ratio_are_those_of_the_sequential_test() -> None:
    """A8.6: H0 0.55 against 0.50 (Wald 1945)."""
    half, claim, one = np.full(1, 0.5), np.full(1, 0.55), np.arange(1)
    each = [e_value(half, claim, np.array([w]), one) for w in (1.0, 0.0)]
    np.testing.assert_allclose(np.log(each), [-0.0953101798, 0.1053605157], atol=5.1e-11)


def test_an_edge_is_the_wealth_of_betting_it() -> None:
    won = np.array([1, 1, 0, 1, 1, 1, 0, 1, 1, 1], dtype=float)
    # At even odds a claim of 0.55 stakes a tenth.
    found = e_value(np.full(10, 0.55), np.full(10, 0.5), won, np.arange(10))
    assert found == pytest.approx(1.7363069361, rel=1e-10)


def test_e_values_of_true_claims_rarely_reach_twenty() -> None:
    generator = np.random.default_rng(1)
    reached = 0
    for _ in range(400):
        won = (generator.random(300) < 0.55).astype(float)
        path = np.cumsum(np.where(won > 0, np.log(0.5 / 0.55), np.log(0.5 / 0.45)))
        reached += path.max() >= np.log(20.0)
    assert reached / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_e_values_of_true_claims_that_win_and_lose_together_rarely_reach_twenty() -> None:
    """Five names that always come out alike are no five bets: their product is no e-value."""
    generator = np.random.default_rng(3)
    n, names, reached, product_reached = 60, 5, 0, 0
    claimed, even = np.full(n * names, 0.55), np.full(n * names, 0.5)
    decision = np.repeat(np.arange(n), names)
    for _ in range(400):
        won = np.repeat((generator.random(n) < 0.55).astype(float), names)
        ends = [k * names for k in range(1, n + 1)]
        reached += any(
            edge_gone(claimed[:k], even[:k], won[:k], decision[:k]) >= E_VALUE_GONE for k in ends
        )
        product_reached += any(
            edge_gone(claimed[:k], even[:k], won[:k], np.arange(k)) >= E_VALUE_GONE for k in ends
        )
    bound = 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert reached / 400 <= bound
    assert product_reached / 400 > bound  # the test would see it


def test_wealth_is_split_over_the_bets_of_a_decision() -> None:
    """By hand: means (1.2 + 0.8) / 2 = 1, then 1.2, of claims of 0.6 at even odds."""
    won, decision = np.array([1.0, 0.0, 1.0]), np.array([7, 7, 9])
    found = e_value(np.full(3, 0.6), np.full(3, 0.5), won, decision)
    assert found == pytest.approx(1.2, rel=1e-14)
    # Only claims above break-even are bets against: the second decision has none.
    gone = edge_gone(np.array([0.6, 0.6, 0.4]), np.full(3, 0.5), won, decision)
    assert gone == pytest.approx(0.5 * (0.5 / 0.6 + 0.5 / 0.4), rel=1e-14)


def test_scores_of_ten_forecasts() -> None:
    claimed = np.array([0.1, 0.2, 0.2, 0.4, 0.4, 0.4, 0.6, 0.6, 0.8, 0.8])
    won = np.array([0, 0, 1, 0, 1, 0, 1, 1, 1, 0], dtype=float)
    found = bet_forecast(claimed, np.full(10, 0.5), won, np.arange(10))
    assert found is not None
    assert found.brier == pytest.approx(0.237)
    assert found.brier_base == pytest.approx(0.25)
    assert found.log_loss == pytest.approx(0.6730116670, abs=5e-9)
    assert sum(count for _, _, count in found.bins) == 10


def test_a_forecast_that_promises_twice_too_much_has_a_slope_of_a_half() -> None:
    expected = np.linspace(0.0, 0.02, 200)
    noise = np.random.default_rng(2).normal(0.0, 1e-4, 200)
    found = growth_forecast(expected, 0.5 * expected + noise)
    assert found is not None
    assert found.slope == pytest.approx(0.5, abs=0.01)
    assert found.difference.high is not None
    assert found.difference.high < 0.0


def test_nothing_to_compare_is_none() -> None:
    nothing = np.zeros(0)
    assert growth_forecast(nothing, nothing) is None
    assert bet_forecast(nothing, nothing, nothing, np.arange(0)) is None
