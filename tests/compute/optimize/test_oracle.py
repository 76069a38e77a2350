"""Every objective, cost and limit against Clarabel or HiGHS, a proof, and plain readings.

All run on programs compiled ahead, as a service runs them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import NormalDist

import cvxpy as cp
import numpy as np
import pytest

from benchmarks.draw import counted_in
from benchmarks.oracle import TIGHT, best_weights
from compute.optimize import solve
from compute.optimize.execution import JUST_IN_TIME, Execution
from compute.optimize.problem import (
    Array,
    Costs,
    DrawdownRisk,
    FactorCovariance,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
    Solution,
    Status,
)
from compute.optimize.proof.certificate import Certificate, certify
from compute.optimize.proof.evaluation import objective_value, violations
from compute.optimize.proof.linearization import tangent
from compute.optimize.proof.problem_numbers import ProblemData

Kind = ObjectiveKind
N, T = 6, 60


def returns() -> Array:
    rng = np.random.default_rng(3)
    market = rng.standard_normal((T, 1)) * 0.015
    drift = np.linspace(0.0, 0.004, N)
    return np.asarray(market + 0.02 * rng.standard_normal((T, N)) + drift)


R = returns()
MEAN, COVARIANCE = R.mean(0), np.cov(R, rowvar=False)
HELD = np.array([0.3, 0.0, 0.1, 0.2, 0.0, 0.1])
LONG = Limits(lower=np.zeros(N), upper=np.full(N, 0.5), budget_min=0.0, budget_max=1.0)
INVESTED = replace(LONG, budget_min=1.0)
SHORT = replace(LONG, lower=np.full(N, -0.4), budget_min=-1.0)
GROWTH = Objective(Kind.LOG_GROWTH)
FREE, LINEAR = Costs(), Costs(linear=np.linspace(2e-4, 1e-3, N))
IMPACT = Costs(linear=np.full(N, 2e-4), impact=np.linspace(5e-4, 3e-3, N))
MIXED = Objective(
    Kind.COMBINATION, terms=((1.0, GROWTH), (0.4, Objective(Kind.MEAN_VARIANCE, 2.0)))
)
TAILS = Objective(
    Kind.COMBINATION,
    terms=((1.0, Objective(Kind.MAX_RETURN)), (0.1, Objective(Kind.MIN_CVAR, tail=0.9))),
)
CVAR, CDAR = Objective(Kind.MIN_CVAR, tail=0.9), Objective(Kind.MIN_CDAR, tail=0.9)
DRAWDOWN = Objective(Kind.MIN_MAX_DRAWDOWN)


def less(first: Objective, *measures: tuple[float, Objective]) -> Objective:
    """An objective less weighted tail measures."""
    return Objective(Kind.COMBINATION, terms=((1.0, first), *measures))


OBJECTIVES = {
    "growth": GROWTH,
    "quadratic growth": Objective(Kind.QUADRATIC_GROWTH),
    "mean variance": Objective(Kind.MEAN_VARIANCE, 4.0),
    "sharpe": Objective(Kind.MAX_SHARPE),
    "minimum variance": Objective(Kind.MIN_VARIANCE),
    "return": Objective(Kind.MAX_RETURN),
    "crra": Objective(Kind.CRRA, 3.0),
    "cvar": CVAR,
    "cdar": CDAR,
    "drawdown": DRAWDOWN,
    "combination": MIXED,
    "combination of tails": TAILS,
    "growth less cvar": less(GROWTH, (0.05, CVAR)),
    "mean variance less cdar": less(Objective(Kind.MEAN_VARIANCE, 4.0), (0.05, CDAR)),
    "crra less drawdown": less(Objective(Kind.CRRA, 3.0), (0.02, DRAWDOWN)),
    "growth less cvar and cdar": less(GROWTH, (0.03, CVAR), (0.02, CDAR)),
    "variance and cvar": less(Objective(Kind.MIN_VARIANCE), (0.1, CVAR)),
}


def problem(objective: Objective, limits: Limits = INVESTED, costs: Costs = FREE) -> Problem:
    return Problem(objective, limits, costs, scenarios=R, holdings=HELD)


def solved(asked: Problem, execution: Execution) -> tuple[Solution, Certificate]:
    """The answer, proven, and no worse than an independent solver's."""
    quadratic = asked.limits.drawdown_risk is not None and asked.limits.drawdown_risk.quadratic
    if quadratic:
        execution = JUST_IN_TIME  # no service is asked for that form
    found = solve(asked, execution=execution)
    assert found.status is Status.OPTIMAL
    proof = certify(asked, found)
    assert proof.is_optimal
    value, sharpe = objective_value(asked, found.weights), asked.objective.kind is Kind.MAX_SHARPE
    touching = tangent(asked, found.weights, value if sharpe else None)
    other = best_weights(asked, touching.scale * touching.reach, value if sharpe else None)
    assert other is not None
    sense = 1.0 if asked.objective.kind.maximised else -1.0
    # An independent solver keeps limits to 1e-9 or so, that on drawdown risk, which counts in
    # exponents, to 1e-6: what it breaks there is worth its shadow price.
    assert found.multipliers is not None
    broken = max(violations(asked, other).get("drawdown_risk", 0.0), 0.0)
    ahead = sense * (objective_value(asked, other) - value)
    allowed = 1e-8 * max(abs(value), 1e-4)
    assert ahead <= allowed + found.multipliers.drawdown_risk * min(broken, 1e-6)
    return found, proof


@pytest.mark.parametrize("costs", [FREE, LINEAR, IMPACT], ids=["free", "linear", "impact"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_independent_solver_is_better(ahead: Execution, name: str, costs: Costs) -> None:
    asked = problem(OBJECTIVES[name], costs=costs)
    found, _ = solved(asked, ahead)
    order = np.random.default_rng(1).permutation(N)
    moved = Costs(*(None if cost is None else cost[order] for cost in (costs.linear, costs.impact)))
    turned = replace(asked, scenarios=R[:, order], holdings=HELD[order], costs=moved)
    shuffled = solve(turned, execution=ahead)
    in_cents = solve(counted_in(asked, 100.0), execution=ahead)
    value = objective_value(asked, found.weights)
    assert objective_value(turned, shuffled.weights) == pytest.approx(value, rel=1e-9)
    assert in_cents.status is Status.OPTIMAL
    assert objective_value(asked, in_cents.weights / 100.0) == pytest.approx(value, rel=1e-9)


def rows(matrix: list[list[float]], low: list[float], high: list[float]) -> Rows:
    names = tuple(f"row {k}" for k in range(len(low)))
    return Rows(np.array(matrix), np.array(low), np.array(high), names)


def worst_mean(losses: Array, share: float) -> float:
    """Mean of the worst `share` of equally likely losses, the last one in part."""
    worst = np.sort(losses)[::-1]
    count = share * len(worst)
    whole = int(count)
    part = count - whole
    return float(worst[:whole].sum() + (part * worst[whole] if part > 1e-12 else 0.0)) / count


def falls(weights: Array) -> Array:
    wealth = np.concatenate([[0.0], np.cumsum(R @ weights)])
    return np.asarray((np.maximum.accumulate(wealth) - wealth)[1:])


def deviation(weights: Array) -> float:
    return float(np.std(R @ weights, ddof=1))


GROUP = rows([[1.0, 0, 0, 0, 1.0, 1.0]], [-np.inf], [0.45])
BETA = rows([list(np.linspace(0.5, 1.8, N))], [-np.inf], [0.7])
STRESS = rows([[0.0, 0.1, 0.1, 0.2, 0.3, 0.3]], [-np.inf], [0.15])  # -shock'w, a loss
Reading = Callable[[Array], float]
LIMITS: dict[str, tuple[Limits, Reading, str]] = {
    "box": (LONG, lambda w: w.max() - 0.5, "upper"),
    "budget": (LONG, lambda w: w.sum() - 1.0, "budget_max"),
    "floor": (
        replace(SHORT, budget_min=0.9, budget_max=None, gross_max=0.9),
        lambda w: 0.9 - w.sum(),
        "gross_max",
    ),
    "group": (replace(LONG, rows=GROUP), lambda w: w[[0, 4, 5]].sum() - 0.45, "row_max"),
    "net": (replace(SHORT, budget_max=0.2), lambda w: w.sum() - 0.2, "budget_max"),
    "gross": (replace(SHORT, gross_max=1.1), lambda w: np.abs(w).sum() - 1.1, "gross_max"),
    "leverage": (
        replace(LONG, upper=np.full(N, 2.0), budget_max=3.0, gross_max=2.5),
        lambda w: np.abs(w).sum() - 2.5,
        "gross_max",
    ),
    "turnover": (
        replace(LONG, turnover_max=0.3),
        lambda w: np.abs(w - HELD).sum() - 0.3,
        "turnover_max",
    ),
    "factor exposure": (
        replace(LONG, rows=BETA),
        lambda w: float(np.linspace(0.5, 1.8, N) @ w) - 0.7,
        "row_max",
    ),
    "stress": (
        replace(LONG, rows=STRESS),
        lambda w: float(STRESS.matrix[0] @ w) - 0.15,
        "row_max",
    ),
    "participation": (
        replace(LONG, trade_max=np.full(N, 0.07)),
        lambda w: np.abs(w - HELD).max() - 0.07,
        "trade_max",
    ),
    "volatility": (
        replace(LONG, volatility_max=0.008),
        lambda w: deviation(w) - 0.008,
        "volatility_max",
    ),
    "normal var": (
        replace(LONG, var_max=0.012),
        lambda w: NormalDist().inv_cdf(0.95) * deviation(w) - float(MEAN @ w) - 0.012,
        "var_max",
    ),
    "cvar": (
        replace(LONG, cvar_max=0.015),
        lambda w: worst_mean(-R @ w, 0.05) - 0.015,
        "cvar_max",
    ),
    "cdar": (
        replace(LONG, cdar_max=0.04, cdar_tail=0.9),
        lambda w: worst_mean(falls(w), 0.1) - 0.04,
        "cdar_max",
    ),
    "drawdown": (replace(LONG, drawdown_max=0.05), lambda w: falls(w).max() - 0.05, "drawdown_max"),
    "drawdown risk": (
        replace(LONG, drawdown_risk=DrawdownRisk(40.0)),
        lambda w: float(np.log(np.mean((1.0 + R @ w) ** -40.0))),
        "drawdown_risk",
    ),
    "quadratic drawdown risk": (
        replace(LONG, drawdown_risk=DrawdownRisk(40.0, quadratic=True)),
        lambda w: 40.0 * (20.5 * float(np.mean((R @ w) ** 2)) - float(MEAN @ w)),
        "drawdown_risk",
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_holds_binds_and_has_its_price(ahead: Execution, name: str) -> None:
    limits, excess, price = LIMITS[name]
    found, proof = solved(problem(GROWTH, limits), ahead)
    assert abs(excess(found.weights)) <= 1e-9
    assert np.max(getattr(found.multipliers, price)) > 1e-6
    assert proof.complementarity <= 1e-8


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("objective", [CVAR, CDAR, DRAWDOWN, OBJECTIVES["growth less cvar"]])
def test_every_limit_holds_beside_a_tail_measure(
    ahead: Execution, objective: Objective, name: str
) -> None:
    """Whether it binds or not: with the least return that keeps the book from being all cash."""
    limits, excess, _ = LIMITS[name]
    earning = rows([list(MEAN)], [0.0008], [np.inf])
    if limits.rows is not None:
        both = (np.vstack([limits.rows.matrix, earning.matrix]), [-np.inf, 0.0008])
        earning = Rows(*map(np.array, both), np.r_[limits.rows.row_max, np.inf], ("own", "return"))
    found, _ = solved(problem(objective, replace(limits, rows=earning)), ahead)
    assert excess(found.weights) <= 1e-9
    assert found.weights @ MEAN >= 0.0008 - 1e-9


def test_a_soft_limit_gives_way_at_its_price(ahead: Execution) -> None:
    """Hard while its shadow price is below its own, else broken with exactly that price."""
    hard, _ = solved(problem(GROWTH, replace(LONG, rows=GROUP)), ahead)
    assert hard.multipliers is not None
    worth = float(hard.multipliers.row_max[0])
    for share in (0.5, 2.0):
        soft = replace(GROUP, price=np.array([share * worth]))
        found, _ = solved(problem(GROWTH, replace(LONG, rows=soft)), ahead)
        over = found.weights[[0, 4, 5]].sum() - 0.45
        assert (over > 1e-3) if share < 1.0 else (abs(over) <= 1e-9)
        assert found.multipliers is not None
        assert found.multipliers.row_max[0] == pytest.approx(min(share, 1.0) * worth, rel=1e-6)


def test_a_factor_covariance_is_its_dense_matrix(ahead: Execution) -> None:
    rng = np.random.default_rng(4)
    factors = FactorCovariance(
        rng.standard_normal((N, 2)), np.array([[2e-4, 5e-5], [5e-5, 1e-4]]), np.full(N, 1e-4)
    )
    for kind in (Kind.MEAN_VARIANCE, Kind.MIN_VARIANCE, Kind.MAX_SHARPE, Kind.RISK_BUDGET):
        asked = Problem(Objective(kind, 4.0), INVESTED, mean=MEAN, covariance=factors)
        low = solve(asked, execution=ahead)
        full = solve(replace(asked, covariance=factors.dense()), execution=ahead)
        assert low.weights == pytest.approx(full.weights, abs=1e-12)
        assert certify(asked, low).is_optimal
        assert ProblemData(asked).covariance == pytest.approx(factors.dense(), rel=1e-15)


@pytest.mark.parametrize("capped", [0.12, 0.3])
def test_risk_budgets_that_a_limit_cuts_off_are_the_convex_program(
    ahead: Execution, capped: float
) -> None:
    """Against Clarabel on 1/2 w'Sw - lambda b'log w inside the limits, and proven."""
    shares = np.arange(1.0, N + 1.0) / 21.0
    objective = Objective(Kind.RISK_BUDGET, budgets=shares)
    asked = Problem(objective, INVESTED, covariance=COVARIANCE)
    cut = replace(asked, limits=replace(INVESTED, upper=np.r_[np.full(N - 1, 0.6), capped]))
    free, found = solve(asked, execution=ahead), solve(cut, execution=ahead)
    assert free.objective <= 1e-8
    level = float(free.weights @ COVARIANCE @ free.weights)
    w = cp.Variable(N)
    root = np.linalg.cholesky(COVARIANCE).T / np.sqrt(level)
    inner = 0.5 * cp.sum_squares(root @ w) - shares @ cp.log(w)
    best = cp.Problem(cp.Minimize(inner), [cp.sum(w) == 1.0, w[: N - 1] <= 0.6, w[N - 1] <= capped])
    best.solve(solver=cp.CLARABEL, **TIGHT)

    def value(at: Array) -> float:
        return float(0.5 * at @ COVARIANCE @ at / level - shares @ np.log(at))

    assert value(found.weights) <= best.value + 1e-9
    assert found.weights == pytest.approx(w.value, abs=1e-5)
    proof = certify(cut, found)
    assert proof.is_optimal
    assert proof.gap_relative <= 1e-9
    assert not certify(cut, replace(found, weights=np.r_[np.full(N - 1, 0.176), 0.12])).is_optimal
