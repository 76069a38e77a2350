"""Every solve looks at its time limit between pieces of work, and ends there without an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest

from compute.optimize import solve, solve_batch
from compute.optimize.execution import Execution
from compute.optimize.frontier import trace
from compute.optimize.infeasibility.conflict import explain
from compute.optimize.lots.whole_lots import LotRules, round_to_lots
from compute.optimize.problem import Limits, Objective, ObjectiveKind, Problem
from compute.optimize.proof.certificate import certify
from compute.optimize.sensitivity.shadow_prices import shadow_prices
from compute.optimize.time_limit import (
    ENDLESS,
    AbandonedError,
    OutOfTimeError,
    TimeLimit,
    TooLongError,
)
from tests.compute.optimize.tail_problems import returns

Kind = ObjectiveKind
Work = Callable[[TimeLimit], object]


@dataclass
class Clock:
    """Time that passes by one second a look."""

    total_s: float = np.inf
    looks: int = 0

    def left_s(self) -> float:
        self.looks += 1
        return self.total_s - self.looks

    def limit(self) -> TimeLimit:
        return TimeLimit(self.left_s)


def book(kind: Kind, **limits: float) -> Problem:
    scenarios = returns(np.random.default_rng(5), 60, 5) + 0.001
    box = Limits(lower=np.zeros(5), upper=np.full(5, 0.6), budget_max=1.0, budget_min=1.0)
    tail = 0.9 if kind in (Kind.MIN_CVAR, Kind.MIN_CDAR) else 0.95
    objective = Objective(kind, tail=tail, risk_aversion=3.0)
    return Problem(objective, replace(box, **limits), scenarios=scenarios)  # type: ignore[arg-type]


GROWTH, CVAR = book(Kind.LOG_GROWTH), book(Kind.MIN_CVAR)
CONFLICT = book(Kind.LOG_GROWTH, budget_min=4.0, budget_max=5.0)
WORKS: dict[str, Work] = {
    "smooth": lambda limit: solve(GROWTH, execution=Execution(limit)),
    "smooth batch": lambda limit: solve_batch([GROWTH] * 40, execution=Execution(limit)),
    "linear": lambda limit: solve(CVAR, execution=Execution(limit)),
    "drawdown": lambda limit: solve(book(Kind.MIN_CDAR), execution=Execution(limit)),
    "cuts": lambda limit: solve(book(Kind.LOG_GROWTH, cvar_max=0.012), execution=Execution(limit)),
    "frontier": lambda limit: trace(CVAR, 20, partial(solve_batch, execution=Execution(limit))),
    "explanation": lambda limit: explain(CONFLICT, limit),
    "prices": lambda limit: shadow_prices(GROWTH, solve(GROWTH).weights, time_limit=limit),
    "proof": lambda limit: certify(GROWTH, solve(GROWTH), time_limit=limit),
    "lots": lambda limit: round_to_lots(
        GROWTH, solve(GROWTH).weights, LotRules(np.full(5, 0.03)), time_limit=limit
    ),
}


@pytest.mark.parametrize("name", WORKS)
def test_a_solve_ends_at_any_look_at_its_limit(name: str) -> None:
    work, whole = WORKS[name], Clock()
    work(whole.limit())
    assert whole.looks > 0
    for total in sorted({1, (whole.looks + 1) // 2, whole.looks}):
        clock = Clock(total)
        with pytest.raises(OutOfTimeError):
            work(clock.limit())
        # The other problems of a batch look at it too, but no work begins any more.
        assert clock.looks <= total + 40


@pytest.mark.parametrize("name", WORKS)
def test_nobody_waiting_ends_a_solve(name: str) -> None:
    with pytest.raises(AbandonedError):
        WORKS[name](TimeLimit(is_cancelled=lambda: True))


def test_a_frontier_looks_at_every_point() -> None:
    few, many = Clock(), Clock()
    trace(CVAR, 5, partial(solve_batch, execution=Execution(few.limit())))
    trace(CVAR, 25, partial(solve_batch, execution=Execution(many.limit())))
    assert many.looks - few.looks >= 20


def test_a_frontier_that_cannot_end_in_time_is_refused_after_its_second_point() -> None:
    clock = Clock(60)
    solver = partial(solve_batch, execution=Execution(clock.limit()))
    with pytest.raises(TooLongError, match="50 points of 5 instruments and 60 scenarios"):
        trace(CVAR, 50, solver, clock.limit())
    assert clock.looks < 40


def test_a_piece_that_cannot_look_gets_what_is_left() -> None:
    assert ENDLESS.least(3.0) == 3.0
    assert TimeLimit(lambda: 2.0).least(3.0) == 2.0
    with pytest.raises(OutOfTimeError):
        TimeLimit(lambda: 0.0).least(3.0)
