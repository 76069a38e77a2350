"""Smooth objectives under tail caps: certified, invariant, and the cap's price is its slope."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from compute.optimize import measures, solve
from compute.optimize.problem import Costs, Limits, Objective, ObjectiveKind, Problem, Status
from compute.optimize.proof.certificate import certify
from compute.optimize.proof.evaluation import largest_violation, objective_value
from compute.optimize.tail_lp import has_tail
from tests.compute.optimize.tail_problems import returns

Kind = ObjectiveKind


def book(kind: Kind, **caps: float) -> Problem:
    rng = np.random.default_rng(11)
    limits = Limits(lower=np.zeros(6), upper=np.full(6, 0.6), budget_max=1.0, **caps)  # type: ignore[arg-type]
    scenarios = returns(rng, 80, 6) + 0.001
    return Problem(Objective(kind, risk_aversion=3.0), limits, scenarios=scenarios)


@pytest.mark.parametrize("kind", [Kind.LOG_GROWTH, Kind.MEAN_VARIANCE])
@pytest.mark.parametrize("cap", [{"cvar_max": 0.008}, {"cdar_max": 0.02}, {"drawdown_max": 0.03}])
def test_caps_bind_and_the_answer_is_certified(kind: Kind, cap: dict[str, float]) -> None:
    problem = book(kind, **cap)
    solution = solve(problem)
    assert solution.status is Status.OPTIMAL
    assert largest_violation(problem, solution.weights) <= 1e-10
    certificate = certify(problem, solution)
    assert certificate.gap_relative <= 1e-8
    (name,) = cap
    assert getattr(solution.multipliers, name) > 0.0
    free = solve(replace(problem, limits=replace(problem.limits, **{name: None})))
    assert free.objective > solution.objective


def test_the_price_of_a_cap_is_its_slope() -> None:
    problem = book(Kind.LOG_GROWTH, cvar_max=0.008)
    solution = solve(problem)
    assert solution.multipliers is not None
    step = 1e-6
    looser = solve(book(Kind.LOG_GROWTH, cvar_max=0.008 + step))
    gained = (looser.objective - solution.objective) / step
    assert gained == pytest.approx(solution.multipliers.cvar_max, rel=1e-3)


def test_a_slack_cap_changes_nothing() -> None:
    capped, free = book(Kind.LOG_GROWTH, cvar_max=10.0), book(Kind.LOG_GROWTH)
    assert has_tail(capped)
    assert not has_tail(free)
    assert solve(capped).objective == solve(free).objective


def test_an_impossible_cap_is_infeasible() -> None:
    problem = book(Kind.LOG_GROWTH, cvar_max=1e-4)
    held = replace(problem, limits=replace(problem.limits, budget_min=1.0))
    least = solve(
        replace(
            held, objective=Objective(Kind.MIN_CVAR), limits=replace(held.limits, cvar_max=None)
        )
    )
    assert least.objective > 1e-4
    solution = solve(held)
    assert solution.status is Status.INFEASIBLE
    assert np.all(np.isnan(solution.weights))


def test_functionals_average_the_cuts() -> None:
    problem = book(Kind.LOG_GROWTH, cdar_max=0.02)
    multipliers = solve(problem).multipliers
    (line,) = multipliers.functionals  # type: ignore[union-attr]
    assert line.tail.sum() == pytest.approx(1.0)
    assert line.peak.sum() == pytest.approx(1.0)
    scenarios = problem.scenarios
    assert scenarios is not None
    rng = np.random.default_rng(0)
    weights = measures.drawdown_functional(line.tail, line.peak)
    odds = np.full(len(scenarios), 1.0 / len(scenarios))
    for _ in range(50):
        series = scenarios @ rng.dirichlet(np.ones(6))
        assert -weights @ series <= measures.cdar(series, odds, 0.95)[0] + 1e-12


def less_cvar(share: float, **caps: float) -> Problem:
    terms = ((1.0, Objective(Kind.LOG_GROWTH)), (share, Objective(Kind.MIN_CVAR)))
    return replace(
        book(Kind.LOG_GROWTH, **caps), objective=Objective(Kind.COMBINATION, terms=terms)
    )


def test_a_measure_in_the_objective_weighs_as_the_price_of_its_cap() -> None:
    """The two ways to state the trade between growth and CVaR lead to the same book."""
    capped = solve(book(Kind.LOG_GROWTH, cvar_max=0.008))
    assert capped.multipliers is not None
    weighed = solve(less_cvar(capped.multipliers.cvar_max))
    assert weighed.weights == pytest.approx(capped.weights, abs=1e-7)
    (line,) = weighed.multipliers.functionals  # type: ignore[union-attr]
    assert line.in_objective
    assert line.price == capped.multipliers.cvar_max
    assert line.tail.sum() == pytest.approx(1.0)


def test_a_measure_may_be_wanted_small_and_capped_as_well() -> None:
    free = solve(less_cvar(0.002))
    problem = less_cvar(0.002, cvar_max=0.008)
    solution = solve(problem)
    assert certify(problem, solution).is_optimal
    assert certify(less_cvar(0.002), free).is_optimal
    assert solution.multipliers is not None
    assert solution.multipliers.cvar_max > 0.0
    assert free.objective > solution.objective
    assert [f.in_objective for f in solution.multipliers.functionals] == [True, False]  # type: ignore[attr-defined]


def test_weights_of_a_measure_lead_from_the_fastest_book_to_the_calmest() -> None:
    held = replace(book(Kind.LOG_GROWTH).limits, budget_min=1.0)

    def best(objective: Objective) -> NDArray[np.float64]:
        return solve(replace(book(Kind.LOG_GROWTH), objective=objective, limits=held)).weights

    assert best(less_cvar(1e-9).objective) == pytest.approx(
        best(Objective(Kind.LOG_GROWTH)), abs=1e-5
    )
    assert best(less_cvar(1e4).objective) == pytest.approx(best(Objective(Kind.MIN_CVAR)), abs=1e-5)


@pytest.mark.parametrize("kind", [Kind.MIN_CVAR, Kind.MIN_CDAR, Kind.MIN_MAX_DRAWDOWN])
def test_nothing_nearby_is_better(kind: Kind) -> None:
    """No random feasible book beats the answer under a volatility limit and impact costs."""
    rng = np.random.default_rng(5)
    start = book(Kind.LOG_GROWTH)
    limits = replace(start.limits, budget_min=1.0, gross_max=1.6, lower=np.full(6, -0.3))
    risk = float(np.sqrt(np.full(6, 1 / 6) @ np.cov(start.scenarios.T) @ np.full(6, 1 / 6)))  # type: ignore[union-attr]
    problem = replace(
        start,
        objective=Objective(Kind.COMBINATION, terms=((1.0, Objective(kind)),)),
        limits=replace(limits, volatility_max=risk, turnover_max=1.5),
        costs=Costs(impact=np.full(6, 1e-3)),
        holdings=np.full(6, 1 / 6),
    )
    solution = solve(problem)
    assert solution.status is Status.OPTIMAL
    assert largest_violation(problem, solution.weights) <= 1e-10
    assert certify(problem, solution).is_optimal
    assert solution.objective == pytest.approx(objective_value(problem, solution.weights))
    tried = 0
    for _ in range(3000):
        step = rng.normal(size=6) * 10.0 ** rng.uniform(-5, -1)
        other = solution.weights + step - step.mean()
        if largest_violation(problem, other) <= 0.0:
            tried += 1
            assert objective_value(problem, other) <= solution.objective + 1e-12
    assert tried > 20
