"""The horse race, against a numeric optimum and the published cases."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compute.kelly.exclusive import horse_race

p_odds_fractions_reserve_growth = [
    ([0.5, 0.3, 0.2], [1.8, 4, 5], [0, 0.8 / 11, 0.2 / 11], 10 / 11, 0.0070413771),
    (
        [0.55, 0.25, 0.1],
        [3, 3.2, 8],
        [0.55 - 4.8 / 33, 0.25 - 1.5 / 11, 0.1 - 0.6 / 11],
        4.8 / 11,
        0.1143982299,
    ),
    ([0.4, 0.3, 0.2, 0.1], [3, 3.5, 4, 8], [0.4, 0.3, 0.2, 0.1], 0.0, 0.0206226066),
    ([0.6, 0.4], [2, 2], [0.2, 0.0], 0.8, 0.0201355136),
]


def growth(p, odds, stakes):
    wealth = 1 - stakes.sum() + odds * stakes
    nothing = 1 - p.sum()
    idle = nothing * np.log(1 - stakes.sum()) if nothing > 1e-12 else 0.0
    return float(p @ np.log(wealth)) + idle


@pytest.mark.parametrize(
    ("p", "odds", "fractions", "reserve", "expected"), p_odds_fractions_reserve_growth
)
def test_race_tables(p, odds, fractions, reserve, expected):
    p, odds = np.array(p), np.array(odds, float)
    bets = horse_race(p, odds)
    np.testing.assert_allclose(bets.fractions, fractions, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(bets.reserve, reserve, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(bets.growth, expected, atol=6e-11)
    np.testing.assert_allclose(bets.growth, growth(p, odds, np.array(bets.fractions)), rtol=1e-12)


def test_fair_race_grows_by_the_entropy_short_of_three_bits():
    # Half a bit short of nothing: 3 - H with H = 2 gives 1 bit. Betting everything, f = p, grows
    # as fast; the answer keeps the rest in cash.
    p = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 64, 1 / 64, 1 / 64, 1 / 64])
    bets = horse_race(p, np.full(8, 8.0))
    np.testing.assert_allclose(bets.growth / np.log(2.0), 1.0, rtol=1e-12)
    np.testing.assert_allclose(growth(p, np.full(8, 8.0), p) / np.log(2.0), 1.0, rtol=1e-12)
    np.testing.assert_allclose(bets.fractions, p - 1 / 64, atol=1e-15)


def test_fair_odds_with_rounding_still_keep_the_least_stake():
    bets = horse_race(np.array([0.6, 0.4]), np.array([3.0, 1.5]))
    np.testing.assert_allclose(bets.fractions, [0.4, 0.0], atol=1e-14)


def test_runners_without_value_and_padding_are_left_alone():
    bets = horse_race(np.array([0.3, 0.3, 0.0]), np.array([2.0, 3.0, 100.0]))
    np.testing.assert_array_equal(bets.fractions, [0.0, 0.0, 0.0])
    assert float(bets.reserve) == 1.0
    assert float(bets.growth) == 0.0


def test_order_does_not_matter_and_vmap_is_a_loop():
    p, odds = np.array([0.55, 0.25, 0.1]), np.array([3, 3.2, 8.0])
    orders = [list(order) for order in itertools.permutations(range(3))]
    races = jax.vmap(horse_race)(p[np.array(orders)], odds[np.array(orders)])
    direct = np.array(horse_race(p, odds).fractions)
    for order, fractions in zip(orders, races.fractions, strict=True):
        np.testing.assert_allclose(fractions, direct[order], rtol=1e-12)


def test_nan_in_a_runner_spoils_its_race():
    assert np.isnan(horse_race(np.array([0.5, np.nan]), np.array([3.0, 3.0])).fractions).all()


@settings(deadline=None)
@given(
    hnp.arrays(np.float64, 5, elements=st.floats(0.02, 1.0)),
    hnp.arrays(np.float64, 5, elements=st.floats(1.1, 20.0)),
    st.floats(0.5, 0.95),
)
def test_optimality_conditions_hold(p, odds, paying):
    # dG/df_i = p_i o_i / W_i - E[1/W] is 0 where a stake is positive and at most 0 elsewhere.
    p = paying * p / p.sum()
    bets = horse_race(p, odds)
    stakes, cash = np.array(bets.fractions), float(bets.reserve)
    wealth = cash + odds * stakes
    if cash <= 1e-9:  # every state is covered at better than fair odds
        return
    slope = p * odds / wealth - (np.sum(p / wealth) + (1 - p.sum()) / cash)
    assert np.all(slope <= 1e-9 / cash)
    assert np.all(np.abs(slope[stakes > 1e-12]) <= 1e-9 / cash)
    assert cash == pytest.approx(1 - stakes.sum(), abs=1e-12)
