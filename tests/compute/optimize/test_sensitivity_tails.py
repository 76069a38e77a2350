"""Sensitivities beside tail measures and risk budgets, against problems solved again."""

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
from compute.optimize.proof.evaluation import tail_measure
from compute.optimize.proof.problem_numbers import ProblemData
from compute.optimize.sensitivity import Family, Sides, sensitivity
from compute.optimize.sensitivity.perturbations import to_covariance, to_limit, to_mean

Kind = ObjectiveKind
NAMES, PERIODS = 6, 60
MEASURES = (Kind.MIN_CVAR, Kind.MIN_CDAR, Kind.MIN_MAX_DRAWDOWN)
CAPS = dict(zip(MEASURES, ("cvar_max", "cdar_max", "drawdown_max"), strict=True))


def book(rng: np.random.Generator, kind: Kind, measure: Kind, *, cut: bool) -> Problem:
    """A book whose tail takes part: as objective, beside another one, or below a cap."""
    market = 0.01 * rng.standard_normal((PERIODS, 1))
    returns = market + 0.02 * rng.standard_t(5, (PERIODS, NAMES)) + 0.004 * rng.random(NAMES)
    limits = Limits(np.zeros(NAMES), np.full(NAMES, 0.5), budget_min=1.0, budget_max=1.0)
    tail = Objective(measure, tail=0.8)
    if kind is Kind.COMBINATION:
        parts = (1.0, Objective(Kind.MEAN_VARIANCE, risk_aversion=4.0)), (0.2, tail)
        objective = Objective(kind, terms=parts)
    else:
        objective = tail if kind is measure else Objective(kind)
    costs, held = Costs(), None
    if cut:
        costs, held = Costs(np.full(NAMES, 2e-4)), rng.dirichlet(np.ones(NAMES))
        groups = Rows(np.eye(2, NAMES), np.array([0.1, -np.inf]), np.full(2, 0.3), ("A", "B"))
        limits = replace(limits, rows=groups, turnover_max=0.7)
    problem = Problem(objective, limits, costs, scenarios=returns, holdings=held)
    problem = replace(problem, covariance=np.cov(returns, rowvar=False))
    return problem if kind in (measure, Kind.COMBINATION) else capped(problem, measure, 0.5)


def capped(problem: Problem, measure: Kind, share: float) -> Problem:
    """With a cap at this share of the way from the least measure to that of the best book."""
    data, minimum_variance_start = (
        ProblemData(problem),
        replace(problem, objective=Objective(measure, tail=0.8)),
    )
    low, high = (
        tail_measure(data, measure, 0.8, solve(each).weights)[0]
        for each in (minimum_variance_start, problem)
    )
    cap = low + share * max(high - low, 0.02 * low)
    name = CAPS[measure]
    level = {} if measure is Kind.MIN_MAX_DRAWDOWN else {name.replace("max", "tail"): 0.8}
    return replace(problem, limits=replace(problem.limits, **{name: cap}, **level))


def means(problem: Problem, asset: int) -> Family:
    assert problem.scenarios is not None
    returns = problem.scenarios
    return lambda step: replace(problem, scenarios=returns + step * np.eye(NAMES)[asset])


def variances(problem: Problem, asset: int) -> Family:
    given = np.asarray(problem.covariance)
    moved = np.outer(np.eye(NAMES)[asset], np.eye(NAMES)[asset])
    return lambda step: replace(problem, covariance=given + step * given[asset, asset] * moved)


def raised(problem: Problem, names: tuple[str, ...]) -> Family:
    given = problem.limits

    def family(step: float) -> Problem:
        moved = {name: getattr(given, name) + step for name in names}
        return replace(problem, limits=replace(given, **moved))

    return family


def families(problem: Problem, solution: Solution) -> list[Family]:
    caps = tuple(name for name in CAPS.values() if getattr(problem.limits, name) is not None)
    found = [raised(problem, ("budget_min", "budget_max")), raised(problem, ("upper",))]
    found += [raised(problem, caps)] if caps else []
    found += [means(problem, int(np.argmax(solution.weights)))]
    return [*found, variances(problem, int(np.argmin(solution.weights)))]


def differences(solution: Solution, family: Family, side: float, step: float) -> Array:
    found = solve(family(side * step))
    assert found.status is Status.OPTIMAL
    return side * (found.weights - solution.weights) / step


def agrees(solution: Solution, family: Family, side: float, found: Array) -> bool:
    """Whether differences over some step show the derivative.

    Long steps cross the next kink, in short ones the solver's rounding shows.
    """
    steps = (differences(solution, family, side, step) for step in (1e-6, 1e-5, 1e-7))
    return any(
        np.abs(found - each).max() <= 2e-3 * max(float(np.abs(each).max()), 0.1) for each in steps
    )


PLAIN = [
    *((measure, measure) for measure in MEASURES),
    *((kind, m) for kind in (Kind.MAX_RETURN, Kind.COMBINATION, Kind.LOG_GROWTH) for m in MEASURES),
    (Kind.MAX_SHARPE, Kind.MIN_CVAR),
    (Kind.RISK_BUDGET, Kind.MIN_CVAR),
]
WITH_COSTS = [
    (Kind.MIN_CVAR, Kind.MIN_CVAR),
    (Kind.COMBINATION, Kind.MIN_CDAR),
    (Kind.MAX_SHARPE, Kind.MIN_MAX_DRAWDOWN),
]
CASES = [*((*case, False) for case in PLAIN), *((*case, True) for case in WITH_COSTS)]


@pytest.mark.parametrize(("kind", "measure", "cut"), CASES)
def test_sensitivities_are_the_differences_of_problems_solved_again(
    kind: Kind, measure: Kind, cut: bool
) -> None:
    known = moving = 0
    for seed in range(2):
        problem = book(np.random.default_rng(seed), kind, measure, cut=cut)
        solution = solve(problem)
        assert solution.status is Status.OPTIMAL
        for family in families(problem, solution):
            sides = sensitivity(solution, family)
            for side, found in ((1.0, sides.right), (-1.0, sides.left)):
                if np.isnan(found).any():
                    continue
                assert agrees(solution, family, side, found), (seed, side, found)
                known, moving = known + 1, moving + bool(np.abs(found).max() > 0.1)
    # Of 16 or 20 answers all but a few are known, and many are not zero.
    assert known >= 14
    assert moving >= 4


def single(cap: float = 0.03) -> Problem:
    """One name, cash beside it: the most of it that keeps the cap."""
    returns = np.array([0.05, 0.03, -0.04, 0.02, -0.06])[:, None]
    limits = Limits(np.zeros(1), np.ones(1), cvar_max=cap, cvar_tail=0.6)
    return Problem(Objective(Kind.MAX_RETURN), limits, mean=np.array([0.01]), scenarios=returns)


def test_a_capped_name_in_closed_form() -> None:
    # The two worst of five: CVaR = 0.05 w - e w, so w = cap / (0.05 - e).
    problem = single()
    solution = solve(problem)
    assert solution.weights == pytest.approx([0.6], rel=1e-9)
    by_cap, by_mean = to_limit(problem, solution, "cvar_max"), to_mean(problem, solution, 0)
    for sides, expected in ((by_cap, 1.0 / 0.05), (by_mean, 0.03 / 0.05**2)):
        assert sides.left == pytest.approx([expected], rel=1e-7)
        assert sides.right == pytest.approx([expected], rel=1e-7)


def test_where_two_limits_meet_the_tighter_one_moves_the_book() -> None:
    # Cap and bound both hold at w = 0.6: loosening one of them alone gains nothing.
    problem = single()
    limits = replace(problem.limits, upper=np.array([0.6]))
    problem = replace(problem, limits=limits)
    solution = solve(problem)
    by_cap, by_bound = (
        to_limit(problem, solution, name, asset)
        for name, asset in (("cvar_max", None), ("upper", 0))
    )
    assert by_cap.right == pytest.approx([0.0], abs=1e-9)
    assert by_cap.left == pytest.approx([20.0], rel=1e-7)
    assert by_bound.right == pytest.approx([0.0], abs=1e-9)
    assert by_bound.left == pytest.approx([1.0], rel=1e-7)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_cap_about_to_bind_moves_the_book_as_it_falls_alone(measure: Kind) -> None:
    problem = book(np.random.default_rng(7), Kind.LOG_GROWTH, measure, cut=False)
    problem = replace(problem, limits=replace(problem.limits, **{CAPS[measure]: None}))
    free = solve(problem)
    value = tail_measure(ProblemData(problem), measure, 0.8, free.weights)[0]
    problem = replace(problem, limits=replace(problem.limits, **{CAPS[measure]: value}))
    solution = replace(solve(problem), weights=free.weights)
    sides = to_limit(problem, solution, CAPS[measure])
    expected = differences(solution, raised(problem, (CAPS[measure],)), -1.0, 1e-5)
    assert np.abs(expected).max() > 0.1
    assert sides.right == pytest.approx(np.zeros(NAMES), abs=1e-6)
    assert sides.left == pytest.approx(expected, abs=2e-3 * np.abs(expected).max())


def unknown(sides: Sides) -> bool:
    return bool(np.isnan(sides.left).all() and np.isnan(sides.right).all())


def test_two_names_that_are_one_have_no_single_answer() -> None:
    problem = book(np.random.default_rng(1), Kind.MIN_CVAR, Kind.MIN_CVAR, cut=False)
    assert problem.scenarios is not None
    twice = problem.scenarios[:, [0, 0, 1, 1, 2, 2]]
    problem = replace(problem, scenarios=twice, covariance=None)
    assert unknown(to_limit(problem, solve(problem), "upper", 0))


@pytest.mark.parametrize("measure", MEASURES[1:])
def test_an_empty_book_whose_every_loss_is_the_same_is_not_guessed_at(measure: Kind) -> None:
    problem = book(np.random.default_rng(1), Kind.COMBINATION, measure, cut=False)
    limits = replace(problem.limits, budget_min=None)
    parts = (1.0, Objective(Kind.MEAN_VARIANCE)), (50.0, Objective(measure, tail=0.8))
    objective = Objective(Kind.COMBINATION, terms=parts)
    problem = replace(problem, limits=limits, objective=objective)
    solution = solve(problem)
    np.testing.assert_array_equal(solution.weights, np.zeros(NAMES))
    assert unknown(to_mean(problem, solution, 0))


def test_equal_risk_of_two_names_in_closed_form() -> None:
    # Weights in proportion to 1 / volatility, whatever the correlation.
    volatility = np.array([0.2, 0.3])
    covariance = np.outer(volatility, volatility) * np.array([[1.0, 0.4], [0.4, 1.0]])
    limits = Limits(np.zeros(2), np.ones(2), budget_min=1.0, budget_max=1.0)
    problem = Problem(Objective(Kind.RISK_BUDGET), limits, covariance=covariance)
    solution = solve(problem)
    assert solution.weights == pytest.approx([0.6, 0.4], rel=1e-9)
    # w1 = v2 / (v1 + v2); the covariance stays, so it is the variance alone that moves, and with
    # it the correlation, which does not matter: dw1/d(v1^2) = -v2 / (v1 + v2)^2 / (2 v1).
    expected = -0.3 / 0.5**2 / (2.0 * 0.2)
    sides = to_covariance(problem, solution, 0, 0)
    assert sides.right == pytest.approx([expected, -expected], rel=1e-6)
    assert sides.left == pytest.approx(sides.right, rel=1e-6)
    both = to_covariance(problem, solution, 0, 1)
    assert both.right == pytest.approx([0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("upper", [1.0, 0.22], ids=["met", "cut off"])
def test_risk_budgets_are_the_differences_of_problems_solved_again(upper: float) -> None:
    rng = np.random.default_rng(3)
    loadings = rng.standard_normal((NAMES, NAMES))
    limits = Limits(np.zeros(NAMES), np.full(NAMES, upper), budget_min=1.0, budget_max=1.0)
    objective = Objective(Kind.RISK_BUDGET, budgets=rng.uniform(0.5, 2.0, NAMES))
    covariance = 0.01 * (loadings @ loadings.T + np.eye(NAMES))
    problem = Problem(objective, limits, covariance=covariance)
    solution = solve(problem)
    assert bool(np.isclose(solution.weights.max(), upper)) is (upper < 1.0)
    for family in (variances(problem, 1), raised(problem, ("budget_min", "budget_max"))):
        sides = sensitivity(solution, family)
        for side, found in ((1.0, sides.right), (-1.0, sides.left)):
            expected = differences(solution, family, side, 1e-5)
            assert np.abs(expected).max() > 0.01
            assert found == pytest.approx(expected, abs=1e-3 * np.abs(expected).max())
