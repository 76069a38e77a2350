"""Data at the edge of what numbers can tell: single precision, huge returns, limits said twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from compute.optimize import solve
from compute.optimize.execution import Execution
from compute.optimize.infeasibility.conflict import explain
from compute.optimize.limits import distinct, linear
from compute.optimize.problem import (
    Array,
    Costs,
    DrawdownRisk,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
    Solution,
    Status,
)
from compute.optimize.proof.certificate import certify
from compute.optimize.proof.evaluation import violations
from compute.optimize.tail_lp.solve import solve_tail

Kind = ObjectiveKind
N = 6
INVESTED = Limits(lower=np.zeros(N), upper=np.full(N, 0.5), budget_min=1.0, budget_max=1.0)


def returns(periods: int = 60) -> Array:
    rng = np.random.default_rng(11)
    market = rng.standard_normal((periods, 1)) * 0.015
    return np.asarray(market + 0.02 * rng.standard_normal((periods, N)) + 0.003)


def answer(asked: Problem, execution: Execution) -> Solution:
    return solve(asked, execution=execution)


def test_a_covariance_in_single_precision_shows_no_risk_below_its_rounding(
    ahead: Execution,
) -> None:
    """Two periods leave books without risk, and rounding turns their variance negative."""
    history = returns(2) * np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    covariance = np.cov(history, rowvar=False).astype(np.float32).astype(np.float64)
    assert np.linalg.eigvalsh(covariance)[0] < 0.0
    mean = np.full(N, 0.003)
    asked = Problem(Objective(Kind.MAX_SHARPE), INVESTED, mean=mean, covariance=covariance)
    assert answer(asked, ahead).status is Status.UNBOUNDED
    risky = replace(asked, covariance=covariance + 1e-4 * np.eye(N))
    found = answer(risky, ahead)
    assert found.status is Status.OPTIMAL
    assert certify(risky, found).is_optimal


def test_a_history_that_never_moves_has_no_ratio(ahead: Execution) -> None:
    flat = np.full((20, 1), 1e-9) * (1.0 + 1e-16 * np.arange(20.0)[:, None])
    one = Limits(lower=np.zeros(1), budget_min=1.0, budget_max=1.0)
    asked = Problem(
        Objective(Kind.MAX_SHARPE), one, mean=flat.mean(0), covariance=np.array([[4.5e-50]])
    )
    assert answer(asked, ahead).status is Status.UNBOUNDED


@pytest.mark.parametrize("kind", [Kind.MAX_SHARPE, Kind.MEAN_VARIANCE, Kind.LOG_GROWTH])
def test_a_limit_said_twice_a_hair_apart_counts_once(ahead: Execution, kind: ObjectiveKind) -> None:
    everyone = Rows(np.ones((1, N)), np.array([1.0 - 1e-9]), np.array([np.inf]), ("all",))
    once = Problem(Objective(kind), INVESTED, scenarios=returns())
    twice = replace(once, limits=replace(INVESTED, rows=everyone))
    one, two = answer(once, ahead), answer(twice, ahead)
    assert two.status is Status.OPTIMAL
    assert two.weights == pytest.approx(one.weights, abs=1e-9)
    assert certify(twice, two).is_optimal


def test_of_parallel_rows_the_tighter_side_stays() -> None:
    """Also where one is the other times a negative number; soft rows are left alone."""
    matrix = np.array([[2.0, 2.0], [-1.0, -1.0], [1.0, 0.0], [1.0, 1.0]])
    rows = Rows(
        matrix,
        np.array([0.4, -0.9, 0.1, 0.3]),
        np.array([3.0, -0.1, np.inf, 0.5]),
        ("double", "negative", "other", "soft"),
        price=np.array([np.inf, np.inf, np.inf, 1.0]),
    )
    limits = Limits(budget_min=0.0, budget_max=1.0, rows=rows)
    kept = distinct(linear(Problem(Objective(Kind.MAX_RETURN), limits, mean=np.ones(2))))
    assert kept.row_min.tolist() == [-np.inf, 0.4, -0.9, 0.1, 0.3]
    assert kept.row_max.tolist() == [np.inf, np.inf, np.inf, np.inf, 0.5]


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("invested", [False, True])
def test_curvature_far_above_the_slopes_leaves_no_digit_open(
    ahead: Execution, scale: float, invested: bool
) -> None:
    """Returns a thousand times too large, as per cent and basis points taken for fractions."""
    limits = INVESTED if invested else replace(INVESTED, budget_min=None)
    history = returns() * scale
    asked = Problem(Objective(Kind.MEAN_VARIANCE, 5.0), limits, scenarios=history)
    found = answer(asked, ahead)
    assert found.status is Status.OPTIMAL
    assert certify(asked, found).is_optimal
    assert certify(asked, found).gap_relative <= 1e-9


@pytest.mark.parametrize("ridge", [1e-3, 1e-5, 1e-7])
def test_risk_that_nearly_cancels_can_still_be_shared(ahead: Execution, ridge: float) -> None:
    history = returns(2) * np.array([1.0, -1.0, 1.0, -1.0, 1.0, 1.0])
    covariance = np.cov(history, rowvar=False)
    covariance += ridge * np.trace(covariance) * np.eye(N)
    asked = Problem(
        Objective(Kind.RISK_BUDGET), replace(INVESTED, upper=None), covariance=covariance
    )
    found = answer(asked, ahead)
    assert found.status is Status.OPTIMAL
    share = found.weights * (covariance @ found.weights)
    assert share / share.sum() == pytest.approx(np.full(N, 1.0 / N), abs=1e-8)


def test_limits_that_may_be_broken_are_no_conflict(ahead: Execution) -> None:
    """A soft limit against a hard one, in a problem whose first answer is none."""
    rows = Rows(
        np.vstack([np.ones(N), np.ones(N)]),
        np.array([0.9, -np.inf]),
        np.array([np.inf, 0.2]),
        ("at least", "rather at most"),
        price=np.array([np.inf, 1e-3]),
    )
    limits = replace(INVESTED, budget_min=0.0, rows=rows)
    asked = Problem(Objective(Kind.MAX_SHARPE), limits, scenarios=returns() - 0.05)
    assert answer(asked, ahead).status is Status.NONPOSITIVE_MEAN


@pytest.mark.parametrize("seed", [10, 44, 56])
def test_a_weight_is_not_put_on_its_bound_where_a_price_makes_that_dear(seed: int) -> None:
    # The prices are ten thousand times the objective: 1e-12 of a weight would be 1e-8 of it.
    rng, n = np.random.default_rng(seed), 12
    history = 0.01 * rng.standard_normal((60, n)) + 0.01 * rng.standard_normal((60, 1))
    groups = (rng.random((2, n)) < 0.5) * 1.0
    rows = Rows(groups, np.array([-np.inf, 0.2]), np.array([0.15, np.inf]), ("a", "b"), np.ones(2))
    box = Limits(np.zeros(n), np.full(n, 0.3), budget_min=0.3, budget_max=1.0, rows=rows)
    costs = Costs(linear=np.full(n, 2e-4))
    asked = Problem(Objective(ObjectiveKind.MIN_VARIANCE), box, costs, scenarios=history)
    assert certify(asked, solve(asked)).gap_relative < 1e-10


def test_a_plain_linear_program_is_solved_as_one() -> None:
    rng = np.random.default_rng(2)
    mean, matrix = rng.normal(0.0, 0.01, N), rng.standard_normal((3, N))
    rows = Rows(matrix, np.full(3, -0.2), np.full(3, 0.2), ("a", "b", "c"))
    limits = Limits(
        lower=np.full(N, -0.5), upper=np.full(N, 0.5), budget_max=0.3, gross_max=1.2, rows=rows
    )
    asked = Problem(Objective(Kind.MAX_RETURN), limits, mean=mean)
    found = solve_tail(asked)
    split = np.hstack([matrix, -matrix])
    best = linprog(
        -np.r_[mean, -mean],
        A_ub=np.vstack([split, -split, np.r_[np.ones(N), -np.ones(N)], np.ones(2 * N)]),
        b_ub=np.r_[np.full(6, 0.2), 0.3, 1.2],
        bounds=(0.0, 0.5),
    )
    assert found.objective == pytest.approx(-best.fun, rel=1e-9)
    assert certify(asked, found).is_optimal


def test_what_a_curved_limit_must_give_is_what_its_weights_take() -> None:
    limits = replace(INVESTED, drawdown_risk=DrawdownRisk(60.0))
    asked = Problem(Objective(Kind.LOG_GROWTH), limits, scenarios=returns() - 0.02)
    found = explain(asked)
    assert "drawdown_risk" in found.relaxation
    excess = violations(asked, found.weights)["drawdown_risk"]
    assert found.relaxation["drawdown_risk"] >= excess
    assert found.relaxation["drawdown_risk"] == pytest.approx(excess, rel=1e-5)
