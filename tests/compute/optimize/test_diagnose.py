"""Problems the iteration fails on: answered by another way, or refused for the right reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from compute.optimize import solve, solve_batch
from compute.optimize.infeasibility.conflict import explain
from compute.optimize.interior_point.fallbacks import ruined
from compute.optimize.problem import (
    Array,
    Costs,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Solution,
    Status,
)
from compute.optimize.proof.certificate import certify
from compute.optimize.proof.evaluation import largest_violation, objective_value
from compute.optimize.tail_lp import solve_tail

Kind = ObjectiveKind
N = 4
LONG = Limits(lower=np.zeros(N), upper=np.ones(N), budget_min=1.0, budget_max=1.0)


def returns(drift: float = 5e-4, periods: int = 60) -> Array:
    rng = np.random.default_rng(5)
    return np.asarray(0.01 * rng.standard_t(5, (periods, N)) + drift * np.arange(1, N + 1))


def problem(kind: ObjectiveKind, limits: Limits, scenarios: Array | None = None) -> Problem:
    objective = Objective(kind, risk_aversion=5.0)
    return Problem(objective, limits, scenarios=returns() if scenarios is None else scenarios)


def proven(asked: Problem) -> Solution:
    found = solve(asked)
    assert found.status is Status.OPTIMAL
    assert certify(asked, found).is_optimal
    return found


def falling() -> Array:
    """Every mean is -1e-3, so a ratio above zero takes a short book."""
    scenarios = returns()
    return np.asarray(scenarios - scenarios.mean(0) - 1e-3)


def test_the_best_short_book_is_the_best_long_one_turned_round() -> None:
    both = Limits(lower=-np.ones(N), upper=np.ones(N), budget_min=-1.0, budget_max=1.0)
    short = proven(problem(Kind.MAX_SHARPE, both, falling()))
    covariance = np.cov(falling(), rowvar=False)
    best = np.sqrt(np.full(N, 1e-3) @ np.linalg.solve(covariance, np.full(N, 1e-3)))
    assert short.objective == pytest.approx(best, rel=1e-9)
    assert short.weights.sum() < 0.0


def test_a_budget_between_two_ends_does_not_throw_the_iterate_about() -> None:
    both = Limits(lower=-np.ones(N), upper=np.ones(N), budget_min=-1.0, budget_max=1.0)
    curved = replace(problem(Kind.MEAN_VARIANCE, both), covariance=30.0 * np.cov(falling().T))
    found = proven(replace(curved, mean=np.full(N, -1e-3)))
    assert found.iterations <= 20
    assert found.method == "interior point"


def test_a_ratio_without_risk_has_no_end_and_one_without_returns_no_mean() -> None:
    sure = returns()
    sure[:, 0] = 3e-4
    assert solve(problem(Kind.MAX_SHARPE, LONG, sure)).status is Status.UNBOUNDED
    nothing = solve(problem(Kind.MAX_SHARPE, LONG, np.zeros((60, N))))
    assert nothing.status is Status.NONPOSITIVE_MEAN


def test_growth_of_books_that_cannot_survive_is_ruin() -> None:
    lost = returns()
    lost[3] = -1.0
    assert solve(problem(Kind.LOG_GROWTH, LONG, lost)).status is Status.RUIN
    some_cash = replace(LONG, budget_min=0.9)
    assert not ruined(problem(Kind.LOG_GROWTH, some_cash, lost))
    geared = replace(LONG, upper=np.full(N, 3.0), budget_min=3.0, budget_max=3.0)
    crash = np.vstack([returns(), np.full((1, N), -0.4)])
    assert solve(problem(Kind.LOG_GROWTH, geared, crash)).status is Status.RUIN


@pytest.mark.parametrize("kind", [Kind.MEAN_VARIANCE, Kind.MAX_SHARPE, Kind.MIN_CVAR])
@pytest.mark.parametrize("apart", [1e-6, 1e-8])
def test_limits_that_miss_each_other_by_little_are_named(kind: ObjectiveKind, apart: float) -> None:
    asked = problem(kind, replace(LONG, upper=np.full(N, (1.0 - apart) / N)))
    assert solve(asked).status is Status.INFEASIBLE
    found = explain(asked)
    assert set(found.conflict) == {"upper", "budget_min"}
    assert found.violation_min == pytest.approx(apart, rel=1e-3)


@pytest.mark.parametrize("kind", [Kind.MEAN_VARIANCE, Kind.LOG_GROWTH, Kind.MIN_CVAR])
@pytest.mark.parametrize("apart", [1e-10, 1e-12])
def test_limits_that_miss_each_other_by_rounding_are_met(kind: ObjectiveKind, apart: float) -> None:
    asked = problem(kind, replace(LONG, upper=np.full(N, (1.0 - apart) / N)))
    found = proven(asked)
    np.testing.assert_allclose(found.weights, 0.25, atol=1e-9)
    assert largest_violation(asked, found.weights) <= 1e-9


def test_what_has_no_covariance_says_so() -> None:
    with pytest.raises(ValueError, match="covariance"):
        solve(problem(Kind.MEAN_VARIANCE, LONG, returns()[:1]))
    sure = returns()
    sure[:, 0] = 3e-4  # a variance of 1e-39, by rounding
    with pytest.raises(ValueError, match="positive variance"):
        solve(problem(Kind.RISK_BUDGET, LONG, sure))
    hedge = np.outer([1.0, -1.0], [0.01, -0.01, 0.02, 0.01])
    with pytest.raises(ValueError, match="cancel all risk"):
        solve(problem(Kind.RISK_BUDGET, LONG, hedge))


def test_weights_without_bounds_do_not_run_away_from_few_scenarios() -> None:
    """The least worst loss of books with any shorts, against HiGHS."""
    scenarios = returns()
    free = Limits(budget_min=1.0, budget_max=1.0)
    worst = replace(
        problem(Kind.MIN_CVAR, free), objective=Objective(Kind.MIN_CVAR, tail=1.0 - 0.5 / 60)
    )
    rows = np.c_[-scenarios, -np.ones(60)]
    expected = linprog(
        np.r_[np.zeros(N), 1.0],
        A_ub=rows,
        b_ub=np.zeros(60),
        A_eq=np.r_[np.ones(N), 0.0][None, :],
        b_eq=[1.0],
        bounds=(None, None),
    )
    assert proven(worst).objective == pytest.approx(expected.fun, rel=1e-9)
    assert proven(problem(Kind.MIN_CDAR, free)).objective > 0.0
    assert proven(problem(Kind.MIN_CVAR, Limits())).objective == pytest.approx(0.0, abs=1e-12)
    sure = np.abs(scenarios) + 1e-3
    assert solve_tail(problem(Kind.MIN_CVAR, Limits(), sure)).status is Status.UNBOUNDED


def test_tail_limits_without_an_inside_end_at_a_vertex() -> None:
    """Only one book keeps all limits, to the last digit of single precision."""
    only = np.float64(np.float32([0.1, 0.2, 0.3, 0.4]))
    limits = Limits(
        lower=np.zeros(N),
        upper=only + np.array([0.0, 1e-9, 0.0, 2e-9]),
        budget_min=float(only.sum()),
        budget_max=float(only.sum()),
        gross_max=float(only.sum()) + 1e-10,
    )
    found = proven(problem(Kind.MIN_CVAR, limits))
    np.testing.assert_allclose(found.weights, only, atol=1e-8)


def test_a_ratio_less_impact_has_no_best_book_where_any_smaller_one_may_be_had() -> None:
    rng = np.random.default_rng(8)
    size = 6
    scenarios = rng.normal(1e-3, 0.01, (60, size))
    limits = Limits(lower=np.zeros(size), upper=np.full(size, 0.4), budget_max=1.0)
    problem = Problem(
        Objective(Kind.MAX_SHARPE), limits, Costs(impact=np.full(size, 1e-3)), scenarios=scenarios
    )
    # Half of any book has the better ratio, by the exact objective.
    whole = np.full(size, 0.1)
    ratios = [objective_value(problem, share * whole) for share in (1.0, 0.5, 0.25)]
    assert ratios == sorted(ratios)
    assert solve(problem).status is Status.VANISHING
    assert [each.status for each in solve_batch([problem] * 2)] == [Status.VANISHING] * 2
    # A least book, holdings, or names without impact that are the best: there is an answer.
    asked = replace(problem, limits=replace(limits, budget_min=1.0))
    held = replace(problem, holdings=np.full(size, 0.1))
    for each in (asked, held):
        solution = solve(each)
        assert solution.status is Status.OPTIMAL
        assert certify(each, solution).is_optimal
    free = replace(problem, costs=Costs())
    taken = solve(free).weights > 1e-6
    assert 0 < taken.sum() < size
    partly = replace(problem, costs=Costs(impact=np.where(taken, 0.0, 1e-3)))
    solution = solve(partly)
    assert solution.objective == pytest.approx(solve(free).objective, rel=1e-10)
    assert certify(partly, solution).is_optimal
