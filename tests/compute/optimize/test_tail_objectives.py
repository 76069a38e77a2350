"""Tail measures in the objective beside what is curved: against Clarabel, proven, and unbeaten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.oracle import best_weights
from compute.optimize import solve
from compute.optimize.execution import JUST_IN_TIME, Execution
from compute.optimize.infeasibility.conflict import explain
from compute.optimize.objectives import UnsupportedError
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
from compute.optimize.proof.evaluation import largest_violation, objective_value
from compute.optimize.proof.linearization import tangent
from compute.shapes import NotCompiledError
from tests.compute.optimize.tail_problems import returns

Kind = ObjectiveKind
N, T = 8, 60
R = returns(np.random.default_rng(7), T, N) + np.linspace(0.0, 0.003, N)
HELD = np.array([0.3, 0.0, 0.1, 0.2, 0.0, 0.1, 0.0, 0.2])
LONG = Limits(lower=np.zeros(N), upper=np.full(N, 0.5), budget_min=1.0, budget_max=1.0)
CASH = replace(LONG, budget_min=0.0)
SHORT = replace(CASH, lower=np.full(N, -0.4), budget_min=0.2)
IMPACT = Costs(linear=np.full(N, 2e-4), impact=np.linspace(5e-4, 3e-3, N))
SECTOR = np.eye(1, N, 5) + np.eye(1, N, 7)
GROWTH, VARIANCE = Objective(Kind.LOG_GROWTH), Objective(Kind.MEAN_VARIANCE, 4.0)
POWER = Objective(Kind.CRRA, 3.0)
CVAR, CDAR = Objective(Kind.MIN_CVAR, tail=0.9), Objective(Kind.MIN_CDAR, tail=0.8)
DRAWDOWN = Objective(Kind.MIN_MAX_DRAWDOWN)


def combined(curved: Objective, *tails: tuple[float, Objective]) -> Objective:
    return Objective(Kind.COMBINATION, terms=((1.0, curved), *tails))


def problem(objective: Objective, limits: Limits = LONG, costs: Costs | None = None) -> Problem:
    return Problem(objective, limits, costs or Costs(), scenarios=R, holdings=HELD)


CASES = {
    "growth and cvar": problem(combined(GROWTH, (0.2, CVAR))),
    "growth and cvar, cash": problem(combined(GROWTH, (0.05, CVAR)), CASH),
    "variance and cdar": problem(combined(VARIANCE, (0.1, CDAR))),
    "power and drawdown": problem(combined(POWER, (0.1, DRAWDOWN))),
    "minimum variance and drawdown": problem(
        combined(Objective(Kind.MIN_VARIANCE), (1e-3, DRAWDOWN))
    ),
    "two measures": problem(combined(GROWTH, (0.1, CVAR), (0.05, CDAR))),
    "two levels of one": problem(
        combined(VARIANCE, (0.1, CVAR), (0.1, Objective(Kind.MIN_CVAR, tail=0.5)))
    ),
    "cvar within volatility": problem(CVAR, replace(LONG, volatility_max=0.0062)),
    "return and cvar within volatility": problem(
        combined(Objective(Kind.MAX_RETURN), (0.1, CVAR)), replace(LONG, volatility_max=0.0075)
    ),
    "cdar within var": problem(CDAR, replace(CASH, budget_min=0.8, var_max=0.009)),
    "drawdown within drawdown risk": problem(
        combined(Objective(Kind.MAX_RETURN), (0.01, DRAWDOWN)),
        replace(CASH, drawdown_risk=DrawdownRisk.from_probability(0.98, 0.05)),
    ),
    "cvar, impact and holdings": problem(CVAR, LONG, IMPACT),
    "growth, shorts and gross": problem(
        combined(GROWTH, (0.1, CVAR)), replace(SHORT, gross_max=1.1)
    ),
    "growth, turnover and trades": problem(
        combined(GROWTH, (0.1, CDAR)),
        replace(LONG, turnover_max=0.4, trade_max=np.full(N, 0.25)),
        IMPACT,
    ),
    "growth and cvar, capped as well": problem(
        combined(GROWTH, (0.02, CVAR)), replace(CASH, cvar_max=0.005, cvar_tail=0.8)
    ),
    "growth and cdar, drawdown capped": problem(
        combined(GROWTH, (0.02, CDAR)), replace(CASH, drawdown_max=0.02)
    ),
    "growth, rows, one of them soft": problem(
        combined(GROWTH, (0.1, CVAR)),
        replace(
            LONG,
            rows=Rows(
                np.vstack([SECTOR, R[3]]),
                np.array([-np.inf, 0.001]),
                np.array([0.6, np.inf]),
                ("sector", "stress"),
                np.array([np.inf, 0.01]),
            ),
        ),
    ),
    "fewer scenarios than names": replace(
        problem(combined(GROWTH, (0.2, CVAR), (0.1, DRAWDOWN))), scenarios=R[:5]
    ),
    "no scenario alike": replace(
        problem(combined(GROWTH, (0.2, CVAR))),
        scenario_probability=np.random.default_rng(0).dirichlet(np.ones(T)),
        cash_return=1e-3,
    ),
}


def proven(asked: Problem, execution: Execution = JUST_IN_TIME) -> Solution:
    """The answer with a proof, all limits kept and each measure's price its weight."""
    found = solve(asked, execution=execution)
    assert found.status is Status.OPTIMAL
    assert largest_violation(asked, found.weights) <= 1e-10
    proof = certify(asked, found, thorough=False)
    assert (proof.is_optimal, proof.prices) == (True, "solver")
    assert found.objective == pytest.approx(objective_value(asked, found.weights), rel=1e-12)
    tails = [
        weight for weight, term in asked.objective.terms if term.kind in (CVAR.kind, CDAR.kind)
    ]
    lines = [line for line in found.multipliers.functionals if line.in_objective]  # type: ignore[union-attr]
    for weight, line in zip(tails, lines, strict=False):
        assert line.price == pytest.approx(weight, rel=1e-6)
        assert line.tail.sum() == pytest.approx(1.0)
    return found


def worth(asked: Problem, weights: Array) -> float:
    sense = 1.0 if asked.objective.kind.maximised else -1.0
    return sense * objective_value(asked, weights)


@pytest.mark.parametrize("name", CASES)
def test_no_independent_solver_is_better(ahead: Execution, name: str) -> None:
    asked = CASES[name]
    found = proven(asked, execution=ahead)
    touching = tangent(asked, found.weights)
    other = best_weights(asked, touching.scale * touching.reach)
    assert other is not None
    value = worth(asked, found.weights)
    # An independent solver keeps limits to 1e-9 or so, and may be better by what it breaks.
    assert worth(asked, other) == pytest.approx(value, rel=1e-7, abs=1e-12)
    assert worth(asked, other) - value <= 1e-8 * max(abs(value), 1e-4)


@pytest.mark.parametrize("name", CASES)
def test_no_feasible_change_is_better(ahead: Execution, name: str) -> None:
    asked, rng = CASES[name], np.random.default_rng(1)
    found = solve(asked, execution=ahead)
    value, broken, kept = worth(asked, found.weights), largest_violation(asked, found.weights), 0
    below, above = asked.limits.lower, asked.limits.upper
    assert below is not None
    assert above is not None
    for _ in range(600):
        # From some names to others, or from and to cash: all that the box has room for, or little.
        size, moved = 10.0 ** rng.uniform(-6.0, 0.0), found.weights.copy()
        for _ in range(int(rng.integers(1, 4))):
            one, other = rng.permutation(N)[:2]
            room = size * min(moved[one] - below[one], above[other] - moved[other])
            moved[one] -= room
            moved[other] += room * (rng.random() < 0.9)
        if largest_violation(asked, moved) <= broken + 1e-14:
            kept += 1
            assert worth(asked, moved) <= value + 1e-11 * max(abs(value), 1e-3)
    assert kept > 10


def test_a_large_weight_leads_to_the_least_tail(ahead: Execution) -> None:
    """And a tiny one to the book without it."""
    least, free = solve(problem(CVAR), execution=ahead), solve(problem(GROWTH), execution=ahead)
    heavy = proven(problem(combined(GROWTH, (1e4, CVAR))), execution=ahead)
    light = proven(problem(combined(GROWTH, (1e-7, CVAR))), execution=ahead)
    assert objective_value(problem(CVAR), heavy.weights) == pytest.approx(least.objective, rel=1e-6)
    assert light.weights == pytest.approx(free.weights, abs=1e-4)
    assert light.objective < free.objective


def test_more_weight_buys_less_tail(ahead: Execution) -> None:
    weighed = [problem(combined(VARIANCE, (w, CDAR))) for w in (0.01, 0.1, 1.0)]
    books = [solve(asked, execution=ahead) for asked in weighed]
    tails = [objective_value(problem(CDAR), book.weights) for book in books]
    assert tails[0] > tails[1] > tails[2]


def test_as_a_limit_it_leads_to_the_same_book(ahead: Execution) -> None:
    inside = problem(combined(GROWTH, (0.2, CVAR)))
    found = solve(inside, execution=ahead)
    cap = objective_value(replace(inside, objective=CVAR), found.weights)
    outside = solve(problem(GROWTH, replace(LONG, cvar_max=cap, cvar_tail=0.9)), execution=ahead)
    assert outside.weights == pytest.approx(found.weights, abs=1e-7)
    assert outside.multipliers is not None
    assert outside.multipliers.cvar_max > 0.0


def test_programs_of_its_own_structure_give_the_same(ahead: Execution) -> None:
    asked = CASES["growth, shorts and gross"]
    padded = solve(asked, execution=ahead)
    own = proven(asked)
    assert own.objective == pytest.approx(padded.objective, rel=1e-10)
    assert own.weights == pytest.approx(padded.weights, abs=1e-9)


def test_a_slot_has_room_for_levels_too(ahead: Execution) -> None:
    """A level takes the place of a name, and no place is left beside 16 of them."""
    wide = returns(np.random.default_rng(2), T, 16)
    limits = Limits(lower=np.zeros(16), upper=np.ones(16), budget_min=1.0, budget_max=1.0)
    full = Problem(combined(GROWTH, (0.2, CVAR)), limits, scenarios=wide)
    some = replace(
        full,
        scenarios=wide[:, :15],
        limits=replace(limits, lower=np.zeros(15), upper=np.ones(15)),
    )
    assert proven(some, execution=ahead).status is Status.OPTIMAL
    with pytest.raises(NotCompiledError, match="17 instruments"):
        solve(full, execution=ahead)


def test_no_answer_says_why(ahead: Execution) -> None:
    both = combined(GROWTH, (0.2, CVAR))
    conflict = problem(both, replace(LONG, gross_max=0.5))
    ruin = replace(problem(both), scenarios=np.vstack([R, np.full((1, N), -1.0)]))
    assert solve(conflict, execution=ahead).status is Status.INFEASIBLE
    assert {"budget_min", "gross_max"} <= set(explain(conflict).conflict)
    assert solve(ruin, execution=ahead).status is Status.RUIN


def test_weights_without_bounds_have_a_best_or_not(ahead: Execution) -> None:
    """Where no variance holds them a measure that weighs little does not either."""
    limits, across = Limits(budget_max=1.0, budget_min=1.0), np.eye(N) - 1.0 / N
    held = problem(combined(VARIANCE, (0.1, CVAR)), limits)
    riskless = np.linspace(-1.0, 1.0, N)
    across -= np.outer(riskless, riskless) / (riskless @ riskless)
    loose = replace(
        problem(combined(VARIANCE, (1e-3, CVAR)), limits), covariance=across @ np.cov(R.T) @ across
    )
    proven(held, execution=ahead)
    assert solve(loose, execution=ahead).status is Status.UNBOUNDED


@pytest.mark.parametrize("tail", [CVAR, CDAR, DRAWDOWN], ids=lambda tail: tail.kind.name)
def test_nothing_is_held_where_every_book_loses(ahead: Execution, tail: Objective) -> None:
    """Long or short, a tail that weighs enough leaves cash, where it has its kink: exactly so."""
    asked = problem(combined(VARIANCE, (10.0, tail)), replace(SHORT, budget_min=-1.0))
    found = proven(asked, execution=ahead)
    assert np.all(found.weights == 0.0)


def test_what_cannot_be_part_is_refused() -> None:
    for kind in (Kind.MAX_SHARPE, Kind.RISK_BUDGET):
        with pytest.raises(UnsupportedError, match=kind.name):
            solve(problem(combined(Objective(kind), (0.1, CVAR))))
    with pytest.raises(ValueError, match="positive"):
        solve(problem(combined(GROWTH, (-0.1, CVAR))))
