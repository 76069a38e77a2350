"""Smooth objectives under tail caps: certified, invariant, and the cap's price is its slope."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compute.optimize import measures, solve
from compute.optimize.certificate import certify
from compute.optimize.cuts import needed
from compute.optimize.evaluate import largest_violation
from compute.optimize.objectives import UnsupportedError
from compute.optimize.problem import Limits, Objective, ObjectiveKind, Problem, Status
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
    assert needed(capped)
    assert not needed(free)
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


def test_a_tail_part_beside_a_curved_one_is_refused() -> None:
    terms = ((1.0, Objective(Kind.LOG_GROWTH)), (0.1, Objective(Kind.MIN_CVAR)))
    problem = replace(book(Kind.LOG_GROWTH), objective=Objective(Kind.COMBINATION, terms=terms))
    with pytest.raises(UnsupportedError, match="tail measure"):
        solve(problem)
