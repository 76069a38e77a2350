"""Sensitivities against closed forms and finite differences, with both sides at kinks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compute.optimize.interior_point import solve
from compute.optimize.problem import (
    Array,
    Costs,
    DrawdownRisk,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
)
from compute.optimize.sensitivity import Family, sensitivity

COVARIANCE = np.array([[0.04, 0.006, 0.0], [0.006, 0.09, 0.01], [0.0, 0.01, 0.0225]])
MEAN = np.array([0.05, 0.08, 0.03])
UTILITY = Objective(ObjectiveKind.MEAN_VARIANCE)


def shifted(problem: Problem, direction: Array) -> Family:
    assert problem.mean is not None
    mean = problem.mean
    return lambda step: replace(problem, mean=mean + step * direction)


def test_unconstrained_kelly_moves_by_the_inverse_covariance() -> None:
    problem = Problem(UTILITY, mean=MEAN, covariance=COVARIANCE)
    sides = sensitivity(solve(problem), shifted(problem, np.array([0.0, 1.0, 0.0])))
    expected = np.linalg.inv(COVARIANCE)[:, 1]
    assert sides.right == pytest.approx(expected, rel=1e-7)
    assert sides.left == pytest.approx(expected, rel=1e-7)


def test_edge_of_the_no_trade_band_has_two_derivatives() -> None:
    # w = (mu - c) / s2 below the band, w = holdings inside it; the holding sits on the edge 1.15.
    problem = Problem(
        UTILITY,
        costs=Costs(linear=np.array([0.004])),
        mean=np.array([0.05]),
        covariance=np.array([[0.04]]),
        holdings=np.array([1.15]),
    )
    sides = sensitivity(solve(problem), shifted(problem, np.ones(1)))
    assert sides.right == pytest.approx([25.0], rel=1e-5)
    assert sides.left == pytest.approx([0.0], abs=1e-5)


def scenarios() -> Array:
    rng = np.random.default_rng(5)
    market = rng.standard_normal((60, 1)) * 0.02
    return np.asarray(market + 0.03 * rng.standard_normal((60, 6)) + 0.004)


def growth_problem() -> Problem:
    limits = Limits(
        lower=np.zeros(6),
        upper=np.full(6, 0.35),
        budget_max=1.0,
        drawdown_risk=DrawdownRisk(20.0),
    )
    return Problem(Objective(ObjectiveKind.LOG_GROWTH), limits, scenarios=scenarios())


@pytest.mark.parametrize("what", ["scenarios", "budget", "upper"])
def test_risk_constrained_kelly_matches_finite_differences(what: str) -> None:
    problem = growth_problem()
    direction = np.array([1.0, -0.5, 0.2, 0.0, 0.3, -1.0])

    def family(step: float) -> Problem:
        limits = problem.limits
        if what == "budget":
            return replace(problem, limits=replace(limits, budget_max=1.0 + step))
        if what == "upper":
            return replace(problem, limits=replace(limits, upper=np.full(6, 0.35 + step)))
        return replace(problem, scenarios=scenarios() + 0.1 * step * direction)

    sides = sensitivity(solve(problem), family)
    step = 1e-5
    numeric = (solve(family(step)).weights - solve(family(-step)).weights) / (2.0 * step)
    assert sides.right == pytest.approx(numeric, rel=1e-4, abs=1e-4)
    assert sides.left == pytest.approx(numeric, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("impact", [None, np.full(6, 0.002)])
def test_a_sharpe_ratio_with_costs_matches_finite_differences(impact: Array | None) -> None:
    returns = scenarios()
    problem = Problem(
        Objective(ObjectiveKind.MAX_SHARPE),
        Limits(np.zeros(6), np.full(6, 0.35), budget_min=1.0, budget_max=1.0),
        Costs(np.full(6, 2e-4), impact),
        mean=returns.mean(0),
        covariance=np.cov(returns, rowvar=False),
        holdings=np.array([0.1, 0.05, 0.15, 0.12, 0.08, 0.2]),
    )
    family = shifted(problem, np.array([1.0, -0.5, 0.2, 0.0, 0.3, -1.0]))
    sides, step = sensitivity(solve(problem), family), 1e-7
    moved = (solve(family(step)).weights - solve(family(-step)).weights) / (2.0 * step)
    assert sides.right == pytest.approx(moved, rel=1e-4, abs=1e-3)
    assert sides.left == pytest.approx(moved, rel=1e-4, abs=1e-3)


def test_only_an_optimal_solution_has_sensitivities() -> None:
    limits = Limits(lower=np.ones(3), budget_max=1.0)
    problem = Problem(UTILITY, limits, mean=MEAN, covariance=COVARIANCE)
    with pytest.raises(ValueError, match="optimal"):
        sensitivity(solve(problem), lambda step: problem)
