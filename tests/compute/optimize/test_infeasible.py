"""Conflicts by name, smallest first, and the cheapest relaxation, against brute force."""

from __future__ import annotations

import dataclasses
import math
from itertools import combinations

import numpy as np
import pytest

from compute.optimize import solve
from compute.optimize.infeasibility.conflict import explain
from compute.optimize.infeasibility.norm_cone import STAGES, add_norm
from compute.optimize.linear_program import Builder, LpStatus, maximise
from compute.optimize.problem import (
    DrawdownRisk,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
    Status,
)
from compute.optimize.proof.evaluation import largest_violation

COUNT = 10
SECTOR = np.arange(COUNT) % 5
SECTORS = (SECTOR[None, :] == np.arange(5)[:, None]).astype(float)
NAMES = tuple(f"sector {k}" for k in range(5))
SCENARIOS = np.random.default_rng(0).normal(0.0, 0.01, (120, COUNT))


def _book(**changes: object) -> Problem:
    limits = Limits(
        lower=np.zeros(COUNT), upper=np.full(COUNT, 0.4), budget_min=1.0, budget_max=1.0
    )
    return Problem(
        Objective(ObjectiveKind.MIN_VARIANCE),
        dataclasses.replace(limits, **changes),  # type: ignore[arg-type]
        scenarios=SCENARIOS,
        holdings=np.full(COUNT, 0.1),
    )


def _sectors(minimum: list[float]) -> Rows:
    return Rows(SECTORS, np.array(minimum), np.full(5, np.inf), NAMES)


def test_sector_minima_above_the_budget_are_named() -> None:
    # Goal C8: five minima of 25 % cannot all be met with 100 %.
    found = explain(_book(rows=_sectors([0.25] * 5)))
    assert set(found.conflict) == {"budget_max", *(f"{name} min" for name in NAMES)}
    assert found.smallest
    assert found.violation_min == pytest.approx(0.25, abs=1e-9)
    assert sum(found.relaxation.values()) == pytest.approx(0.25, abs=1e-9)


def test_only_the_minima_that_matter_are_named() -> None:
    found = explain(_book(rows=_sectors([0.6, 0.6, 0.0, 0.0, 0.0])))
    assert set(found.conflict) == {"lower", "budget_max", "sector 0 min", "sector 1 min"}
    # Assets of sectors 0 and 1 need no lower bound for the conflict.
    assert set(found.assets["lower"]) == {2, 3, 4, 7, 8, 9}


def test_of_two_conflicts_the_smaller_is_named() -> None:
    rows = _sectors([0.25] * 5)
    found = explain(_book(rows=rows, gross_max=0.9))
    assert set(found.conflict) == {"budget_min", "gross_max"}


@pytest.mark.parametrize(
    ("changes", "conflict"),
    [
        ({"upper": np.full(COUNT, 0.09)}, {"budget_min", "upper"}),
        ({"lower": np.full(COUNT, 0.11)}, {"budget_max", "lower"}),
        ({"lower": np.where(np.arange(COUNT) == 3, 0.5, 0.0)}, {"lower", "upper"}),
        ({"gross_max": 0.5}, {"budget_min", "gross_max"}),
        ({"volatility_max": 0.001}, {"budget_min", "volatility_max"}),
        ({"var_max": 0.001}, {"budget_min", "var_max"}),
        ({"cvar_max": 0.001}, {"budget_min", "cvar_max"}),
        ({"cdar_max": 0.001}, {"budget_min", "cdar_max"}),
        ({"drawdown_max": 0.001}, {"budget_min", "drawdown_max"}),
        (
            {"turnover_max": 0.1, "lower": np.where(np.arange(COUNT) == 3, 0.3, 0.0)},
            {"turnover_max", "lower"},
        ),
        (
            {"trade_max": np.full(COUNT, 0.05), "budget_min": 1.6, "budget_max": 2.0},
            {"trade_max", "budget_min"},
        ),
    ],
)
def test_pairs(changes: dict[str, object], conflict: set[str]) -> None:
    problem = _book(**changes)
    found = explain(problem)
    assert set(found.conflict) == conflict
    assert found.smallest
    assert found.violation_min > 1e-6
    assert found.relaxation


def test_drawdown_risk_takes_part() -> None:
    limits = {
        "lower": np.full(COUNT, 0.35),
        "budget_min": None,
        "budget_max": None,
        "drawdown_risk": DrawdownRisk(40.0),
    }
    found = explain(_book(**limits))
    assert set(found.conflict) == {"lower", "drawdown_risk"}


def test_feasible_limits_have_no_conflict() -> None:
    problem = _book(rows=_sectors([0.2] * 5), volatility_max=0.02, turnover_max=1.5)
    found = explain(problem)
    assert found.conflict == ()
    assert found.relaxation == {}
    assert largest_violation(problem, found.weights) <= 1e-8


def test_soft_rows_take_no_part() -> None:
    soft = dataclasses.replace(_sectors([0.25] * 5), price=np.full(5, 1.0))
    assert explain(_book(rows=soft)).conflict == ()


def test_relaxing_by_what_is_said_is_enough() -> None:
    problem = _book(rows=_sectors([0.3] * 5), turnover_max=0.2)
    found = explain(problem)
    limits, rows = problem.limits, problem.limits.rows
    assert rows is not None
    given = found.relaxation
    minimum = [rows.row_min[k] - given.get(f"{name} min", 0.0) for k, name in enumerate(NAMES)]
    relaxed = dataclasses.replace(
        limits,
        rows=_sectors(minimum),
        budget_min=1.0 - given.get("budget_min", 0.0),
        budget_max=1.0 + given.get("budget_max", 0.0),
        turnover_max=0.2 + given.get("turnover_max", 0.0),
        lower=np.array([-given.get(f"lower[{i}]", 0.0) for i in range(COUNT)]),
        upper=np.array([0.4 + given.get(f"upper[{i}]", 0.0) for i in range(COUNT)]),
    )
    again = dataclasses.replace(problem, limits=relaxed)
    assert largest_violation(again, found.weights) <= 1e-8


def _row_problem(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, Problem]:
    matrix = rng.integers(-2, 3, (count, 3)).astype(float)
    bound = rng.integers(-3, 2, count).astype(float)
    rows = Rows(matrix, np.full(count, -np.inf), bound, tuple(f"row {k}" for k in range(count)))
    problem = Problem(
        Objective(ObjectiveKind.MAX_RETURN), Limits(rows=rows), mean=np.zeros(3), holdings=None
    )
    return matrix, bound, problem


def _feasible(matrix: np.ndarray, bound: np.ndarray, kept: tuple[int, ...]) -> bool:
    builder = Builder()
    builder.columns("x", 3, -np.inf, np.inf)
    builder.rows("rows", {"x": matrix[list(kept)]}, -np.inf, bound[list(kept)])
    return maximise(builder.build()).status is LpStatus.OPTIMAL


@pytest.mark.parametrize("seed", range(12))
def test_smallest_conflict_against_brute_force(seed: int) -> None:
    matrix, bound, problem = _row_problem(np.random.default_rng(seed), 8)
    found = explain(problem)
    smallest = next(
        (
            size
            for size in range(1, 9)
            if any(not _feasible(matrix, bound, kept) for kept in combinations(range(8), size))
        ),
        0,
    )
    assert len(found.conflict) == smallest
    if smallest:
        kept = tuple(int(name.split()[1]) for name in found.conflict)
        assert not _feasible(matrix, bound, kept)


def test_polygon_norm_is_as_close_as_it_says() -> None:
    rng = np.random.default_rng(3)
    matrix, weights = rng.normal(size=(7, 4)), rng.normal(size=4)
    builder = Builder()
    builder.columns("weights", 4, weights, weights)
    column = add_norm(builder, "n", matrix)
    builder.columns("least", 1, -np.inf, np.inf, -1.0)
    builder.rows("tie", {column: np.ones((1, 1)), "least": -np.ones((1, 1))}, -np.inf, 0.0)
    value, exact = -maximise(builder.build()).value, float(np.linalg.norm(matrix @ weights))
    # The norm of 7 numbers is a tree of 3 levels, each a polygon of 2^(STAGES + 1) sides.
    least = math.cos(math.pi / 2 ** (STAGES + 1)) ** 3
    assert exact * least - 1e-8 <= value <= exact + 1e-8
    assert 1.0 - least < 1e-6


def test_crossed_bounds_conflict_also_where_the_budget_fixes_every_name() -> None:
    """The smallest weights add up to the budget, and two of them are above the largest."""
    upper = np.full(COUNT, 0.4)
    upper[:2] = 0.05
    problem = _book(lower=np.full(COUNT, 0.1), upper=upper)
    assert solve(problem).status is Status.INFEASIBLE
    assert explain(problem).conflict
