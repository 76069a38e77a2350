"""Tiny Kelly fractions: utilities of a risk aversion of a million, against 60 digits of mpmath."""

from __future__ import annotations

from dataclasses import replace

import mpmath as mp
import numpy as np
import pytest

from compute.optimize import solve
from compute.optimize.execution import Execution
from compute.optimize.problem import (
    Array,
    Costs,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
    Solution,
    Status,
)
from compute.optimize.proof.certificate import certify, certify_weights

RHO = 1e6
RETURNS = np.array(
    [
        [0.011, 0.019, 0.052],
        [-0.009, 0.004, 0.013],
        [0.013, -0.015, -0.048],
        [-0.012, -0.006, 0.021],
        [0.004, 0.012, -0.033],
    ]
)
HELD = 3e-3
"""Of the last instrument, which can't be traded: at worst 1.4e-4 of wealth, e^144 of utility."""


def problem_of(held: float = HELD, cash: float = 0.0, cost: float = 0.0) -> Problem:
    limits = Limits(lower=np.array([-1.0, -1.0, held]), upper=np.array([1.0, 1.0, held]))
    return Problem(
        Objective(ObjectiveKind.CRRA, risk_aversion=RHO),
        limits=limits,
        scenarios=RETURNS,
        cash_return=cash,
        costs=Costs(linear=np.full(3, cost)) if cost else Costs(),
        holdings=np.array([0.0, 0.0, held]),
    )


def exact(problem: Problem, near: Array) -> list[float]:
    """The two free weights where the slope of utility less costs is zero, from a guess.

    One that the guess leaves at nothing stays there, if costs hold it.
    """
    mp.mp.dps = 60
    rows = [[mp.mpf(float(x)) for x in row] for row in RETURNS]
    assert problem.limits.lower is not None
    held, cash = mp.mpf(float(problem.limits.lower[2])), mp.mpf(problem.cash_return)
    cost = mp.mpf(0.0 if problem.costs.linear is None else float(problem.costs.linear[0]))
    moved = [i for i in range(2) if near[i] != 0.0]

    def slopes(free: list[mp.mpf]) -> list[tuple[mp.mpf, mp.mpf]]:
        """Of utility and of costs, over a sum that makes them numbers near 1."""
        weights = [*free, held]
        wealth = [
            1 + cash + sum(w * (x - cash) for w, x in zip(weights, row, strict=True))
            for row in rows
        ]
        worth = [w ** mp.mpf(-RHO) / len(rows) for w in wealth]
        total = sum(worth)
        return [
            (
                sum(u * (row[i] - cash) for u, row in zip(worth, rows, strict=True)) / total,
                cost / total,
            )
            for i in range(2)
        ]

    def whole(part: tuple[mp.mpf, ...]) -> list[mp.mpf]:
        given = dict(zip(moved, part, strict=True))
        return [given.get(i, mp.mpf(0)) for i in range(2)]

    def missed(*part: mp.mpf) -> list[mp.mpf]:
        found = slopes(whole(part))
        return [found[i][0] - mp.sign(near[i]) * found[i][1] for i in moved]

    start = [mp.mpf(float(near[i])) for i in moved]
    root = whole(tuple(mp.findroot(missed, start, tol=mp.mpf(10) ** -40)))
    for i in {0, 1} - set(moved):
        slope, most = slopes(root)[i]
        assert abs(slope) <= most
    return [float(x) for x in root]


@pytest.mark.parametrize(
    ("held", "cash", "cost"),
    [
        (HELD, 0.0, 0.0),
        (HELD, 0.0, 1e-3),  # costs are nothing beside a utility of e^100
        (HELD, -1e-4, 0.0),
        (HELD, -1e-3, 0.0),  # e^1000 for cash alone
        (5e-2, 0.0, 0.0),  # e^2400 without a hedge
        (5e-5, 0.0, 1e-3),  # and here they count
        (5e-5, -1e-5, 2e-3),
    ],
)
def test_optimum_is_that_of_sixty_digits(
    ahead: Execution, held: float, cash: float, cost: float
) -> None:
    problem = problem_of(held, cash, cost)
    found = solve(problem, execution=ahead)
    assert found.status is Status.OPTIMAL
    np.testing.assert_allclose(
        found.weights[:2], exact(problem, found.weights), rtol=1e-7, atol=1e-13
    )
    assert certify(problem, found).is_optimal


def test_what_may_not_move_is_proven_where_its_utility_is_beyond_doubles(ahead: Execution) -> None:
    limits = Limits(lower=np.array([0.0, 0.1, -0.2]), upper=np.array([0.0, 0.1, -0.2]))
    costs = Costs(linear=np.full(3, 1e-3))
    problem = replace(problem_of(), limits=limits, costs=costs)
    found = solve(problem, execution=ahead)
    assert found.status is Status.OPTIMAL
    assert found.objective == -np.inf
    np.testing.assert_array_equal(found.weights, [0.0, 0.1, -0.2])
    assert certify(problem, found).is_optimal


@pytest.mark.parametrize("held", [5e-2, 5e-4])
def test_a_limit_of_a_tail_beside_such_a_utility_is_kept(ahead: Execution, held: float) -> None:
    """One that binds nothing, by cuts: the optimum is that without it."""
    problem = problem_of(held, cash=-1e-3)
    alone = solve(problem, execution=ahead)
    loose = replace(problem, limits=replace(problem.limits, cvar_max=0.5))
    found = solve(loose, execution=ahead)
    assert found.status is Status.OPTIMAL
    np.testing.assert_allclose(found.weights, alone.weights, rtol=1e-7, atol=1e-13)
    assert certify(loose, found).is_optimal


@pytest.mark.parametrize("miss", [1e-9, -1e-7, 1e-3])
def test_books_beside_the_best_are_not_proven(ahead: Execution, miss: float) -> None:
    problem = problem_of(5e-2, cash=-1e-3)
    best = solve(problem, execution=ahead).weights
    proof = certify_weights(problem, best)
    assert proof.objective == -np.inf
    assert proof.gap_relative <= 1e-8
    worse = certify_weights(problem, best + np.array([miss, 0.0, 0.0]))
    assert not worse.is_optimal
    assert worse.gap_relative > 1e-8


def test_the_bound_is_above_the_gain_of_sixty_digits(ahead: Execution) -> None:
    problem = problem_of(5e-2)
    best = solve(problem, execution=ahead).weights
    away = best + np.array([2e-7, -1e-7, 0.0])
    mp.mp.dps = 60

    def utility(weights: Array) -> mp.mpf:
        wealth = [
            1 + sum(mp.mpf(float(w)) * mp.mpf(float(x)) for w, x in zip(weights, row, strict=True))
            for row in RETURNS
        ]
        return sum(w ** mp.mpf(1.0 - RHO) for w in wealth) / (len(wealth) * mp.mpf(1.0 - RHO))

    gain = (utility(best) - utility(away)) / abs(utility(away))
    assert 0 < gain <= certify_weights(problem, away).gap_relative


def test_prices_of_limits_are_those_of_the_utility(ahead: Execution) -> None:
    """d U / d bound against a difference of optima, where the utility is e^40."""
    problem = problem_of(1e-3, cash=-3e-5)
    free = solve(problem, execution=ahead).weights

    def capped(bound: float) -> Solution:
        row = Rows(np.array([[1.0, 0.0, 0.0]]), np.array([-np.inf]), np.array([bound]), ("a",))
        if free[0] < 0.0:
            row = Rows(-row.matrix, row.row_min, np.array([bound]), ("a",))
        return solve(replace(problem, limits=replace(problem.limits, rows=row)), execution=ahead)

    bound, step = 0.5 * abs(free[0]), 1e-5 * abs(free[0])
    slope = (capped(bound + step).objective - capped(bound - step).objective) / (2.0 * step)
    prices = capped(bound).multipliers
    assert prices is not None
    np.testing.assert_allclose(prices.row_max[0], slope, rtol=1e-3)


def test_a_hedge_that_costs_is_sold_until_the_utility_is_worth_its_cost(ahead: Execution) -> None:
    """One scenario decides the utility by hundreds of powers of e wherever it leaves its wall.

    The position may be sold down from 0.45 for 7e-5 of it; below the wall, at 0.14, that costs more
    than it is worth, above it wealth of the other scenario is worth e^9000. The best weight is
    where both slopes are alike, found by bisection.
    """
    returns = np.array([[0.0225, -0.0293], [-0.0225, 0.0545]])
    held, cost = np.array([0.18, 0.87]), 6.85e-5
    problem = Problem(
        Objective(ObjectiveKind.CRRA, risk_aversion=RHO),
        limits=Limits(lower=np.zeros(2), upper=np.array([0.18, 0.45])),
        scenarios=returns,
        costs=Costs(linear=np.array([3e-4, cost])),
        holdings=held,
    )
    found = solve(problem, execution=ahead)
    assert found.status is Status.OPTIMAL
    assert certify(problem, found).is_optimal

    mp.mp.dps = 60
    first, second = ([mp.mpf(float(x)) for x in row] for row in returns)

    def slope(weight: mp.mpf) -> mp.mpf:
        kept = mp.mpf(0.18)
        own = sum(
            (1 + row[0] * kept + row[1] * weight) ** mp.mpf(-RHO) * row[1]
            for row in (first, second)
        )
        return own / 2 + mp.mpf(cost)

    low, high = mp.mpf(0), mp.mpf(0.45)
    assert slope(low) > 0 > slope(high)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    assert found.weights[0] == pytest.approx(0.18, abs=1e-12)
    assert found.weights[1] == pytest.approx(float(low), abs=1e-10)


def test_hedges_of_several_lines_are_as_good_as_they_can_be_where_costs_count(
    ahead: Execution,
) -> None:
    """Three lines whose best costs lie between doing nothing and hedging all, as the k leaps."""
    returns = np.array(
        [
            [-0.008589, 0.014283, -0.010434],
            [-0.008589, -0.008338, 0.011119],
            [0.013769, -0.008338, 0.011119],
            [-0.008589, 0.014283, 0.011119],
        ]
    )
    probability = np.array([0.498248, 0.004762, 0.446718, 0.050272])
    problem = Problem(
        Objective(ObjectiveKind.CRRA, risk_aversion=RHO),
        limits=Limits(lower=np.zeros(3), upper=np.ones(3)),
        scenarios=returns - 1e-4,
        scenario_probability=probability / probability.sum(),
        cash_return=-1e-4,
        costs=Costs(linear=np.array([3.6e-5, 4.5e-4, 2.5e-3])),
    )
    found = solve(problem, execution=ahead)
    assert found.status is Status.OPTIMAL
    assert certify(problem, found).is_optimal
    # At an inner optimum the slope of utility is the cost: 60 digits, as it is multiplied by e^100.
    mp.mp.dps = 60
    weights = [mp.mpf(float(w)) for w in found.weights]
    cash = mp.mpf(-1e-4)
    assert problem.scenarios is not None
    assert problem.costs.linear is not None
    rows = [[mp.mpf(float(x)) - cash for x in row] for row in problem.scenarios]
    worth = [
        mp.mpf(float(p)) * (1 + cash + sum(map(mp.fmul, weights, row))) ** mp.mpf(-RHO)
        for p, row in zip(problem.scenario_probability, rows, strict=True)
    ]
    for i, cost in enumerate(problem.costs.linear):
        own = sum(u * row[i] for u, row in zip(worth, rows, strict=True))
        if found.weights[i] > 1e-9:
            assert float(own) == pytest.approx(float(cost), rel=1e-5)
        else:
            assert own <= cost
    assert max(found.weights) > 1e-3
