"""The checker on answers known to be best, nearly best and wrong; its bound is never too low."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reference_format import load
from compute.optimize import solve
from compute.optimize.problem import Costs, Limits, Objective, ObjectiveKind, Problem, Rows
from compute.optimize.proof import certificate
from compute.optimize.proof.certificate import certify_weights
from compute.optimize.proof.duality_gap import Dual, box_terms, gap_terms
from compute.optimize.proof.evaluation import largest_violation, objective_value
from compute.optimize.proof.linearization import tangent
from compute.optimize.proof.lp_relaxation import best_dual

Kind = ObjectiveKind
FILES = sorted((Path(__file__).parents[2] / "reference").glob("P*_N20.npz"))


@pytest.mark.reference
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accepts_the_supplied_optima(path: Path) -> None:
    reference = load(path)
    assert reference.weights is not None
    proof = certify_weights(reference.problem, reference.weights)
    assert proof.is_optimal, proof
    assert proof.bounded
    assert proof.objective == pytest.approx(reference.objective, rel=1e-12, abs=1e-15)


@pytest.mark.reference
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_rejects_a_worse_portfolio_and_bounds_its_shortfall(path: Path) -> None:
    reference = load(path)
    assert reference.weights is not None
    assert reference.objective is not None
    equal = np.full(20, 0.05)
    mixed = 0.9 * reference.weights + 0.1 * equal
    proof = certify_weights(reference.problem, mixed)
    assert not proof.is_optimal
    shortfall = reference.objective - proof.objective
    sense = 1.0 if reference.problem.objective.kind.maximised else -1.0
    assert proof.gap >= sense * shortfall - 1e-12


@pytest.mark.reference
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_rejects_a_better_portfolio_outside_the_limits(path: Path) -> None:
    reference = load(path)
    assert reference.weights is not None
    proof = certify_weights(reference.problem, reference.weights * 1.01)
    assert not proof.is_optimal


def _book(seed: int) -> tuple[Problem, np.random.Generator]:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(3, 8))
    scenarios = rng.standard_t(4, (60, count)) * 0.02 + rng.normal(0.001, 0.002, count)
    kinds = (
        Objective(Kind.LOG_GROWTH),
        Objective(Kind.MEAN_VARIANCE, 5.0),
        Objective(Kind.MIN_CVAR, tail=0.9),
        Objective(Kind.MIN_CDAR, tail=0.9),
        Objective(Kind.CRRA, 4.0),
        Objective(Kind.MAX_SHARPE),
        Objective(Kind.MIN_MAX_DRAWDOWN),
        Objective(Kind.MIN_VARIANCE),
    )
    limits = Limits(
        lower=np.full(count, -0.3),
        upper=np.full(count, 0.6),
        budget_min=0.2,
        budget_max=0.9,
        gross_max=1.2,
        turnover_max=float(rng.uniform(0.8, 2.0)),
        rows=Rows(
            rng.normal(size=(2, count)),
            np.full(2, -0.5),
            np.full(2, 0.5),
            ("factor a", "factor b"),
            price=np.array([np.inf, 0.01]),
        ),
        cvar_max=0.06,
        cvar_tail=0.9,
        volatility_max=0.03,
    )
    problem = Problem(
        kinds[seed % len(kinds)],
        limits,
        Costs(linear=np.full(count, 1e-4), impact=np.full(count, 1e-3)),
        scenarios=scenarios,
        holdings=rng.dirichlet(np.ones(count)) * 0.5,
    )
    return problem, rng


def _sampled(problem: Problem, rng: np.random.Generator) -> np.ndarray:
    """Random feasible portfolios, found by shrinking towards a feasible one."""
    count = problem.size
    found = [
        weights
        for weights in rng.uniform(-0.3, 0.6, (4000, count))
        if largest_violation(problem, weights) == 0.0
    ]
    return np.array(found).reshape(len(found), count)


@pytest.mark.parametrize("seed", range(16))
def test_the_bound_holds_for_every_feasible_portfolio(seed: int) -> None:
    problem, rng = _book(seed)
    points = _sampled(problem, rng)
    assert len(points) >= 10, "the sample must contain feasible portfolios"
    values = np.array([objective_value(problem, weights) for weights in points])
    larger = problem.objective.kind.maximised
    best = values.max() if larger else values.min()
    for weights, value in list(zip(points, values, strict=True))[:5]:
        if problem.objective.kind is Kind.MAX_SHARPE and value <= 0.0:
            continue
        proof = certify_weights(problem, weights)
        assert proof.gap >= abs(best - value) - 1e-12


# Not the Sharpe ratio (seeds 5 and 13), which is not the tangent program's own objective.
@pytest.mark.parametrize("seed", [seed for seed in range(16) if seed % 8 != 5])
def test_the_bound_holds_for_wrong_duals(seed: int) -> None:
    problem, rng = _book(seed)
    points = _sampled(problem, rng)
    values = np.array([objective_value(problem, weights) for weights in points])
    best = values.max() if problem.objective.kind.maximised else values.min()
    program = tangent(problem, points[0])
    good = best_dual(program)
    assert good is not None
    for _ in range(20):
        wrong = Dual(
            good.rows + rng.normal(0, 0.01, good.rows.shape),
            good.turnover + rng.exponential(0.01),
            good.gross + rng.exponential(0.01),
            good.tails,
        )
        assert sum(gap_terms(program, wrong).values()) >= abs(best - values[0]) - 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_impact_costs_are_in_the_bound_exactly(seed: int) -> None:
    """The largest phi per name is that of a fine grid, with kinks and without."""
    problem, rng = _book(seed)
    program = tangent(problem, _sampled(problem, rng)[0])
    program = replace(program, impact=10.0 ** rng.uniform(-4, -1, problem.size))
    slope, dual = rng.normal(0.0, 0.01, problem.size), Dual(np.zeros(0), 2e-3, 1e-3, ())
    trade = program.weights - program.centre
    flat = slope + 1.5 * program.impact * np.sqrt(np.abs(trade)) * np.sign(trade)
    grid = np.linspace(program.lower, program.upper, 200_001)

    def phi(point: np.ndarray) -> np.ndarray:
        away = np.abs(point - program.centre)
        paid = (program.linear_cost + 2e-3) * away + program.impact * away**1.5
        return np.asarray(flat * point - paid - 1e-3 * np.abs(point))

    best = phi(grid).max(axis=0) - phi(program.weights)
    found = box_terms(program, dual, slope)
    assert np.all(found >= best - 1e-16)
    assert np.all(found <= best + 1e-7)


def test_markowitz_solution_in_closed_form() -> None:
    # methods K5.2: f = S^-1 mu without limits; the only bound on the weights is the radius.
    covariance = np.array([[0.04, 0.006, 0], [0.006, 0.09, 0.01], [0, 0.01, 0.0225]])
    mean = np.array([0.05, 0.08, 0.03])
    problem = Problem(Objective(Kind.MEAN_VARIANCE, 1.0), mean=mean, covariance=covariance)
    proof = certify_weights(problem, np.linalg.solve(covariance, mean))
    assert proof.is_optimal
    assert not proof.bounded
    assert proof.objective == pytest.approx(0.0719261058, abs=1e-10)


def test_sharpe_where_cash_is_allowed() -> None:
    # The limits hold the riskless book, so volatility has no positive floor: the cone decides.
    covariance = np.diag([0.04, 0.09])
    problem = Problem(
        Objective(Kind.MAX_SHARPE),
        Limits(lower=np.zeros(2), upper=np.ones(2), budget_max=1.0),
        mean=np.array([0.05, 0.08]),
        covariance=covariance,
    )
    best = np.linalg.solve(covariance, problem.mean)
    for scale in (0.5, 0.01):
        assert certify_weights(problem, best / best.sum() * scale).is_optimal
    off = certify_weights(problem, np.array([0.5, 0.5]))
    assert not off.is_optimal
    ratio = float(np.sqrt(problem.mean @ best))
    assert off.gap >= ratio - off.objective


@pytest.mark.parametrize("most", [1e-5, 1e-8, 1e-11])
def test_no_ratio_is_proven_that_a_tiny_book_exceeds(most: float) -> None:
    mean, covariance = np.array([1e-3, 9e-4, -2e-4]), np.diag([1e-6, 1e-4, 2e-4])
    limits = Limits(lower=np.zeros(3), upper=np.array([most, 0.5, 0.5]), budget_max=1.0)
    objective = Objective(ObjectiveKind.MAX_SHARPE)
    asked = Problem(objective, limits, mean=mean, covariance=covariance)
    best = objective_value(asked, np.array([most, 9e-3 * most, 0.0]))
    for weights in (solve(asked).weights, np.array([most, 0.4, 0.0]), np.array([0.0, 0.4, 0.0])):
        proven = certify_weights(asked, weights).is_optimal
        assert not proven or objective_value(asked, weights) >= best * (1.0 - 1e-8)


def test_nothing_is_proven_about_missing_weights() -> None:
    problem, _ = _book(0)
    proof = certify_weights(problem, np.full(problem.size, np.nan))
    assert not proof.is_optimal
    assert proof.gap == np.inf


def test_without_prices_nothing_is_proven() -> None:
    problem, _ = _book(1)
    proof = certify_weights(problem, np.zeros(problem.size), thorough=False)
    assert proof.prices == "none"
    assert not proof.is_optimal


def test_equivariant_under_scale_of_the_objective() -> None:
    problem, rng = _book(1)
    weights = _sampled(problem, rng)[0]
    bare = dataclasses.replace(problem, costs=Costs(), limits=Limits(budget_max=1.0, gross_max=1.0))
    first = certify_weights(bare, weights)
    assert bare.scenarios is not None
    scaled = dataclasses.replace(bare, scenarios=bare.scenarios * 1e-3)
    aversion = dataclasses.replace(bare.objective, risk_aversion=5e3)
    second = certify_weights(dataclasses.replace(scaled, objective=aversion), weights)
    assert second.gap_relative == pytest.approx(first.gap_relative, rel=1e-6)


def test_a_bound_that_is_not_a_number_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(Kind.MAX_SHARPE)
    limits = Limits(lower=np.zeros(2), budget_min=1.0, budget_max=1.0)
    mean, covariance = np.array([0.05, 0.08]), np.diag([0.04, 0.09])
    asked = Problem(objective, limits, mean=mean, covariance=covariance)
    best = mean / np.diagonal(covariance)  # without correlation
    assert certify_weights(asked, best / best.sum()).is_optimal
    monkeypatch.setattr(certificate, "ratio_gap", lambda *_: float("nan"))
    assert not certify_weights(asked, best / best.sum()).is_optimal


def test_a_row_missed_by_rounding_leaves_the_book_inside_its_own_bound() -> None:
    """Of a row of 1e-8 the last digits imply weights of 1e-9, where a trade would cost 1e-11."""
    row = Rows(np.array([[-1e-8]]), np.array([-np.inf]), np.array([-1e-17]), ("r",))
    problem = Problem(
        Objective(Kind.MAX_RETURN),
        limits=Limits(lower=np.zeros(1), upper=np.ones(1), rows=row),
        mean=np.zeros(1),
        costs=Costs(linear=np.array([0.01])),
    )
    program = tangent(problem, np.zeros(1))
    assert gap_terms(program, Dual(np.zeros(1), 0.0, 0.0, ()))["box"] == 0.0
