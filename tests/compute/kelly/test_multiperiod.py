"""Long horizons: myopia, mean reversion, trading towards an aim, and the next-card game."""

import math

import cvxpy as cp
import mpmath
import numpy as np
import pytest
from scipy import optimize

from compute.kelly.classic import kelly_fraction
from compute.kelly.multiperiod import (
    aim_share,
    trade_plan,
)

mp = mpmath.mp.clone()
mp.dps = 50


def play_next_card(deck):
    """Stake on the colour of each next card, sized by its share of what is left."""
    left = {card: deck.count(card) for card in (1, -1)}
    wealth = 1.0
    reds, blacks = [], []
    for card in deck:
        reds.append(left[1])
        blacks.append(left[-1])
        left[card] -= 1
    reds, blacks = np.array(reds, float), np.array(blacks, float)
    side = np.where(reds >= blacks, 1.0, -1.0)
    p = np.maximum(reds, blacks) / (reds + blacks)
    for card, stake in zip(deck, side * np.asarray(kelly_fraction(p, 1.0, 1.0)), strict=True):
        wealth *= 1.0 + stake * card
    return wealth


@pytest.mark.parametrize(("n_each", "printed"), [(2, 8 / 3), (3, 3.2), (26, 9.081329549428)])
def test_next_card_game_ends_the_same_whatever_the_order(n_each, printed):
    expected = float(mp.mpf(2) ** (2 * n_each) / mp.binomial(2 * n_each, n_each))
    np.testing.assert_allclose(expected, printed, rtol=1e-12)
    rng = np.random.default_rng(52)
    deck = [1] * n_each + [-1] * n_each
    decks = [deck, deck[::-1], [1, -1] * n_each] + [list(rng.permutation(deck)) for _ in range(40)]
    finals = [play_next_card([int(card) for card in order]) for order in decks]
    np.testing.assert_allclose(finals, expected, rtol=1e-12)


def test_dynamic_programming_of_log_utility_is_myopic():
    # Maximise E ln W over three bets by backward induction on a grid of wealth: the stake found at
    # every stage and wealth is the one-period one.
    p, b, a = 0.6, 0.3, 0.2
    one_period = float(kelly_fraction(p, b, a))
    value = math.log
    for _ in range(3):
        continuation = value
        for wealth in (0.5, 1.0, 3.0):

            def loss(f, w=wealth, v=continuation):
                return -p * v(w * (1 + b * f)) - (1 - p) * v(w * (1 - a * f))

            found = optimize.minimize_scalar(
                loss, bounds=(0, 4.9), options={"xatol": 1e-12}, method="bounded"
            )
            np.testing.assert_allclose(found.x, one_period, rtol=1e-6)
        gain = -float(found.fun) - continuation(3.0)
        value = lambda w, v=continuation, g=gain: v(w) + g  # noqa: E731


@pytest.mark.parametrize(("half_life", "cost"), [(5.0, 3.0), (1.0, 3.0), (20.0, 0.5), (2.0, 30.0)])
def test_the_aim_is_that_of_the_dynamic_program(half_life: float, cost: float) -> None:
    """Backward recursion of max sum f x - s^2 x^2 / 2 - cost s^2 (x - x')^2 / 2, f fading."""
    s2, kept = 0.04, 2.0 ** (-1.0 / half_life)
    curve, slope = 0.0, 0.0  # value of a position x at f: -curve x^2 / 2 + slope x f
    for _ in range(5000):
        total = s2 + cost * s2 + curve
        # x = (cost s2 x' + (1 + kept slope) f) / total, put back into the value.
        curve, slope = cost * s2 - (cost * s2) ** 2 / total, cost * s2 * (1 + kept * slope) / total
    total = s2 + cost * s2 + curve
    rate = 1.0 - cost * s2 / total
    aim = (1 + kept * slope) / total / rate
    assert float(aim_share(np.array(half_life), rate)) / s2 == pytest.approx(aim, rel=1e-9)


def whole_horizon(before, optimum, half_life, rate, covariance, periods):
    """The plan by one quadratic program over all periods and assets, costs k/2 times variance."""
    n, k = len(before), (1 - rate) / rate**2
    weights = cp.Variable((periods, n))
    root = np.linalg.cholesky(covariance).T
    total = 0
    for t in range(periods):
        wanted = optimum * 2.0 ** (-t / half_life)
        trade = weights[t] - (before if t == 0 else weights[t - 1])
        total += (covariance @ wanted) @ weights[t]
        total -= 0.5 * cp.sum_squares(root @ weights[t]) + 0.5 * k * cp.sum_squares(root @ trade)
    problem = cp.Problem(cp.Maximize(total))
    problem.solve(cp.CLARABEL, tol_gap_abs=1e-14, tol_gap_rel=1e-14, tol_feas=1e-14)
    return weights.value


@pytest.mark.parametrize(
    ("half_life", "rate", "periods"),
    [(5.0, 0.4269641587, 1), (5.0, 0.4269641587, 7), (1.5, 0.2, 12), (math.inf, 0.7, 4)],
)
def test_a_plan_is_the_best_of_the_whole_horizon(half_life, rate, periods):
    covariance = np.array([[0.04, 0.018], [0.018, 0.09]])
    before, optimum = np.array([0.5, -0.2]), np.array([1.25, 0.8])
    plan = trade_plan(np.full(2, half_life), rate, periods)
    best = whole_horizon(before, optimum, half_life, rate, covariance, periods)
    np.testing.assert_allclose(plan.path(before, optimum), best, rtol=0.0, atol=1e-8)


def test_a_plan_without_an_end_is_the_stationary_rate_and_aim():
    half_life, rate = np.array([0.5, 5.0, 60.0, np.inf]), 0.15
    plan = trade_plan(half_life, rate, 250)
    assert plan.rate[0] == pytest.approx(rate, rel=1e-12)
    np.testing.assert_allclose(plan.share[0], aim_share(half_life, rate), rtol=1e-12)


def test_a_plan_of_one_period_is_the_best_single_trade():
    """max a w - w^2/2 - k (w - w0)^2 / 2, k = 0.6 / 0.16 = 3.75: w = (a + k w0) / (1 + k)."""
    plan = trade_plan(np.array([3.0]), 0.4, 1)
    assert plan.path(np.array([0.5]), np.array([1.25]))[0, 0] == pytest.approx(3.125 / 4.75)


def test_what_costs_nothing_follows_its_edge():
    path = trade_plan(np.array([2.0]), 1.0, 5).path(np.array([0.3]), np.array([0.8]))
    np.testing.assert_allclose(path[:, 0], 0.8 * 2.0 ** (-np.arange(5) / 2), rtol=1e-15)
