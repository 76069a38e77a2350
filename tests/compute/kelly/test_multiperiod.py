"""Long horizons: myopia, mean reversion, trading towards an aim, and the next-card game."""

import math

import mpmath
import numpy as np
import pytest
from scipy import optimize

from compute.kelly.classic import kelly_fraction, kelly_stake
from compute.kelly.continuous import continuous_kelly_fraction
from compute.kelly.multiperiod import (
    aim_share,
    mean_reverting_fraction,
    merton_fraction,
    trading_rate,
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
    for card, stake in zip(deck, np.asarray(kelly_stake(p, 1.0, 1.0, side)), strict=True):
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


def test_merton_is_a_fraction_of_kelly():
    merton = merton_fraction(0.11, 0.15, np.array([1.0, 2.0, 4.0]), 0.06)
    kelly = continuous_kelly_fraction(0.11, 0.15, 0.06)
    np.testing.assert_allclose(merton, np.array([1.0, 0.5, 0.25]) * kelly, rtol=1e-12)


def test_mean_reversion_table():
    np.testing.assert_allclose(mean_reverting_fraction(-0.05, 2.0, 0.0, 0.2), 3.0, rtol=1e-12)
    # At its long-run level a log price still has the drift s^2 / 2: the fraction is a half.
    np.testing.assert_allclose(mean_reverting_fraction(0.0, 2.0, 0.0, 0.2), 0.5, rtol=1e-12)


def test_trading_rate_table_matches_fifty_digits():
    rho, gamma, lam = mp.mpf("0.02"), mp.mpf(1), mp.mpf(3)
    linear = gamma * (1 - rho) + lam * rho
    a = (-linear + mp.sqrt(linear**2 + 4 * gamma * lam * (1 - rho) ** 2)) / (2 * (1 - rho))
    assert abs(a - mp.mpf("1.2808924762")) < mp.mpf("6e-11")
    assert abs(a / lam - mp.mpf(".4269641587")) < mp.mpf("6e-11")
    np.testing.assert_allclose(trading_rate(0.02, 1.0, 3.0), float(a / lam), rtol=1e-12)


def test_dearer_trading_is_slower_trading():
    rates = np.asarray(trading_rate(0.02, 1.0, np.geomspace(1e-3, 1e6, 20)))
    assert np.all(np.diff(rates) < 0)
    assert 0.0 < rates[-1] < rates[0] < 1.0


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
    assert float(trading_rate(0.0, 1.0, cost)) == pytest.approx(rate, rel=1e-9)
    assert float(aim_share(np.array(half_life), rate)) / s2 == pytest.approx(aim, rel=1e-9)
