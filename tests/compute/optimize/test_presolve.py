"""Bounds that limits imply: never too tight, and one answer whatever is written for no bound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from compute.optimize import solve
from compute.optimize.execution import Execution
from compute.optimize.implied_bounds import implied_box, sums_of
from compute.optimize.infeasibility.conflict import explain
from compute.optimize.presolve import presolved, without_redundant
from compute.optimize.problem import (
    Costs,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
    Status,
)
from compute.optimize.proof.certificate import certify, certify_weights
from compute.optimize.risk_box import risk_box
from compute.optimize.sensitivity.shadow_prices import shadow_prices

Kind = ObjectiveKind
WRITTEN = (None, 1e4, 1e6, 1e9, 1e12, 1e30)
RNG = np.random.default_rng(8)
N = 4
RETURNS = 0.02 * RNG.standard_normal((60, N)) + np.linspace(0.004, 0.001, N)


def least_and_most(problem: Problem, asset: int) -> tuple[float, float]:
    """The range of one weight over the linear limits, by linear programs on w = long - short."""
    limits, n = problem.limits, problem.size
    sums = sums_of(problem)
    rows, bound = [], []
    for row, low, high in zip(sums.rows, sums.row_min, sums.row_max, strict=True):
        rows += [np.concatenate([row, np.zeros(2 * n)]), np.concatenate([-row, np.zeros(2 * n)])]
        bound += [high, -low]
    eye, none = np.eye(n), np.zeros((n, n))
    held = sums.holdings
    for centre, block in ((np.zeros(n), [eye, none]), (held, [none, eye])):
        for sign in (1.0, -1.0):
            rows += list(np.hstack([sign * eye, *(-part for part in block)]))
            bound += list(sign * centre)
    rows.append(np.concatenate([np.zeros(n), np.ones(n), np.zeros(n)]))
    rows.append(np.concatenate([np.zeros(2 * n), np.ones(n)]))
    bound += [sums.gross, sums.turnover]
    known = np.isfinite(bound)
    assert limits.lower is not None
    assert limits.upper is not None
    box = [*zip(limits.lower, limits.upper, strict=True), *[(0.0, None)] * (2 * n)]
    ends = []
    for sense in (1.0, -1.0):
        cost = np.zeros(3 * n)
        cost[asset] = sense
        found = linprog(cost, np.array(rows)[known], np.array(bound)[known], bounds=box)
        ends.append(sense * found.fun if found.status == 0 else -sense * np.inf)
    return ends[0], ends[1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_no_feasible_weight_is_outside_the_implied_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    inside = rng.normal(0.0, 0.5, n)
    matrix = rng.normal(size=(2, n)) * (rng.random((2, n)) < 0.7)
    value = matrix @ inside

    def maybe(value: float, absent: float) -> float:
        return value if rng.random() < 0.6 else absent

    lower = np.array([maybe(w - rng.random(), -np.inf) for w in inside])
    upper = np.array([maybe(w + rng.random(), np.inf) for w in inside])
    held = rng.normal(0.0, 0.5, n)
    limits = Limits(
        lower=lower,
        upper=upper,
        budget_max=maybe(float(inside.sum()) + 0.1, np.inf),
        budget_min=maybe(float(inside.sum()) - 0.1, -np.inf),
        gross_max=maybe(float(np.abs(inside).sum()) * 1.2, np.inf),
        turnover_max=maybe(float(np.abs(inside - held).sum()) + 0.1, np.inf),
        rows=Rows(matrix, value - 0.2, value + 0.2, ("a", "b")),
    )
    problem = Problem(Objective(Kind.MAX_RETURN), limits=limits, mean=np.ones(n), holdings=held)
    low, high = implied_box(lower, upper, sums_of(problem))
    assert np.all(low >= lower)
    assert np.all(high <= upper)
    for asset in range(n):
        least, most = least_and_most(problem, asset)
        assert low[asset] <= least + 1e-9
        assert high[asset] >= most - 1e-9


def test_cash_bounds_longs_and_a_net_floor_then_bounds_shorts() -> None:
    rows = Rows(
        np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]),
        np.array([-np.inf, 0.0]),
        np.array([1.0, np.inf]),
        ("cash", "net"),
    )
    limits = Limits(
        lower=np.array([0.0, 0.0, -np.inf]), upper=np.array([np.inf, np.inf, 0.0]), rows=rows
    )
    problem = Problem(Objective(Kind.MAX_RETURN), limits=limits, mean=np.ones(3))
    low, high = implied_box(limits.lower, limits.upper, sums_of(problem))  # type: ignore[arg-type]
    np.testing.assert_allclose(low, [0.0, 0.0, -2.0], atol=1e-9)
    np.testing.assert_allclose(high, [1.0, 1.0, 0.0], atol=1e-9)


BOUNDED_BY: dict[str, dict[str, Any]] = {
    "budget": {"budget_max": 1.0},
    "cash row": {
        "rows": Rows(np.full((1, N), 1.001), np.array([-np.inf]), np.array([1.0]), ("cash",))
    },
    "gross": {"gross_max": 0.9},
    "turnover": {"turnover_max": 0.8},
    "groups": {
        "rows": Rows(
            np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]),
            np.full(2, -np.inf),
            np.array([0.5, 0.3]),
            ("first", "second"),
        )
    },
}
OBJECTIVES = {
    "growth": Objective(Kind.LOG_GROWTH),
    "half Kelly": Objective(Kind.CRRA, risk_aversion=2.0),
    "mean-variance": Objective(Kind.MEAN_VARIANCE, risk_aversion=30.0),
    "CVaR": Objective(Kind.MIN_CVAR),
    "growth less CVaR": Objective(
        Kind.COMBINATION, terms=((1.0, Objective(Kind.LOG_GROWTH)), (0.1, Objective(Kind.MIN_CVAR)))
    ),
}


@pytest.mark.parametrize("limit", BOUNDED_BY)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_is_written_for_no_bound_does_not_matter(
    ahead: Execution, name: str, limit: str
) -> None:
    objective = OBJECTIVES[name]
    floor = {"budget_min": 0.6} if objective.kind is Kind.MIN_CVAR else {}
    limits = Limits(lower=np.zeros(N), upper=np.ones(N), **(floor | BOUNDED_BY[limit]))
    problem = Problem(objective, limits=limits, scenarios=RETURNS, holdings=np.full(N, 0.02))
    problem = replace(problem, costs=Costs(linear=np.full(N, 1e-5)))
    best = solve(problem, execution=ahead)
    assert best.status is Status.OPTIMAL
    for written in WRITTEN:
        upper = None if written is None else np.full(N, written)
        asked = replace(problem, limits=replace(limits, upper=upper))
        found = solve(asked, execution=ahead)
        proof = certify(asked, found)
        assert proof.is_optimal, (written, proof)
        np.testing.assert_allclose(found.weights, best.weights, atol=1e-8)
        prices = shadow_prices(asked, found.weights)
        assert not [key for key in prices if key.startswith("upper")], prices


@pytest.mark.parametrize("limit", ["volatility_max", "var_max"])
@pytest.mark.parametrize("kind", [Kind.MAX_RETURN, Kind.MEAN_VARIANCE, Kind.LOG_GROWTH])
def test_limits_of_risk_bound_a_book_of_both_signs(
    kind: Kind, limit: str, ahead: Execution
) -> None:
    objective = (
        Objective(kind, risk_aversion=3.0) if kind is Kind.MEAN_VARIANCE else Objective(kind)
    )

    def asked(written: float) -> Problem:
        box: dict[str, Any] = {"lower": np.full(N, -written), "upper": np.full(N, written)}
        limits = Limits(**box, **{limit: 0.01}, budget_max=written)
        return Problem(objective, limits=limits, scenarios=RETURNS)

    best = solve(asked(5.0), execution=ahead)
    assert certify(asked(5.0), best).is_optimal
    assert np.abs(best.weights).max() < 4.0
    for written in (1e4, 1e6, 1e9, 1e12):
        found = solve(asked(written), execution=ahead)
        proof = certify(asked(written), found)
        assert proof.is_optimal, (written, proof)
        assert proof.bounded
        np.testing.assert_allclose(found.weights, best.weights, atol=1e-8)


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_bounds_of_risk_are_never_too_tight(seed: int) -> None:
    """The book with the largest weight under each limit, in closed form, is inside them."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    factors = rng.standard_normal((n, int(rng.integers(1, n + 1))))
    covariance = factors @ factors.T + np.diag(rng.choice([0.0, 1e-4, 1.0], n))
    mean = 0.3 * rng.standard_normal(n) * (rng.random() < 0.7)
    given_limits = [Limits(volatility_max=0.2), Limits(var_max=0.3)]
    if np.linalg.cond(covariance) > 1e10:
        for limits in given_limits:
            null = np.linalg.eigh(covariance)[1][:, 0]
            assert np.all(np.isinf(risk_box(limits, covariance, mean)[np.abs(null) > 1e-6]))
        return
    inverse = np.linalg.inv(covariance)
    most = 0.2 * np.sqrt(np.diag(inverse))
    np.testing.assert_array_less(most, risk_box(given_limits[0], covariance, mean))
    bound = risk_box(given_limits[1], covariance, mean)
    for i in range(n):
        for direction in (*inverse, *rng.standard_normal((20, n))):
            book = np.sign(direction[i]) * direction if direction[i] else direction
            loss = 1.6448536269514722 * np.sqrt(book @ covariance @ book) - mean @ book
            if loss > 0.0:  # the largest multiple that the limit allows
                assert abs(0.3 / loss * book[i]) < bound[i]
            else:
                assert np.isinf(bound[i])


def test_a_zero_book_is_no_proof_that_nothing_is_to_be_had() -> None:
    """Its gap is what the best book earns, however large the box."""
    for written in (1.0, 1e4, 1e6):
        limits = Limits(lower=np.zeros(N), upper=np.full(N, written), budget_max=1.0)
        problem = Problem(Objective(Kind.LOG_GROWTH), limits=limits, scenarios=RETURNS)
        proof = certify_weights(problem, np.zeros(N))
        assert not proof.is_optimal
        assert 1e-3 < proof.gap < 1e-2
        assert proof.gap_relative == proof.gap  # the objective is 0


def test_the_relative_gap_is_the_gap_over_the_objective(ahead: Execution) -> None:
    limits = Limits(lower=np.zeros(N), upper=np.full(N, 1e6), budget_max=1.0)
    problem = Problem(Objective(Kind.LOG_GROWTH), limits=limits, scenarios=RETURNS)
    best = solve(problem, execution=ahead)
    near = certify_weights(problem, best.weights * (1.0 - 1e-6))
    assert near.gap_relative == pytest.approx(near.gap / near.objective, rel=1e-12)
    assert 1e-7 < near.gap_relative < 1e-5
    assert not near.is_optimal


def test_a_book_that_nothing_bounds_is_unbounded(ahead: Execution) -> None:
    limits = Limits(lower=np.full(N, -1e30), upper=np.full(N, 1e30))
    problem = Problem(Objective(Kind.MAX_RETURN), limits=limits, mean=np.linspace(0.1, 0.2, N))
    assert solve(problem, execution=ahead).status is Status.UNBOUNDED
    stated = presolved(problem)
    assert stated.open_high.all()
    assert stated.open_low.all()
    finite = replace(problem, limits=Limits(lower=np.zeros(N), upper=np.full(N, 2e4)))
    np.testing.assert_allclose(solve(finite, execution=ahead).weights, np.full(N, 2e4), rtol=1e-9)


def test_conflicts_are_told_by_the_limits_that_conflict() -> None:
    limits = Limits(
        lower=np.zeros(N), upper=np.full(N, 1e30), budget_min=0.9, budget_max=1.0, gross_max=0.5
    )
    problem = Problem(Objective(Kind.MAX_RETURN), limits=limits, mean=np.ones(N))
    why = explain(without_redundant(problem))
    assert set(why.conflict) == {"budget_min", "gross_max"}
    assert why.violation_min == pytest.approx(0.4, abs=1e-9)


@pytest.mark.parametrize("name", ["budget_max", "gross_max", "turnover_max", "row"])
@pytest.mark.parametrize("kind", [Kind.LOG_GROWTH, Kind.MAX_RETURN, Kind.MIN_CVAR])
def test_a_bound_on_a_sum_that_no_book_reaches_changes_nothing(kind: Kind, name: str) -> None:
    """Lines of both sides, bounded by their gross alone, beside 1e9 for something else."""
    limits = Limits(
        lower=np.array([-1e9, 0.0, 0.0, -1e9]),
        upper=np.array([0.0, 1e9, 1e9, 1e9]),
        gross_max=1.0,
        rows=Rows(np.eye(1, N, 1), np.array([0.1]), np.array([np.inf]), ("least",)),
    )
    problem = Problem(Objective(kind), limits, scenarios=RETURNS)
    expected = solve(problem)
    rows = Rows(np.ones((1, N)), np.array([-1e9]), np.array([1e9]), ("far",))
    far = replace(limits, gross_max=1.0, rows=limits.rows)
    if name == "row":
        assert limits.rows is not None
        matrix = np.vstack([limits.rows.matrix, rows.matrix])
        both = Rows(matrix, np.array([0.1, -1e9]), np.array([np.inf, 1e9]), ("least", "far"))
        far = replace(far, rows=both)
    elif name != "gross_max":
        far = replace(far, **{name: 1e9})
    else:
        far = replace(far, gross_max=1e9, budget_max=1.0, lower=np.zeros(N))
        expected = solve(replace(problem, limits=replace(far, gross_max=None)))
    found = solve(replace(problem, limits=far))
    assert found.status is Status.OPTIMAL
    assert certify(replace(problem, limits=far), found).is_optimal
    assert found.objective == pytest.approx(expected.objective, rel=1e-9, abs=1e-12)


def test_limits_that_contradict_each_other_do_so_in_a_wide_box_too() -> None:
    """Short only, at most 1 in all, and 0.1 net long: nothing is."""
    limits = Limits(
        lower=np.full(N, -1e9), upper=np.zeros(N), gross_max=1.0, budget_min=0.1, budget_max=1e9
    )
    for kind in (Kind.LOG_GROWTH, Kind.MIN_VARIANCE, Kind.MIN_CVAR):
        problem = Problem(Objective(kind), limits, scenarios=RETURNS)
        assert solve(problem).status is Status.INFEASIBLE


@pytest.mark.parametrize("cost", [10.0, 1e4, 2e8])
@pytest.mark.parametrize("kind", [Kind.CRRA, Kind.LOG_GROWTH, Kind.MEAN_VARIANCE, Kind.MAX_SHARPE])
def test_what_one_line_costs_takes_nothing_off_the_others(
    ahead: Execution, kind: Kind, cost: float
) -> None:
    """A line that no trade is worth leaves the others as they are without it, with a proof."""
    limits = Limits(lower=np.zeros(N), upper=np.full(N, 0.3), gross_max=0.8)
    costs = np.array([2e-4, 2e-4, 2e-4, cost])
    objective = Objective(kind, risk_aversion=2.0)
    problem = Problem(objective, scenarios=RETURNS, limits=limits, costs=Costs(linear=costs))
    if kind is Kind.MAX_SHARPE:
        problem = replace(problem, limits=replace(limits, budget_min=0.5))
    others = replace(
        problem,
        scenarios=RETURNS[:, :-1],
        limits=replace(problem.limits, lower=np.zeros(N - 1), upper=np.full(N - 1, 0.3)),
        costs=Costs(linear=costs[:-1]),
    )
    found, alone = (solve(each, execution=ahead) for each in (problem, others))
    assert found.weights[-1] == 0.0
    np.testing.assert_allclose(found.weights[:-1], alone.weights, atol=1e-7)
    assert certify(problem, found).is_optimal


def test_a_line_that_has_to_be_traded_is_so_at_what_it_costs(ahead: Execution) -> None:
    """Both lines at a half by their bounds, one or the other for the rest: the cheaper of them."""
    limits = Limits(lower=np.full(2, 0.4), upper=np.ones(2), budget_min=1.0, budget_max=1.0)
    costs = Costs(linear=np.array([3.0, 2.0]))
    problem = Problem(Objective(Kind.MAX_RETURN), scenarios=RETURNS[:, :2], limits=limits)
    found = solve(replace(problem, costs=costs), execution=ahead)
    np.testing.assert_allclose(found.weights, [0.4, 0.6], atol=1e-9)


def test_lines_fixed_at_huge_weights_conflict_with_a_row_that_misses_them() -> None:
    """No other limit implies their bounds, which are told although they are beyond any book's."""
    fixed = np.array([8e4, -1.6e5, 4e4])
    row = Rows(np.array([[-0.01, 0.02, 0.1]]), np.array([-np.inf]), np.array([-900.0]), ("r",))
    limits = Limits(lower=fixed, upper=fixed, rows=row, gross_max=8e7)
    problem = Problem(Objective(Kind.MAX_RETURN), limits=limits, mean=np.ones(3))
    why = explain(without_redundant(problem))
    assert {"r max"} < set(why.conflict)
    # 0.1 by the largest coefficient: what the row is missed by, as weights may give it.
    assert why.violation_min == pytest.approx((row.matrix[0] @ fixed + 900.0) / 0.1, rel=1e-9)
