"""Optima at the only point that a curved limit leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from compute.optimize import solve
from compute.optimize.execution import Execution
from compute.optimize.problem import (
    Costs,
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


def _linear_oracle(problem: Problem) -> float:
    """The best of a book of one scenario's return less soft excess, by SciPy's linear programs."""
    rows = problem.limits.rows
    assert rows is not None
    assert rows.price is not None
    assert problem.limits.lower is not None
    assert problem.limits.upper is not None
    n, m = problem.size, len(rows.names)
    cost = np.concatenate([np.zeros(n), rows.price])
    matrix = np.hstack([rows.matrix, -np.eye(m)])
    bounds = [*zip(problem.limits.lower, problem.limits.upper, strict=True), *[(0.0, None)] * m]
    return float(linprog(cost, A_ub=matrix, b_ub=rows.row_max, bounds=bounds).fun)


def test_a_soft_row_priced_a_million_times_the_objective_is_missed_by_as_little_as_can_be(
    ahead: Execution,
) -> None:
    """Its coefficients are in money, 1e6 a weight, so that it outweighs all that returns earn."""
    returns = 0.02 * np.random.default_rng(5).standard_normal((40, 5)) + 0.001
    row = np.array([[-6e5, -8e5, 1.06e6, 1.1e6, 7e4]])
    rows = Rows(row, np.array([-np.inf]), np.array([0.02]), ("money",), np.array([10.0]))
    lower = np.array([-0.18, 0.0, -0.016, 0.0, -0.007])
    upper = np.array([-0.18, 0.04, 0.0, 0.1, 0.0])
    problem = Problem(
        Objective(Kind.MEAN_VARIANCE, risk_aversion=50.0),
        limits=Limits(lower=lower, upper=upper, rows=rows),
        scenarios=returns,
        costs=Costs(linear=np.full(5, 0.005)),
        holdings=np.array([-0.183, 0.11, 0.0, 0.16, 1e-9]),
    )
    found = solve(problem, execution=ahead)
    assert found.status is Status.OPTIMAL
    assert certify(problem, found).is_optimal
    assert -found.objective == pytest.approx(_linear_oracle(problem), rel=1e-6)


def test_a_scenario_that_outweighs_all_others_leaves_a_vertex(ahead: Execution) -> None:
    """Of a risk aversion of a million; so much must be held that the worst case costs e^30000."""
    returns = np.array([[0.02, 0.015, -0.013], [-1.0, 0.016, 0.01], [0.02, -0.013, 0.016]])
    held = np.array([0.185, 0.004, 0.0])
    limits = Limits(lower=np.zeros(3), upper=np.full(3, np.inf), budget_min=0.1, turnover_max=0.2)
    problem = Problem(
        Objective(Kind.CRRA, risk_aversion=1e6),
        limits=limits,
        scenarios=returns,
        costs=Costs(linear=np.full(3, 0.02)),
        holdings=held,
    )
    found = solve(problem, execution=ahead)
    assert found.status is Status.OPTIMAL
    assert certify(problem, found).is_optimal
    # The least loss of the second scenario within the turnover: sell 0.15 or so and buy what pays.
    eye, one = np.eye(3), np.zeros(3)
    program = linprog(
        np.concatenate([-returns[1], one]),
        A_ub=np.vstack(
            [
                np.concatenate([-np.ones(3), one]),
                np.concatenate([one, np.ones(3)]),
                np.hstack([eye, -eye]),
                np.hstack([-eye, -eye]),
            ]
        ),
        b_ub=np.concatenate([[-0.1, 0.2], held, -held]),
        bounds=[(0.0, None)] * 6,
    )
    assert returns[1] @ found.weights == pytest.approx(-program.fun, abs=1e-9)


def test_a_book_that_the_box_fixes_is_its_own_proof(ahead: Execution) -> None:
    """A limit may miss it by less than a certificate asks about, where no program finds a point."""
    returns = np.array([[3e-8, 2e-8], [-6e-8, -3e-8]])
    fixed = np.array([0.0, 0.0145])
    limits = Limits(lower=fixed, upper=fixed, drawdown_risk=DrawdownRisk(11.4))
    problem = Problem(
        Objective(Kind.CRRA, risk_aversion=4.0), limits=limits, scenarios=returns, holdings=fixed
    )
    found = solve(problem, execution=ahead)
    assert found.status is Status.OPTIMAL
    proof = certify(problem, found)
    assert proof.is_optimal
    assert proof.gap == 0.0
    assert 1e-12 < proof.primal_residual < 1e-8


def test_a_risk_that_costs_nothing_leaves_a_linear_program(ahead: Execution) -> None:
    """One name earns a million times what the others do, next to rows that hold it."""
    rng = np.random.default_rng(8)
    mean = np.array([-0.0014, 5e5, 0.0, 0.0014])
    cuts = np.column_stack(
        [rng.normal(0.0, 1e-3, 20), rng.normal(0.0308, 1e-4, 20), rng.normal(0, 1e-3, 20)]
    )
    rows = Rows(
        np.column_stack([cuts, np.full(20, 0.0067)]),
        np.full(20, -np.inf),
        np.full(20, 0.011),
        tuple(f"cut {k}" for k in range(20)),
    )
    limits = Limits(lower=np.zeros(4), upper=np.ones(4), rows=rows)
    objective = Objective(Kind.MEAN_VARIANCE, risk_aversion=0.0)
    problem = Problem(objective, limits=limits, mean=mean, covariance=np.diag([1e-3, 1e11, 1, 1]))
    found = solve(problem, execution=ahead)
    best = linprog(-mean, A_ub=rows.matrix, b_ub=rows.row_max, bounds=[(0.0, 1.0)] * 4)
    assert found.status is Status.OPTIMAL
    assert certify(problem, found).is_optimal
    assert found.objective == pytest.approx(-best.fun, rel=1e-9)
