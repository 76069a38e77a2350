"""Whole lots, smallest trades and few names, against enumeration and the rules themselves."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reference_format import load
from compute.optimize import solve
from compute.optimize.lots.outer_approximation import Effort, IntegerRules, solve_integer
from compute.optimize.lots.whole_lots import LotRules, round_to_lots
from compute.optimize.problem import Costs, Limits, Objective, ObjectiveKind, Problem, Rows
from compute.optimize.proof.evaluation import largest_violation, objective_value

REFERENCE = Path(__file__).parents[2] / "reference"
COVARIANCE = np.array([[0.04, 0.006, 0], [0.006, 0.09, 0.01], [0, 0.01, 0.0225]])
MEAN = np.array([0.05, 0.08, 0.03])
LOT = np.array([0.11, 0.13, 0.09])


def _book(**limits: object) -> Problem:
    return Problem(
        Objective(ObjectiveKind.MEAN_VARIANCE, 1.0),
        Limits(lower=np.zeros(3), upper=np.ones(3), budget_max=1.0, **limits),  # type: ignore[arg-type]
        Costs(linear=np.full(3, 0.002)),
        mean=MEAN,
        covariance=COVARIANCE,
        holdings=np.array([0.11, 0.0, 0.27]),
    )


CONTINUOUS = np.array([27 / 59, 32 / 59, 0.0])


def _enumerated(problem: Problem, keep: object = None) -> float:
    best = -np.inf
    for lots in product(range(10), range(8), range(12)):
        weights = LOT * np.array(lots)
        if largest_violation(problem, weights) <= 1e-9 and (keep is None or keep(weights)):  # type: ignore[operator]
            best = max(best, objective_value(problem, weights))
    return best


def test_lots_are_the_best_of_all_lots() -> None:
    problem = _book()
    found = round_to_lots(problem, CONTINUOUS, LotRules(LOT), tolerance=1e-9)
    assert found.lots is not None
    assert found.objective == pytest.approx(_enumerated(problem), rel=1e-7)
    assert found.violation == 0.0
    assert found.gap <= 1e-8
    np.testing.assert_array_equal(found.weights, LOT * found.lots)


def test_names_and_smallest_positions() -> None:
    problem = _book()
    rules = LotRules(LOT, names_max=1, position_min=np.full(3, 0.2))
    found = round_to_lots(problem, CONTINUOUS, rules, tolerance=1e-9)
    assert found.weights is not None

    def keep(weights: np.ndarray) -> bool:
        held = weights > 0
        return bool(held.sum() <= 1 and np.all(weights[held] >= 0.2))

    assert found.objective == pytest.approx(_enumerated(problem, keep), rel=1e-7)


def test_smallest_trades_leave_alone_close_or_move_enough() -> None:
    problem = _book()
    rules = LotRules(LOT, trade_min=np.full(3, 0.3))
    found = round_to_lots(problem, CONTINUOUS, rules, tolerance=1e-9)
    assert found.weights is not None
    assert problem.holdings is not None
    holdings = problem.holdings

    def keep(weights: np.ndarray) -> bool:
        moved = np.abs(weights - holdings)
        return bool(np.all((moved < 1e-12) | (weights == 0.0) | (moved >= 0.3)))

    assert keep(found.weights)
    assert found.objective == pytest.approx(_enumerated(problem, keep), rel=1e-7)


def test_a_budget_to_the_last_cent_is_kept_where_lots_add_up_to_it() -> None:
    """1 x 0.11 + 2 x 0.13 + 7 x 0.09 = 1, for one."""
    problem = _book(budget_min=1.0)
    found = round_to_lots(problem, CONTINUOUS, LotRules(LOT), tolerance=1e-9)
    assert found.weights is not None
    assert found.cash_room == 0.0
    assert found.weights.sum() == pytest.approx(1.0, abs=1e-9)
    assert found.objective == pytest.approx(_enumerated(problem), rel=1e-7)


def test_it_gives_way_where_none_do_and_it_is_said() -> None:
    """Sums of 0.15, 0.3 and 0.45 are no whole."""
    problem = _book(budget_min=1.0)
    found = round_to_lots(problem, CONTINUOUS, LotRules(np.array([0.3, 0.45, 0.15])))
    assert found.weights is not None
    assert found.cash_room == pytest.approx(0.45)
    assert 1.0 - 0.45 <= found.weights.sum() <= 1.0


FOUR = np.array([[1, 0.7, 0.5, 0.3], [0.7, 1, 0.6, 0.2], [0.5, 0.6, 1, 0.4], [0.3, 0.2, 0.4, 1]])
DEVIATION = np.array([0.01, 0.012, 0.02, 0.015])


@pytest.mark.parametrize(
    ("covariance", "lot", "budget"),
    [
        (FOUR * np.outer(DEVIATION, DEVIATION), (0.01, 0.023, 0.047, 0.091), (0.5, 0.9)),
        (FOUR * np.outer(DEVIATION, DEVIATION), (0.01, 0.023, 0.047, 0.091), (0.4999, 0.5005)),
        (np.diag([0.01**2, 0.0101**2]), (0.001, 0.3), (0.5, 0.52)),
        (np.diag([0.01**2, 0.0101**2]), (0.002, 0.35), (0.6, 0.61)),
        (np.diag([0.01**2, 0.0101**2]), (0.005, 0.17), (0.5, 0.505)),
    ],
)
def test_the_gap_is_to_all_lots_also_far_from_the_optimum(
    covariance: np.ndarray, lot: tuple[float, ...], budget: tuple[float, float]
) -> None:
    """Coarse lots beside fine ones, all of them enumerated; the budget is never lowered."""
    low, high = budget
    problem = Problem(
        Objective(ObjectiveKind.MIN_VARIANCE),
        Limits(
            lower=np.zeros(len(lot)),
            upper=np.full(len(lot), np.inf),
            budget_min=low,
            budget_max=high,
        ),
        covariance=covariance,
    )
    weights = solve(problem).weights
    found = round_to_lots(problem, weights, LotRules(np.array(lot)))
    assert found.weights is not None
    books = np.array(list(product(*(range(int(high / size) + 2) for size in lot)))) * np.array(lot)
    total = books.sum(axis=1)
    books = books[(total >= low - 1e-12) & (total <= high + 1e-12)]
    best = float(np.einsum("bi,ij,bj->b", books, covariance, books).min())
    assert found.cash_room == 0.0
    assert low - 1e-9 <= found.weights.sum() <= high + 1e-9
    better = (found.objective - best) / objective_value(problem, weights)
    assert -1e-9 <= better <= found.gap + 1e-9
    assert better <= 1e-4


def test_no_lots_within_the_limits_is_said_and_not_guessed() -> None:
    rows = Rows(np.array([[1.0, 0, 0]]), np.array([0.12]), np.array([0.2]), ("narrow",))
    found = round_to_lots(_book(rows=rows), np.array([0.15, 0.3, 0.0]), LotRules(LOT))
    assert found.lots is None
    assert found.weights is None
    with pytest.raises(ValueError, match="positive"):
        round_to_lots(_book(), CONTINUOUS, LotRules(np.zeros(3)))


@pytest.mark.parametrize("cap", ["volatility_max", "cvar_max"])
def test_risk_limits_hold_on_the_lots(cap: str) -> None:
    rng = np.random.default_rng(5)
    scenarios = rng.normal(0.001, 0.02, (80, 4))
    free = Problem(
        Objective(ObjectiveKind.LOG_GROWTH),
        Limits(lower=np.zeros(4), upper=np.full(4, 0.6), budget_max=1.0),
        scenarios=scenarios,
    )
    limits = Limits(
        lower=np.zeros(4),
        upper=np.full(4, 0.6),
        budget_max=1.0,
        **{cap: 0.008},  # type: ignore[arg-type]
    )
    problem = Problem(free.objective, limits, scenarios=scenarios)
    start = np.full(4, 0.1)
    rules = IntegerRules(lot=np.full(4, 0.017), reach_lots=None)
    found = solve_integer(problem, start, rules, tolerance=1e-4, effort=Effort(rounds_max=40))
    assert found.weights is not None
    assert largest_violation(problem, found.weights) <= 1e-9
    assert objective_value(problem, found.weights) >= objective_value(problem, np.zeros(4))


@pytest.mark.reference
def test_a_supplied_book_in_lots() -> None:
    reference = load(REFERENCE / "P2_mv_utility_costs_N20.npz")
    assert reference.weights is not None
    lot = np.random.default_rng(0).uniform(5e-4, 5e-3, 20)
    found = round_to_lots(reference.problem, reference.weights, LotRules(lot), tolerance=1e-3)
    assert found.weights is not None
    assert found.violation <= 1e-9
    assert 0.0 <= found.shortfall <= 0.01
    assert found.gap <= found.shortfall + 1e-12
