"""Optima at the only point that a curved limit leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compute.optimize import solve
from compute.optimize.execution import Execution
from compute.optimize.problem import (
    DrawdownRisk,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
    Status,
)
from compute.optimize.proof.certificate import certify

Kind = ObjectiveKind
RNG = np.random.default_rng(12)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("kind", [Kind.LOG_GROWTH, Kind.MEAN_VARIANCE, Kind.MAX_RETURN])
def test_risk_constrained_kelly_of_losing_games_is_all_cash(
    ahead: Execution, kind: Kind, count: int
) -> None:
    returns = 0.02 * RNG.standard_normal((60, count))
    returns -= returns.mean(axis=0) + np.linspace(1e-4, 2e-3, count)
    risk = DrawdownRisk.from_probability(0.8, 0.1)
    limits = Limits(lower=np.zeros(count), upper=np.ones(count), budget_max=1.0, drawdown_risk=risk)
    problem = Problem(Objective(kind), limits=limits, scenarios=returns)
    found = solve(problem, execution=ahead)
    assert found.status is Status.OPTIMAL
    np.testing.assert_allclose(found.weights, np.zeros(count), atol=1e-9)
    assert certify(problem, found).is_optimal


def test_a_cap_at_the_least_risk_leaves_the_book_of_least_risk(ahead: Execution) -> None:
    returns = 0.02 * RNG.standard_normal((60, 4)) + 0.001
    limits = Limits(lower=np.zeros(4), upper=np.ones(4), budget_min=1.0, budget_max=1.0)
    calm = Problem(Objective(Kind.MIN_VARIANCE), limits=limits, scenarios=returns)
    least = solve(calm, execution=ahead)
    cap = float(np.sqrt(least.objective))
    capped = replace(limits, volatility_max=cap)
    most = replace(calm, objective=Objective(Kind.MAX_RETURN), limits=capped)
    found = solve(most, execution=ahead)
    assert found.status is Status.OPTIMAL
    np.testing.assert_allclose(found.weights, least.weights, atol=1e-4)


def test_no_variance_at_all_is_proven_however_far_away_the_solver_ends() -> None:
    """Nothing held has a variance of 0, the least there is; two names beside it have none either.

    An interior point ends 13 % of equity away, with 4e-13 by the names that do.
    """
    returns = np.array(
        [
            [0.02, 2.0, 0.02, 0.02, -0.5],
            [-0.02, -0.5, 0.02, 0.02, 2.0],
            [0.02, -0.5, 0.02, 0.02, 2.0],
            [0.02, 2.0, 0.02, 0.02, 2.0],
        ]
    )
    rows = Rows(
        np.array([[1.0, 1.0, -1.0, -1.0, 1.0], [0.0, 1.0, -1.0, 0.0, 1.0]]),
        np.full(2, -np.inf),
        np.array([0.3, 0.0]),
        ("gross", "group"),
    )
    lower, upper = np.array([0.0, 0.0, -0.5, -1.1, 0.0]), np.array([np.inf, np.inf, 0.0, 0.0, 0.03])
    probability = np.array([0.5, 0.1, 0.35, 0.05])
    problem = Problem(
        Objective(Kind.MIN_VARIANCE),
        scenarios=returns,
        scenario_probability=probability,
        limits=Limits(lower=lower, upper=upper, rows=rows),
    )
    found = solve(problem)
    spread = returns @ found.weights
    assert probability @ (spread - probability @ spread) ** 2 <= 1e-30
    assert certify(problem, found).is_optimal
