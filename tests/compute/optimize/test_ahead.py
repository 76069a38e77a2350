"""Programs compiled ahead: every structure fits a slot, and its answer is the problem's own."""

from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np
import pytest

from compute.optimize import solve, solve_batch
from compute.optimize.execution import Execution, JointShapes
from compute.optimize.interior_point.compiled_shapes import slots
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
from compute.shapes import NotCompiledError

Kind = ObjectiveKind


@pytest.fixture
def compiles() -> Iterator[list[str]]:
    """What XLA compiles during a test."""
    seen: list[str] = []

    def on_event(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del duration_secs, kwargs
        if event.endswith("backend_compile_duration"):
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(on_event)
    yield seen
    jax.monitoring.unregister_event_duration_listener(on_event)


def book(kind: Kind, n: int, periods: int, seed: int = 0, **limits: object) -> Problem:
    """A random problem with costs, sectors and holdings."""
    rng = np.random.default_rng(seed)
    returns = 0.02 * rng.standard_normal((periods, n)) + 0.002
    sectors = Rows(np.eye(2, n), np.full(2, -np.inf), np.full(2, 0.2), ("one", "two"))
    return Problem(
        Objective(kind, risk_aversion=3.0),
        Limits(
            **{
                "lower": np.zeros(n),
                "upper": np.full(n, 0.4),
                "budget_max": 1.0,
                "rows": sectors,
                **limits,
            }  # type: ignore[arg-type]
        ),
        Costs(linear=np.full(n, 1e-4)),
        scenarios=returns,
        holdings=np.full(n, 0.5 / n),
    )


MIX = [
    book(Kind.LOG_GROWTH, 5, 40),
    book(Kind.LOG_GROWTH, 16, 64, gross_max=0.8, turnover_max=0.3),
    book(Kind.LOG_GROWTH, 9, 50, drawdown_risk=DrawdownRisk.from_probability(0.8, 0.1)),
    book(Kind.LOG_GROWTH, 6, 60, cvar_max=0.01),
    book(Kind.CRRA, 7, 33, volatility_max=0.01),
    book(Kind.MEAN_VARIANCE, 11, 64, var_max=0.012),
    book(Kind.MEAN_VARIANCE, 4, 30, drawdown_risk=DrawdownRisk.from_probability(0.9, 0.2)),
    book(Kind.QUADRATIC_GROWTH, 3, 20, lower=np.full(3, -0.3), gross_max=0.5),
    book(Kind.MIN_VARIANCE, 8, 30, budget_min=1.0),
    book(Kind.MAX_RETURN, 8, 30, volatility_max=0.005),
    book(Kind.MAX_SHARPE, 10, 60, budget_min=1.0),
    book(Kind.MIN_CVAR, 12, 64, budget_min=0.9),
    book(Kind.MIN_CDAR, 5, 50, budget_min=0.9),
    book(Kind.MAX_RETURN, 6, 50, cdar_max=0.03),
    replace(
        book(Kind.RISK_BUDGET, 6, 50, budget_min=1.0, rows=None),
        costs=Costs(),
        holdings=None,
    ),
    book(
        Kind.MAX_SHARPE,
        10,
        60,
        budget_min=0.3,
        drawdown_risk=DrawdownRisk.from_probability(0.98, 0.0003),
    ),
]


@pytest.mark.parametrize("problem", MIX, ids=lambda problem: problem.objective.kind.name)
def test_every_structure_is_solved_and_proven_without_compiling(
    ahead: Execution, compiles: list[str], problem: Problem
) -> None:
    solution = solve(problem, execution=ahead)
    assert solution.status is Status.OPTIMAL
    assert certify(problem, solution).is_optimal
    assert compiles == []


@pytest.mark.parametrize("n", [1, 20, 32, 33, 128, 512])
@pytest.mark.parametrize("m", [1, 32, 33, 192])
def test_books_of_any_names_and_limits_have_a_slot_and_small_ones_a_small_one(
    n: int, m: int
) -> None:
    shapes = JointShapes()
    holding = [
        slot for slot in slots(shapes) if slot.assets >= n and slot.rows >= m and slot.scenarios
    ]
    assert holding
    if n <= 32 and m <= 32:
        assert (holding[0].assets, holding[0].rows) == (32, 32)


def test_every_outcome_of_a_dozen_bets_has_a_slot_that_is_no_large_one() -> None:
    shapes = JointShapes()
    for names in (12, 96, 128):
        count = shapes.quick_scenarios(names)
        assert count == 4096
        room = [s for s in slots(shapes) if s.assets >= names and s.scenarios >= count]
        assert room[0].assets == 128
    assert shapes.quick_scenarios(129) == 1024
    assert JointShapes((16,), (64,)).quick_scenarios(12) == 64


@pytest.mark.parametrize("problem", [MIX[1], MIX[10]], ids=["growth", "ratio"])
def test_padding_moves_nothing(ahead: Execution, problem: Problem) -> None:
    padded = solve(problem, execution=ahead)
    own = solve(problem)
    assert padded.iterations == own.iterations
    np.testing.assert_allclose(padded.weights, own.weights, rtol=0.0, atol=1e-12)


def test_batches_and_infeasible_problems_compile_nothing(
    ahead: Execution, compiles: list[str]
) -> None:
    conflict = book(Kind.LOG_GROWTH, 5, 40, budget_min=0.9, gross_max=0.5)
    tails = book(Kind.MIN_CVAR, 5, 40, budget_min=0.9, gross_max=0.5)
    answers = solve_batch([MIX[0], MIX[11], conflict, tails], execution=ahead)
    assert [a.status for a in answers] == [Status.OPTIMAL] * 2 + [Status.INFEASIBLE] * 2
    assert compiles == []


@pytest.mark.parametrize(
    "problem",
    [
        book(Kind.LOG_GROWTH, 17, 64),
        book(Kind.LOG_GROWTH, 5, 65),
        replace(book(Kind.RISK_BUDGET, 17, 64, rows=None), costs=Costs(), holdings=None),
    ],
)
def test_more_than_the_largest_shape_is_said_not_compiled(
    ahead: Execution, compiles: list[str], problem: Problem
) -> None:
    with pytest.raises(NotCompiledError, match="more than"):
        solve(problem, execution=ahead)
    assert compiles == []
