"""Properties of the smooth solver: optimal, inside every limit, equivariant, typed failures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compute.optimize.interior_point import solve, solve_batch
from compute.optimize.interior_point.canonicalize import encode
from compute.optimize.interior_point.compiled_shapes import run_kernel
from compute.optimize.interior_point.iteration import LAG
from compute.optimize.problem import (
    Array,
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
from compute.optimize.proof.evaluation import largest_violation, objective_value

Kind = ObjectiveKind
N = 6


def returns(seed: int, n: int = N, periods: int = 60) -> Array:
    rng = np.random.default_rng(seed)
    market = rng.standard_normal((periods, 1)) * 0.015
    drift = rng.uniform(0.0, 0.004, n)
    return np.asarray(market + 0.02 * rng.standard_normal((periods, n)) + drift)


LONG_ONLY = Limits(lower=np.zeros(N), upper=np.full(N, 0.4), budget_max=1.0)
INVESTED = replace(LONG_ONLY, budget_min=1.0)
SHORT = replace(LONG_ONLY, lower=np.full(N, -0.3))
SECTORS = Rows(
    np.array([[1.0, 1.0, 0, 0, 0, 0], [0, 0, 1.0, 1.0, 0, 0]]),
    np.array([-np.inf, 0.1]),
    np.array([0.3, 0.5]),
    ("banks", "energy"),
)
HELD = np.array([0.3, 0.0, 0.1, 0.2, 0.0, 0.1])
COMBINED = Objective(
    Kind.COMBINATION,
    terms=((1.0, Objective(Kind.LOG_GROWTH)), (0.5, Objective(Kind.MIN_VARIANCE))),
)
CASES: dict[str, tuple[Objective, Limits, Costs]] = {
    "growth": (Objective(Kind.LOG_GROWTH), LONG_ONLY, Costs()),
    "growth, drawdown risk": (
        Objective(Kind.LOG_GROWTH),
        replace(LONG_ONLY, drawdown_risk=DrawdownRisk(30.0)),
        Costs(),
    ),
    "growth, turnover and gross": (
        Objective(Kind.LOG_GROWTH),
        replace(SHORT, turnover_max=0.4, gross_max=0.9),
        Costs(linear=np.full(N, 1e-4)),
    ),
    "crra": (Objective(Kind.CRRA, risk_aversion=3.0), INVESTED, Costs()),
    "quadratic growth, sectors": (
        Objective(Kind.QUADRATIC_GROWTH),
        replace(LONG_ONLY, rows=SECTORS),
        Costs(),
    ),
    "mean variance, impact": (
        Objective(Kind.MEAN_VARIANCE, risk_aversion=4.0),
        SHORT,
        Costs(linear=np.full(N, 5e-4), impact=np.full(N, 1e-3)),
    ),
    "sharpe": (Objective(Kind.MAX_SHARPE), INVESTED, Costs()),
    "sharpe, costs": (Objective(Kind.MAX_SHARPE), INVESTED, Costs(linear=np.full(N, 5e-4))),
    "sharpe, volatility": (
        Objective(Kind.MAX_SHARPE),
        replace(INVESTED, volatility_max=0.018),
        Costs(),
    ),
    "sharpe, value at risk": (
        Objective(Kind.MAX_SHARPE),
        replace(INVESTED, var_max=0.026),
        Costs(),
    ),
    "sharpe, drawdown risk": (
        Objective(Kind.MAX_SHARPE),
        replace(LONG_ONLY, budget_min=0.95, drawdown_risk=DrawdownRisk(22.5)),
        Costs(),
    ),
    "minimum variance": (Objective(Kind.MIN_VARIANCE), INVESTED, Costs()),
    "return, volatility": (
        Objective(Kind.MAX_RETURN),
        replace(SHORT, volatility_max=0.008),
        Costs(),
    ),
    "return, value at risk": (
        Objective(Kind.MAX_RETURN),
        replace(LONG_ONLY, var_max=0.012),
        Costs(),
    ),
    "return, participation": (
        Objective(Kind.MAX_RETURN),
        replace(LONG_ONLY, trade_max=np.full(N, 0.05)),
        Costs(),
    ),
    "combination": (COMBINED, LONG_ONLY, Costs()),
}


def case(name: str, seed: int = 1) -> Problem:
    objective, limits, costs = CASES[name]
    return Problem(objective, limits, costs, scenarios=returns(seed), holdings=HELD)


def better(problem: Problem, weights: Array) -> float:
    """The objective with a larger value always meaning better."""
    value = objective_value(problem, weights)
    return value if problem.objective.kind.maximised else -value


@pytest.mark.parametrize("name", CASES)
def test_no_feasible_neighbour_is_better(name: str) -> None:
    problem = case(name)
    solution = solve(problem)
    assert solution.status is Status.OPTIMAL
    assert largest_violation(problem, solution.weights) < 1e-10
    best = better(problem, solution.weights)
    tolerance = 1e-10 * max(abs(best), 1e-4)
    rng, tried = np.random.default_rng(7), 0
    # Moves towards other weights, scaled down until they are allowed or too small to matter.
    for _ in range(300):
        target = solution.weights + rng.standard_normal(N) * 0.1
        if problem.limits.budget_min is not None:
            target += (1.0 - target.sum()) / N
        target = np.clip(target, *_box(problem))
        for step in (1.0, 0.1, 0.01):
            other = solution.weights + step * (target - solution.weights)
            if largest_violation(problem, other) <= 1e-12:
                tried += 1
                assert better(problem, other) <= best + tolerance
                break
    assert tried > 0


def _box(problem: Problem) -> tuple[Array, Array]:
    assert problem.limits.lower is not None
    assert problem.limits.upper is not None
    return problem.limits.lower, problem.limits.upper


@pytest.mark.parametrize("name", CASES)
def test_the_solvers_own_prices_prove_its_answer(name: str) -> None:
    assert certify(case(name), solve(case(name)), thorough=False).is_optimal


@pytest.mark.parametrize(
    ("name", "cap"),
    [("sharpe, volatility", "volatility_max"), ("sharpe, value at risk", "var_max")],
)
def test_the_price_of_a_cap_on_risk_is_the_slope_of_the_ratio(name: str, cap: str) -> None:
    problem = case(name)
    bound, prices = getattr(problem.limits, cap), solve(problem).multipliers
    assert prices is not None

    def best(most: float) -> float:
        return solve(replace(problem, limits=replace(problem.limits, **{cap: most}))).objective

    step = 1e-5 * bound
    slope = (best(bound + step) - best(bound - step)) / (2.0 * step)
    assert slope > 0.1
    assert getattr(prices, cap) == pytest.approx(slope, rel=1e-5)


HIGHER = replace(SECTORS, row_min=np.array([0.31, 0.1]))
TWICE = replace(SECTORS, matrix=np.vstack([SECTORS.matrix[0], -2.0 * SECTORS.matrix[0]]))
DOUBTFUL = {
    "crossed bounds": replace(LONG_ONLY, lower=np.full(N, 0.5)),
    "a crossed row": replace(LONG_ONLY, rows=HIGHER),
    "a budget of all upper bounds": replace(LONG_ONLY, upper=np.full(N, 1.0 / N), budget_min=1.0),
    "a row and a multiple of it": replace(LONG_ONLY, rows=TWICE),
}


@pytest.mark.parametrize("limits", DOUBTFUL.values(), ids=list(DOUBTFUL))
def test_limits_without_an_inside_are_handed_back(limits: Limits) -> None:
    problem = replace(case("growth"), limits=limits)
    answer = run_kernel(encode(problem, screened=False), LAG)
    assert answer.doubtful == 1.0
    assert run_kernel(encode(problem), LAG).doubtful == 0.0


@pytest.mark.parametrize("name", CASES)
def test_no_doubts_about_usual_limits(name: str) -> None:
    assert run_kernel(encode(case(name), screened=False), LAG).doubtful == 0.0


@pytest.mark.parametrize("name", ["growth", "growth, turnover and gross", "sharpe"])
def test_order_of_assets_does_not_matter(name: str) -> None:
    problem = case(name)
    order = np.array([3, 0, 5, 1, 4, 2])
    assert problem.scenarios is not None
    shuffled = replace(problem, scenarios=problem.scenarios[:, order], holdings=HELD[order])
    assert solve(shuffled).weights == pytest.approx(solve(problem).weights[order], abs=1e-8)


def test_utility_times_a_constant_has_the_same_sizes_and_scaled_prices() -> None:
    problem = Problem(
        Objective(Kind.MEAN_VARIANCE, risk_aversion=2.0),
        LONG_ONLY,
        mean=np.linspace(0.01, 0.03, N),
        covariance=np.cov(returns(1), rowvar=False),
    )
    assert problem.mean is not None
    small = replace(
        problem,
        mean=1e-4 * problem.mean,
        objective=Objective(Kind.MEAN_VARIANCE, risk_aversion=2e-4),
    )
    one, other = solve(problem), solve(small)
    assert one.multipliers is not None
    assert other.multipliers is not None
    assert other.weights == pytest.approx(one.weights, abs=1e-9)
    assert other.multipliers.upper == pytest.approx(1e-4 * one.multipliers.upper, abs=1e-13)


@pytest.mark.parametrize("name", ["growth", "growth, turnover and gross", "sharpe"])
def test_alone_padded_or_together_the_sizes_agree(name: str) -> None:
    problems = [case(name, seed) for seed in range(5)]
    together = solve_batch(problems)
    for problem, batched in zip(problems, together, strict=True):
        alone = solve(problem)
        assert batched.status is alone.status
        assert batched.weights == pytest.approx(alone.weights, abs=1e-12, nan_ok=True)


def test_books_of_one_call_may_differ_in_every_number() -> None:
    """Long only or not, with and without costs, tiny, fully determined, in conflict: as alone."""
    base = Problem(
        Objective(Kind.MEAN_VARIANCE, risk_aversion=3.0),
        costs=Costs(linear=np.full(N, 1e-4)),
        mean=np.linspace(0.001, 0.003, N),
        covariance=np.cov(returns(1), rowvar=False),
        holdings=HELD,
    )
    limits = [
        Limits(np.full(N, low), np.full(N, high), 0.0, budget, None, gross, turnover)
        for low, high, budget, gross, turnover in (
            (0.0, 0.5, 1.0, 0.8, 0.9),
            (-0.4, 0.5, 1.0, 1.2, np.inf),
            (0.0, 1.0 / N, 1.0, np.inf, 2.0),
            (0.0, 5e-4, 1e-3, 9e-4, 2.0),
            (0.6, 0.5, 1.0, 1.0, 2.0),
            (0.3, 0.5, 1.0, np.inf, 2.0),
        )
    ]
    problems = [
        replace(
            base,
            objective=Objective(Kind.MEAN_VARIANCE, risk_aversion=2.0 + k),
            limits=replace(each, budget_min=1.0 if k == 2 else 0.0),
            costs=Costs(linear=np.full(N, 1e-4 * (k % 2))),
        )
        for k, each in enumerate(limits)
    ]
    together = solve_batch(problems)
    assert [found.status for found in together][4:] == [Status.INFEASIBLE] * 2
    for problem, batched in zip(problems, together, strict=True):
        alone = solve(problem)
        assert batched.status is alone.status
        assert batched.weights == pytest.approx(alone.weights, abs=1e-12, nan_ok=True)
        if alone.status is Status.OPTIMAL:
            assert certify(problem, batched).is_optimal


def test_padding_scenarios_and_assets_is_neutral() -> None:
    problem = case("growth")
    assert problem.scenarios is not None
    wide = np.concatenate([problem.scenarios, np.zeros((4, N))])
    weighted = np.concatenate([np.full(60, 1 / 60), np.zeros(4)])
    padded = replace(problem, scenarios=wide, scenario_probability=weighted)
    assert solve(padded).weights == pytest.approx(solve(problem).weights, abs=1e-12)


def test_volatility_cap_scales_kelly_with_the_known_price() -> None:
    # x = f* v / SR; the price of v is (SR / v - 1) v: methods table, v = .2.
    covariance = np.array([[0.04, 0.006, 0.0], [0.006, 0.09, 0.01], [0.0, 0.01, 0.0225]])
    problem = Problem(
        Objective(Kind.MEAN_VARIANCE),
        Limits(volatility_max=0.2),
        mean=np.array([0.05, 0.08, 0.03]),
        covariance=covariance,
    )
    solution = solve(problem)
    kelly = np.array([1.14516341, 0.69891062, 1.02270639])
    assert solution.weights == pytest.approx(0.5273169411 * kelly, abs=1e-8)
    assert solution.multipliers is not None
    assert solution.multipliers.volatility_max == pytest.approx(2 * 0.2 * 0.4481963522, abs=1e-9)


def test_long_only_kelly_has_the_known_prices() -> None:
    covariance = np.array([[0.04, 0.006, 0.0], [0.006, 0.09, 0.01], [0.0, 0.01, 0.0225]])
    limits = Limits(lower=np.zeros(3), budget_max=1.0)
    problem = Problem(
        Objective(Kind.MEAN_VARIANCE),
        limits,
        mean=np.array([0.05, 0.08, 0.03]),
        covariance=covariance,
    )
    solution = solve(problem)
    assert solution.weights == pytest.approx([27 / 59, 32 / 59, 0.0], abs=1e-10)
    assert solution.multipliers is not None
    assert solution.multipliers.budget_max == pytest.approx(0.0284406780, abs=1e-10)
    assert solution.multipliers.lower[2] == pytest.approx(0.0038644068, abs=1e-10)


def test_soft_row_is_broken_when_its_price_is_below_its_worth() -> None:
    rows = Rows(np.ones((1, N)), np.array([-np.inf]), np.array([0.5]), ("half",), np.array([1e-9]))
    problem = replace(case("growth"), limits=replace(LONG_ONLY, rows=rows))
    cheap = solve(problem)
    dear = solve(
        replace(problem, limits=replace(LONG_ONLY, rows=replace(rows, price=np.array([1.0]))))
    )
    assert cheap.weights.sum() == pytest.approx(1.0, abs=1e-7)
    assert dear.weights.sum() == pytest.approx(0.5, abs=1e-9)
    assert cheap.multipliers is not None
    assert cheap.multipliers.row_max[0] == pytest.approx(1e-9, rel=1e-6)


def test_conflicting_limits_end_infeasible_with_the_least_violation() -> None:
    problem = replace(case("growth"), limits=replace(LONG_ONLY, budget_min=3.0, budget_max=3.0))
    solution = solve(problem)
    assert solution.status is Status.INFEASIBLE
    assert solution.violation_min == pytest.approx(3.0 - 2.4, abs=1e-8)
    assert np.isnan(solution.weights).all()


def test_crossed_box_ends_infeasible() -> None:
    problem = replace(case("growth"), limits=replace(LONG_ONLY, lower=np.full(N, 0.5)))
    assert solve(problem).status is Status.INFEASIBLE


def test_sharpe_without_a_positive_mean_is_refused() -> None:
    problem = replace(case("sharpe"), scenarios=returns(1) - 0.05)
    assert solve(problem).status is Status.NONPOSITIVE_MEAN


def test_equal_risk_contributions_and_budgets_match_the_textbook() -> None:
    # Roncalli: volatilities 30, 20, 15 %, correlations .8, .5, .3.
    volatility = np.array([0.3, 0.2, 0.15])
    correlation = np.array([[1, 0.8, 0.5], [0.8, 1, 0.3], [0.5, 0.3, 1]])
    covariance = correlation * np.outer(volatility, volatility)
    limits = Limits(lower=np.zeros(3), budget_min=1.0, budget_max=1.0)
    equal = solve(Problem(Objective(Kind.RISK_BUDGET), limits, covariance=covariance))
    assert equal.weights == pytest.approx([0.19686194, 0.32444083, 0.47869723], abs=1e-8)
    budgets = Objective(Kind.RISK_BUDGET, budgets=np.array([50.0, 20.0, 30.0]))
    split = solve(Problem(budgets, limits, covariance=covariance))
    assert split.weights == pytest.approx([0.31145051, 0.21899751, 0.46955198], abs=1e-8)
    capped = solve(
        Problem(budgets, replace(limits, upper=np.array([0.25, 1.0, 1.0])), covariance=covariance)
    )
    assert capped.weights[0] == pytest.approx(0.25, abs=1e-9)
    assert capped.weights.sum() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("size", [20, 100])
def test_risk_parity_of_a_stack_is_that_of_each(size: int) -> None:
    """At 100 names a stack once waited for ever, its LAPACK calls for each other."""
    rng = np.random.default_rng(8)
    books = [rng.normal(size=(3 * size, size)) * rng.uniform(0.5, 2.0, size) for _ in range(20)]
    problems = [
        Problem(Objective(ObjectiveKind.RISK_BUDGET), covariance=np.cov(book, rowvar=False))
        for book in books
    ]
    for problem, found in zip(problems, solve_batch(problems), strict=True):
        assert found.status is Status.OPTIMAL
        assert found.weights == pytest.approx(solve(problem).weights, abs=1e-12)
