"""Problems that once had a wrong answer, or a right one without a proof."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compute.optimize import solve
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
from compute.optimize.proof.certificate import certify
from compute.optimize.proof.evaluation import objective_value

Kind = ObjectiveKind
N = 5


def returns(seed: int = 3, periods: int = 80) -> Array:
    rng = np.random.default_rng(seed)
    drift = rng.uniform(0.0, 0.003, N)
    return np.asarray(0.01 * rng.standard_normal((periods, N)) + drift)


LONG_ONLY = Limits(lower=np.zeros(N), upper=np.full(N, 0.4), budget_max=1.0)
HELD = np.array([0.3, 0.0, 0.1, 0.2, 0.0])


def proven(problem: Problem) -> Solution:
    solution = solve(problem)
    assert solution.status is Status.OPTIMAL
    assert certify(problem, solution).is_optimal
    assert solution.objective == pytest.approx(
        objective_value(problem, solution.weights), abs=1e-15
    )
    return solution


def test_the_sharpe_ratio_counts_impact_costs_in_its_numerator() -> None:
    impact = Costs(impact=np.full(N, 3e-3))
    problem = Problem(
        Objective(Kind.MAX_SHARPE), LONG_ONLY, impact, scenarios=returns(), holdings=HELD
    )
    proven(problem)
    proven(replace(problem, costs=replace(impact, linear=np.full(N, 2e-4))))


@pytest.mark.parametrize("kind", [Kind.LOG_GROWTH, Kind.MIN_VARIANCE, Kind.MAX_SHARPE])
def test_limits_that_leave_one_portfolio_give_that_portfolio(kind: ObjectiveKind) -> None:
    limits = replace(LONG_ONLY, upper=np.full(N, 0.2), budget_min=1.0)
    impact = Costs(impact=np.full(N, 1e-3))
    held = np.array([0.2, 0.0, 0.1, 0.2, 0.5])
    solution = proven(Problem(Objective(kind), limits, impact, scenarios=returns(), holdings=held))
    np.testing.assert_array_equal(solution.weights, np.full(N, 0.2))


def test_a_row_of_fixed_names_has_a_finite_price() -> None:
    upper = np.array([0.4, 0.4, 0.4, 0.1, 0.1])
    lower = np.array([0.0, 0.0, 0.0, 0.1, 0.1])
    rows = Rows(
        np.array([[0.0, 0, 0, 1, 1], [0.0, 0, 0, 1, 2]]),
        np.array([0.2, -np.inf]),
        np.array([0.2, 0.3]),
        ("held", "slack"),
    )
    limits = replace(LONG_ONLY, lower=lower, upper=upper, rows=rows)
    solution = proven(Problem(Objective(Kind.MAX_RETURN), limits, scenarios=returns()))
    assert solution.multipliers is not None
    assert np.abs(solution.multipliers.row_max).max() < 1.0


def test_a_broken_soft_limit_is_certified_at_its_price() -> None:
    rows = Rows(np.ones((1, N)), np.array([-np.inf]), np.array([0.5]), ("half",), np.array([1e-4]))
    problem = Problem(
        Objective(Kind.LOG_GROWTH), replace(LONG_ONLY, rows=rows), scenarios=returns()
    )
    assert proven(problem).weights.sum() > 0.6
    crossed = replace(rows, row_min=np.array([0.6]))
    with pytest.raises(ValueError, match="soft row"):
        solve(replace(problem, limits=replace(LONG_ONLY, rows=crossed)))


def test_no_risk_at_all_is_the_least_risk() -> None:
    for unit in (1e-6, 1.0, 1e4):
        limits = replace(LONG_ONLY, upper=np.full(N, 0.4 * unit), budget_max=unit)
        problem = Problem(Objective(Kind.MIN_VARIANCE), limits, scenarios=returns() / unit)
        assert np.abs(proven(problem).weights).max() < 1e-4 * unit


@pytest.mark.parametrize("reach", [1.0, 1e3])
@pytest.mark.parametrize("seed", range(3))
def test_a_book_whose_parts_cancel_has_the_least_risk(seed: int, reach: float) -> None:
    """Two factors drive five names: what is fully invested can be without risk, and no less."""
    loadings = 0.01 * np.random.default_rng(seed).standard_normal((N, 2))
    box = np.full(N, reach)
    limits = Limits(lower=-box, upper=box, budget_min=1.0, budget_max=1.0)
    problem = Problem(Objective(Kind.MIN_VARIANCE), limits, covariance=loadings @ loadings.T)
    solution = proven(problem)
    assert np.linalg.norm(loadings.T @ solution.weights) < 1e-9
    # What has a little risk, where none is needed, is not called the best.
    other = np.eye(1, N)[0]
    worse = replace(solution, weights=solution.weights + 1e-6 * (other - solution.weights))
    assert not certify(problem, worse).is_optimal


def test_a_sharpe_ratio_is_certified_where_the_empty_book_is_allowed() -> None:
    problem = Problem(Objective(Kind.MAX_SHARPE), LONG_ONLY, scenarios=returns(), cash_return=1e-4)
    proven(problem)
    proven(replace(problem, limits=replace(LONG_ONLY, volatility_max=0.002)))


def test_large_units_are_no_harder_than_small_ones() -> None:
    weights = []
    for unit in (1e-6, 1.0, 1e4, 1e8):
        limits = Limits(
            lower=np.full(N, -0.2 * unit),
            upper=np.full(N, 0.4 * unit),
            budget_max=unit,
            volatility_max=0.004,
        )
        problem = Problem(Objective(Kind.MAX_RETURN), limits, scenarios=returns() / unit)
        weights.append(proven(problem).weights / unit)
        conflict = replace(limits, budget_min=2.5 * unit, budget_max=3.0 * unit)
        assert solve(replace(problem, limits=conflict)).status is Status.INFEASIBLE
    np.testing.assert_allclose(weights[1:], weights[:-1], atol=1e-8)


@pytest.mark.parametrize("kind", [Kind.LOG_GROWTH, Kind.MEAN_VARIANCE])
@pytest.mark.parametrize("held", ["nothing", "the best", "nearly the best", "bounds"])
@pytest.mark.parametrize("turnover", [None, 0.3])
def test_impact_costs_alone(kind: Kind, held: str, turnover: float | None) -> None:
    """Names whose best trade is none or tiny, where the price of impact is infinitely steep."""
    rng = np.random.default_rng(5)
    size, upper = 16, np.full(16, 0.3)
    limits = Limits(lower=np.zeros(size), upper=upper, budget_max=1.0)
    free = Problem(
        Objective(kind, risk_aversion=3.0),
        limits=limits,
        scenarios=rng.normal(4e-4, 0.01, (60, size)),
    )
    best = solve(free).weights
    noise = rng.normal(0.0, 1e-6, size) * rng.integers(0, 2, size)
    holdings = {
        "nothing": np.zeros(size),
        "the best": best,
        "nearly the best": best + noise,
        "bounds": upper * (np.arange(size) < 3),
    }[held]
    for impact in (1e-3, 1.0):
        costs = Costs(impact=rng.uniform(0.0, impact, size))
        moved = replace(limits, turnover_max=turnover)
        problem = replace(free, limits=moved, costs=costs, holdings=holdings)
        solution = solve(problem)
        assert solution.status is Status.OPTIMAL
        assert solution.iterations <= 60
        assert certify(problem, solution, thorough=False).is_optimal


def test_a_name_that_a_row_holds_at_its_upper_bound_leans_on_the_row() -> None:
    # Two names have to be at their upper bounds for the row, though both lose; the third gains.
    means = np.array([-0.002, -0.001, 0.003])
    rows = Rows(np.array([[1.0, 1.0, 0.0]]), np.array([0.5]), np.array([np.inf]), ("pair",))
    limits = Limits(lower=np.zeros(3), upper=np.array([0.3, 0.2, 0.4]), rows=rows)
    problem = Problem(
        Objective(Kind.MEAN_VARIANCE, risk_aversion=1.0),
        limits,
        mean=means,
        covariance=1e-8 * np.eye(3),
    )
    prices = proven(problem).multipliers
    assert prices is not None
    # What the costlier name loses: with less asked for, it would go first.
    assert prices.row_min == pytest.approx([0.002], rel=1e-5)
    assert prices.upper == pytest.approx([0.0, 0.001, 0.003], abs=1e-8)
    assert prices.lower == pytest.approx(np.zeros(3), abs=1e-8)


def test_rows_that_force_one_through_the_other_all_have_prices() -> None:
    # The first row holds names 0 and 1 high, the second then leaves name 2 nothing.
    rows = Rows(
        np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]),
        np.array([0.5, -np.inf]),
        np.array([np.inf, 0.2]),
        ("pair", "next"),
    )
    problem = Problem(
        Objective(Kind.MEAN_VARIANCE, risk_aversion=1.0),
        Limits(lower=np.zeros(3), upper=np.array([0.3, 0.2, 0.4]), rows=rows),
        mean=np.array([-0.002, -0.001, 0.003]),
        covariance=1e-8 * np.eye(3),
    )
    solution = proven(problem)
    assert solution.weights == pytest.approx([0.3, 0.2, 0.0])
    assert solution.multipliers is not None
    # Of the second row what name 2 misses, of the first also what that costs name 1.
    assert solution.multipliers.row_max == pytest.approx([0.0, 0.003], rel=1e-5)
    assert solution.multipliers.row_min == pytest.approx([0.004, 0.0], rel=1e-5)


def test_a_trade_not_worth_its_cost_is_none_at_all() -> None:
    # Costs outweigh the variance by nine digits; a trade of 1e-19 would cost more than it saves.
    held = 1e-7 * np.array([0.5, -0.4, 0.6, 0.2, 0.1])
    problem = Problem(
        Objective(Kind.MIN_VARIANCE),
        Limits(lower=held - 1e-8, upper=held + 1e-8, budget_min=0.9e-7, budget_max=1.1e-7),
        Costs(linear=np.full(N, 500.0)),
        scenarios=returns(),
        holdings=held,
    )
    assert np.array_equal(proven(problem).weights, held)


@pytest.mark.parametrize("size", [1e-5, 1e-3, 0.04])
def test_a_small_book_in_wide_limits_is_as_exact_as_a_large_one(size: float) -> None:
    # Bounds are those of a whole book, rows allow a sliver of it.
    rng = np.random.default_rng(2)
    n = 26
    scenarios = 0.02 * rng.standard_normal((40, n))
    rows = Rows(np.eye(3, n), np.full(3, size), np.full(3, 2.0 * size), ("a", "b", "c"))
    limits = Limits(lower=np.full(n, -0.1), upper=np.full(n, 0.1), gross_max=0.6, rows=rows)
    problem = Problem(Objective(Kind.MIN_VARIANCE), limits, scenarios=scenarios)
    solution = proven(problem)
    # Three names rest on their rows, nothing else binds: what is left is a system of equations.
    covariance = np.cov(scenarios.T)
    exact = np.full(n, size)
    exact[3:] = -np.linalg.solve(covariance[3:, 3:], covariance[3:, :3] @ exact[:3])
    assert np.abs(exact).max() < 0.1
    assert np.abs(exact).sum() < 0.6
    assert np.all(covariance[:3] @ exact > 0.0)
    assert solution.objective == pytest.approx(exact @ covariance @ exact, rel=1e-9, abs=0.0)
    assert solution.weights == pytest.approx(exact, abs=1e-6 * size)


@pytest.mark.parametrize("impact", [1e-3, 0.3])
def test_a_ratio_less_impact_is_proven_where_cash_is_allowed(impact: float) -> None:
    # An empty book has no risk, but from holdings it does not earn what selling them costs.
    rng = np.random.default_rng(6)
    size = 17
    limits = Limits(lower=np.zeros(size), upper=np.full(size, 0.3), budget_max=1.0)
    free = Problem(Objective(Kind.MAX_SHARPE), limits, scenarios=rng.normal(4e-4, 0.01, (60, size)))
    best = solve(free).weights
    problem = replace(
        free,
        costs=Costs(impact=np.full(size, impact)),
        holdings=np.roll(best, 1) if impact < 0.1 else best,
    )
    proof = certify(problem, solve(problem), thorough=False)
    assert proof.is_optimal
    assert proof.gap >= -1e-9
