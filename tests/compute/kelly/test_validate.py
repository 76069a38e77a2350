"""What is wrong with a line, and that the kernels agree that something is."""

import numpy as np
import pytest

from compute.kelly.classic import kelly_fraction
from compute.kelly.validate import (
    Problem,
    check_bet,
    check_moments,
    check_scenarios,
    check_stop,
)
from compute.risk.stop import quantity_for_risk


def test_bets_name_the_first_problem_of_each_line():
    codes = check_bet(
        [0.6, -0.1, np.nan, 0.6, 0.6, 0.6, 1.0, 2.0],
        [1.0, 1.0, 1.0, 0.0, np.inf, 1.0, 1.0, -1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, -0.5, 1.0, 1.0],
    )
    p, b, a = (
        Problem.PROBABILITY_NOT_IN_UNIT_INTERVAL,
        Problem.PAYOFF_NOT_POSITIVE,
        Problem.LOSS_FRACTION_NOT_POSITIVE,
    )
    np.testing.assert_array_equal(codes, [0, p, p, b, b, a, 0, p])


def test_bets_that_pass_always_have_a_size():
    rng = np.random.default_rng(0)
    hostile = np.array([0.0, 1.0, -1.0, 0.5, 2.0, np.nan, np.inf, -np.inf, 1e-300])
    p, b, a = (rng.choice(hostile, 2_000) for _ in range(3))
    good = check_bet(p, b, a) == 0
    assert good.any()
    assert not np.isnan(np.asarray(kelly_fraction(p, b, a))[good]).any()


def test_moments():
    codes = check_moments([0.1, np.nan, 0.1, 0.1], [0.2, 0.2, 0.0, np.nan], 0.01)
    s = Problem.VOLATILITY_NOT_POSITIVE
    np.testing.assert_array_equal(codes, [0, Problem.NOT_FINITE, s, s])


def test_scenarios():
    outcomes = np.array([[0.1, -0.1], [0.1, np.nan], [0.1, -0.1], [0.1, -0.1], [0.1, np.nan]])
    odds = np.array([[0.5, 0.5], [0.5, 0.5], [1.5, -0.5], [0.0, 0.0], [1.0, 0.0]])
    expected = [0, Problem.NOT_FINITE, Problem.WEIGHT_NEGATIVE, Problem.WEIGHTS_SUM_TO_ZERO, 0]
    np.testing.assert_array_equal(check_scenarios(outcomes, odds), expected)


def test_stops_agree_with_the_kernel():
    entry = np.array([100.0, 100.0, 100.0, 0.0, 100.0])
    stop = np.array([99.0, 101.0, 101.0, -1.0, 99.0])
    fee = np.array([0.0, 0.0, 0.0, 0.0, 1.5])
    side = np.array([1.0, 1.0, -1.0, 1.0, 1.0])
    codes = check_stop(entry, stop, fee, side)
    wrong, price, fees = (
        Problem.STOP_ON_WRONG_SIDE,
        Problem.PRICE_NOT_POSITIVE,
        Problem.FEE_NOT_A_FRACTION,
    )
    np.testing.assert_array_equal(codes, [0, wrong, 0, price, fees])
    good = codes == 0
    assert np.isfinite(np.asarray(quantity_for_risk(1000.0, entry, stop, fee, side))[good]).all()


@pytest.mark.parametrize("problem", list(Problem))
def test_every_problem_has_its_sentence(problem):
    assert bool(problem.message) == (problem is not Problem.NONE)
