"""Tail problems: against HiGHS on the whole program, the published tables, and invariants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from compute.optimize import measures, solve, solve_batch
from compute.optimize.linear_program import LinearProgram
from compute.optimize.problem import (
    CDAR,
    CVAR,
    MAX_DRAWDOWN,
    Costs,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
    Status,
)
from compute.optimize.proof.evaluation import largest_violation, objective_value
from compute.optimize.tail_lp import TailMultipliers, scenario_selection, solve_tail, supports
from compute.optimize.tail_lp.interior_point import solve_linear, solve_linear_batch
from tests.compute.optimize.tail_problems import FullProgram, draw, returns

Kind = ObjectiveKind
STATUS = {0: Status.OPTIMAL, 2: Status.INFEASIBLE, 3: Status.UNBOUNDED}


def book(size: int = 8, periods: int = 60, seed: int = 3) -> Problem:
    rng = np.random.default_rng(seed)
    limits = Limits(lower=np.zeros(size), upper=np.full(size, 0.5), budget_min=1.0, budget_max=1.0)
    return Problem(Objective(Kind.MIN_CVAR), limits, scenarios=returns(rng, periods, size))


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_highs_on_the_whole_program(seed: int) -> None:
    problem = draw(seed)
    solution = solve_tail(problem)
    status, best = FullProgram(problem).solve()
    assert solution.status is STATUS[status]
    if solution.status is Status.OPTIMAL:
        assert abs(solution.objective - best) <= 1e-8 * max(abs(best), 1e-5)
        assert largest_violation(problem, solution.weights) <= 1e-10
        value = objective_value(problem, solution.weights)
        assert value == pytest.approx(solution.objective, rel=1e-12, abs=1e-15)


def test_cvar_counts_the_fractional_atom() -> None:
    """R7: losses 1..10, expected shortfall at five levels."""
    losses = np.arange(1.0, 11.0)[:, None]
    for level, expected in ((0.75, 9.2), (0.8, 9.5), (0.85, 29 / 3), (0.9, 10.0), (0.95, 10.0)):
        limits = Limits(lower=np.ones(1), upper=np.ones(1))
        problem = Problem(Objective(Kind.MIN_CVAR, tail=level), limits, scenarios=-losses)
        solution = solve_tail(problem)
        assert solution.status is Status.OPTIMAL
        assert solution.objective == pytest.approx(expected, rel=1e-12)


def test_drawdown_of_a_given_path() -> None:
    """R21 in its uncompounded form: log returns make the compounded path an additive one."""
    path = np.array([0.05, -0.1, 0.02, -0.08, 0.12, -0.03])[:, None]
    limits = Limits(lower=np.ones(1), upper=np.ones(1))
    problem = Problem(Objective(Kind.MIN_MAX_DRAWDOWN), limits, scenarios=path)
    assert solve_tail(problem).objective == pytest.approx(0.16, rel=1e-12)
    logged = replace(problem, scenarios=np.log1p(path))
    assert -np.expm1(-solve_tail(logged).objective) == pytest.approx(0.15544, abs=5e-9)
    half = replace(problem, objective=Objective(Kind.MIN_CDAR, tail=0.5))
    assert solve_tail(half).objective == pytest.approx((0.16 + 0.1 + 0.08) / 3, rel=1e-12)


def test_the_start_counts_as_a_peak() -> None:
    falling = np.full((4, 1), -0.01)
    limits = Limits(lower=np.ones(1), upper=np.ones(1))
    problem = Problem(Objective(Kind.MIN_MAX_DRAWDOWN), limits, scenarios=falling)
    assert solve_tail(problem).objective == pytest.approx(0.04, rel=1e-12)


def test_minimum_cvar_of_a_normal_book_nears_rockafellar_uryasev() -> None:
    """R6: with normal returns CVaR95 and variance agree, up to sampling error."""
    mean = np.array([0.0101110, 0.0043532, 0.0137058])
    covariance = np.array(
        [
            [0.00324625, 0.00022983, 0.00420395],
            [0.00022983, 0.00049937, 0.00019247],
            [0.00420395, 0.00019247, 0.00764097],
        ]
    )
    rng = np.random.default_rng(0)
    half = rng.multivariate_normal(np.zeros(3), covariance, 10_000)
    scenarios = np.concatenate([half, -half])
    scenarios = scenarios @ np.linalg.cholesky(np.linalg.inv(np.cov(scenarios.T, ddof=0)))
    scenarios = scenarios @ np.linalg.cholesky(covariance).T + mean
    row = Rows(mean[None], np.array([0.011]), np.array([np.inf]), ("minimum return",))
    limits = Limits(lower=np.zeros(3), budget_min=1.0, budget_max=1.0, rows=row)
    solution = solve_tail(Problem(Objective(Kind.MIN_CVAR), limits, scenarios=scenarios))
    assert solution.objective == pytest.approx(0.115908, rel=0.01)
    assert solution.weights == pytest.approx([0.452013, 0.115573, 0.432414], abs=0.05)


@pytest.mark.parametrize("kind", [Kind.MIN_CVAR, Kind.MIN_CDAR, Kind.MIN_MAX_DRAWDOWN])
def test_no_feasible_change_is_better(kind: Kind) -> None:
    problem = replace(book(), objective=Objective(kind, tail=0.9))
    solution = solve_tail(problem)
    rng = np.random.default_rng(1)
    upper = problem.limits.upper
    assert upper is not None
    for _ in range(500):
        other = rng.dirichlet(np.full(problem.size, 2.0))
        step = rng.uniform(0.0, 1.0) ** 3
        mixed = (1 - step) * solution.weights + step * other
        if np.all(mixed <= upper):
            assert objective_value(problem, mixed) >= solution.objective - 1e-13


@pytest.mark.parametrize("kind", [Kind.MIN_CVAR, Kind.MIN_CDAR, Kind.MIN_MAX_DRAWDOWN])
def test_scaled_returns_scale_the_measure(kind: Kind) -> None:
    problem = replace(book(), objective=Objective(kind))
    scaled = replace(problem, scenarios=1e-4 * problem.scenarios)  # type: ignore[operator]
    small, large = solve_tail(scaled), solve_tail(problem)
    assert small.objective == pytest.approx(1e-4 * large.objective, rel=1e-9)


def test_order_of_assets_and_of_scenarios_does_not_matter() -> None:
    problem = book()
    scenarios = problem.scenarios
    assert scenarios is not None
    rng = np.random.default_rng(2)
    mixed = scenarios[rng.permutation(len(scenarios))][:, rng.permutation(problem.size)]
    again = solve_tail(replace(problem, scenarios=mixed))
    assert again.objective == pytest.approx(solve_tail(problem).objective, rel=1e-11)


def test_prices_are_the_slopes_of_the_optimum() -> None:
    least = solve_tail(replace(book(), objective=Objective(Kind.MIN_CDAR))).objective
    cap, step = 1.05 * least, 1e-7
    found = []
    for bound in (cap, cap + step):
        limits = replace(book().limits, cdar_max=bound)
        found.append(
            solve_tail(replace(book(), objective=Objective(Kind.MAX_RETURN), limits=limits))
        )
    assert found[0].multipliers is not None
    price = found[0].multipliers.cdar_max
    assert price > 0.0
    assert (found[1].objective - found[0].objective) / step == pytest.approx(price, rel=1e-5)


def test_functionals_prove_the_optimum_without_the_solver() -> None:
    """The reported tail is admissible and its linear function has the same minimum."""
    problem = replace(book(), objective=Objective(Kind.MIN_CDAR, tail=0.9))
    solution = solve_tail(problem)
    assert isinstance(solution.multipliers, TailMultipliers)
    (line,) = solution.multipliers.functionals
    scenarios = problem.scenarios
    assert scenarios is not None
    assert line.tail.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.all(line.tail >= 0.0)
    assert np.all(line.tail <= 1.0 / (0.1 * len(scenarios)) + 1e-12)
    weights = measures.drawdown_functional(line.tail, line.peak)
    slope = -weights @ scenarios
    best = np.sort(slope)[:2] @ np.array([0.5, 0.5])
    assert best == pytest.approx(solution.objective, rel=1e-10)


def test_conflicting_limits_are_infeasible_with_the_least_violation() -> None:
    problem = book()
    row = Rows(np.ones((1, problem.size)), np.array([1.3]), np.array([np.inf]), ("too much",))
    solution = solve_tail(replace(problem, limits=replace(problem.limits, rows=row)))
    assert solution.status is Status.INFEASIBLE
    assert np.all(np.isnan(solution.weights))
    assert solution.violation_min == pytest.approx(0.3, abs=1e-9)


def test_a_cap_below_the_least_risk_is_infeasible() -> None:
    problem = book()
    least = solve_tail(problem).objective
    for factor, status in ((0.99, Status.INFEASIBLE), (1.01, Status.OPTIMAL)):
        limits = replace(problem.limits, cvar_max=factor * least)
        capped = replace(problem, objective=Objective(Kind.MAX_RETURN), limits=limits)
        assert solve_tail(capped).status is status


def test_an_empty_box_is_infeasible() -> None:
    problem = book()
    limits = replace(problem.limits, lower=np.full(problem.size, 0.6))
    solution = solve_tail(replace(problem, limits=limits))
    assert solution.status is Status.INFEASIBLE
    assert solution.violation_min == pytest.approx(0.8)


def test_bad_data_is_refused() -> None:
    problem = book()
    scenarios = problem.scenarios
    assert scenarios is not None
    broken = scenarios.copy()
    broken[0, 0] = np.nan
    with pytest.raises(ValueError, match="scenarios"):
        solve_tail(replace(problem, scenarios=broken))
    with pytest.raises(ValueError, match="tail measure"):
        solve_tail(replace(problem, scenarios=None))
    with pytest.raises(ValueError, match="not a tail problem"):
        solve_tail(replace(problem, objective=Objective(Kind.MIN_VARIANCE)))


def test_batch_and_warm_start_change_nothing() -> None:
    problems = [book(seed=s) for s in range(3)]
    alone = [solve(problem) for problem in problems]
    together = solve_batch(problems)
    warm = [solve(problem, start) for problem, start in zip(problems, alone, strict=True)]
    for one, other, again in zip(alone, together, warm, strict=True):
        assert other.objective == pytest.approx(one.objective, rel=1e-12)
        assert again.objective == pytest.approx(one.objective, rel=1e-12)
        assert other.weights == pytest.approx(one.weights, abs=1e-10)


def test_costs_and_curved_limits_decide_the_route() -> None:
    problem = book()
    assert supports(problem)
    assert supports(replace(problem, costs=Costs(linear=np.full(problem.size, 1e-3))))
    assert not supports(replace(problem, costs=Costs(impact=np.full(problem.size, 1e-3))))
    curved = replace(problem.limits, volatility_max=0.1)
    assert not supports(replace(problem, limits=curved))


def test_padding_leaves_the_program_alone() -> None:
    rng = np.random.default_rng(5)
    matrix = rng.uniform(0.0, 1.0, (5, 7))
    small = LinearProgram(
        rng.uniform(0.5, 1.0, 7),
        matrix,
        np.full(5, -np.inf),
        np.ones(5),
        np.zeros(7),
        np.full(7, 2.0),
    )
    large = LinearProgram(
        np.pad(small.cost, (0, 80)),
        np.pad(matrix, ((0, 90), (0, 80))),
        np.pad(small.row_min, (0, 90)),
        np.pad(small.row_max, (0, 90)),
        np.zeros(87),
        np.pad(small.upper, (0, 80)),
    )
    first, second = solve_linear(small, 1e-11), solve_linear(large, 1e-11)
    third = solve_linear_batch([large, small], [1e-11, 1e-11])[1]
    assert second.point[:7] == pytest.approx(first.point, abs=1e-12)
    assert third.point == pytest.approx(first.point, abs=1e-12)
    assert second.price[:5] == pytest.approx(first.price, abs=1e-10)


def test_excesses_apart_are_the_same_program() -> None:
    """Pair rows with one excess each and two caps over all of them, stated dense and apart."""
    rng = np.random.default_rng(6)
    pairs, names, group = 12, 5, np.repeat(np.arange(6), 2)
    matrix = np.zeros((pairs + 2, names + 6))
    matrix[:pairs, :names] = rng.normal(size=(pairs, names))
    matrix[np.arange(pairs), names + group] = -1.0
    matrix[pairs:] = rng.uniform(0.5, 1.0, (2, names + 6))
    dense = LinearProgram(
        np.append(rng.uniform(0.5, 1.0, names), np.full(6, -0.3)),
        matrix,
        np.full(pairs + 2, -np.inf),
        np.append(np.zeros(pairs), [3.0, 4.0]),
        np.zeros(names + 6),
        np.append(np.ones(names), np.full(6, np.inf)),
    )
    one, other = solve_linear(dense, 1e-11), solve_linear(replace(dense, excess=6), 1e-11)
    assert one.error <= 1e-11
    assert other.error <= 1e-11
    assert dense.cost @ other.point == pytest.approx(dense.cost @ one.point, abs=1e-10)
    oracle = linprog(
        dense.loss, matrix, dense.row_max, bounds=list(zip(dense.lower, dense.upper, strict=True))
    )
    assert dense.loss @ other.point == pytest.approx(oracle.fun, abs=1e-10)


def test_the_measure_agrees_with_its_plain_reading() -> None:
    rng = np.random.default_rng(7)
    scenarios, odds = returns(rng, 50, 4), rng.dirichlet(np.ones(50))
    weights = rng.dirichlet(np.ones(4))
    book_returns = scenarios @ weights
    for measure, plain in (
        (CVAR, measures.cvar(book_returns, odds, 0.9)[0]),
        (CDAR, measures.cdar(book_returns, odds, 0.9)[0]),
        (MAX_DRAWDOWN, measures.maximum_drawdown(book_returns)[0]),
    ):
        term = scenario_selection.measure(measure, scenarios, odds, 0.9, 1.0, None)
        assert term.value(term.losses(weights)[0]) == pytest.approx(plain, rel=1e-12)
