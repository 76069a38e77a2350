"""Shadow prices against closed forms, finite differences and a dual that is not unique."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cvxpy as cp
import numpy as np
import pytest

from benchmarks.reference_format import load
from compute.optimize import solve
from compute.optimize.problem import Costs, Limits, Objective, ObjectiveKind, Problem, Rows
from compute.optimize.sensitivity import shadow_prices as shadow_prices_module
from compute.optimize.sensitivity.shadow_prices import shadow_prices

Kind = ObjectiveKind
COVARIANCE = np.array([[0.04, 0.006, 0], [0.006, 0.09, 0.01], [0, 0.01, 0.0225]])
MEAN = np.array([0.05, 0.08, 0.03])
TIGHT = {"tol_gap_abs": 1e-13, "tol_gap_rel": 1e-13, "tol_feas": 1e-13}
REFERENCE = Path(__file__).parents[2] / "reference"


def _book(limits: Limits) -> Problem:
    kind = Objective(Kind.MEAN_VARIANCE, 1.0)
    return Problem(kind, limits, mean=MEAN, covariance=COVARIANCE)


def test_unique_prices_of_a_long_only_book() -> None:
    # methods K5.3: x = (27/59, 32/59, 0), budget .0284406780, reduced cost .0038644068.
    problem = _book(Limits(lower=np.zeros(3), budget_max=1.0))
    prices = shadow_prices(problem, np.array([27 / 59, 32 / 59, 0.0]))
    assert prices.keys() == {"budget_max", "lower[2]"}
    for name, expected in (("budget_max", 0.0284406780), ("lower[2]", 0.0038644068)):
        assert prices[name].low == pytest.approx(expected, abs=1e-10)
        assert prices[name].unique


def test_an_interval_where_the_dual_is_not_unique() -> None:
    # methods K5.4: gradient (.027, .032, .025) at (.5, .5, 0): the budget is worth .025 to .027.
    limits = Limits(lower=np.zeros(3), upper=np.full(3, 0.5), budget_max=1.0)
    prices = shadow_prices(_book(limits), np.array([0.5, 0.5, 0.0]))
    budget = prices["budget_max"]
    assert budget.low == pytest.approx(0.025, abs=1e-10)
    assert budget.high == pytest.approx(0.027, abs=1e-10)
    assert not budget.unique
    assert prices["upper[1]"].low == pytest.approx(0.005, abs=1e-10)
    assert prices["upper[1]"].high == pytest.approx(0.007, abs=1e-10)
    assert prices["lower[2]"].high == pytest.approx(0.002, abs=1e-10)


@pytest.mark.parametrize(("cap", "dual"), [(0.2, 0.4481963522), (0.1, 1.3963927044)])
def test_volatility_cap(cap: float, dual: float) -> None:
    # methods K5.5: the dual of x'Sx <= v^2; per unit of v itself it is 2 v times that.
    best = np.linalg.solve(COVARIANCE, MEAN)
    weights = best * cap / np.sqrt(MEAN @ best)
    price = shadow_prices(_book(Limits(volatility_max=cap)), weights)["volatility_max"]
    assert price.low == pytest.approx(2.0 * cap * dual, rel=1e-8)
    assert price.high == pytest.approx(2.0 * cap * dual, rel=1e-8)


def test_ends_are_the_one_sided_derivatives() -> None:
    def best(budget: float) -> float:
        x = cp.Variable(3)
        goal = cp.Maximize(MEAN @ x - 0.5 * cp.quad_form(x, cp.psd_wrap(COVARIANCE)))
        limits = [x >= 0, x <= 0.5, cp.sum(x) <= budget]
        cp.Problem(goal, limits).solve(solver=cp.CLARABEL, **TIGHT)
        return float(goal.value)

    step, here = 1e-4, best(1.0)
    limits = Limits(lower=np.zeros(3), upper=np.full(3, 0.5), budget_max=1.0)
    price = shadow_prices(_book(limits), np.array([0.5, 0.5, 0.0]))["budget_max"]
    assert (best(1.0 + step) - here) / step == pytest.approx(price.low, abs=1e-5)
    assert (here - best(1.0 - step)) / step == pytest.approx(price.high, abs=1e-5)


@pytest.mark.reference
def test_risk_constrained_kelly_price() -> None:
    reference = load(REFERENCE / "P4_risk_constrained_kelly_N20.npz")
    assert reference.weights is not None
    with np.load(REFERENCE / "P4_risk_constrained_kelly_N20.npz") as archive:
        expected = float(archive["nu"])
    price = shadow_prices(reference.problem, reference.weights, only={"drawdown_risk"})
    assert price["drawdown_risk"].low == pytest.approx(expected, rel=1e-6)
    assert price["drawdown_risk"].high == pytest.approx(expected, rel=1e-6)


@pytest.mark.reference
def test_drawdown_cap_price_is_the_slope_of_the_best_return() -> None:
    reference = load(REFERENCE / "P7_maxret_cdar_N20.npz")
    problem, weights = reference.problem, reference.weights
    assert weights is not None
    assert problem.scenarios is not None
    assert problem.limits.cdar_max is not None
    price = shadow_prices(problem, weights, only={"cdar_max"})["cdar_max"]

    def best(cap: float) -> float:
        x, level = cp.Variable(20), cp.Variable(1000)
        peak, worst = cp.Variable(1000), cp.Variable()
        moves = problem.scenarios @ x  # type: ignore[operator]
        limits = [x >= 0, x <= 0.2, cp.sum(x) == 1, level == cp.cumsum(moves), peak >= level]
        limits += [peak >= 0, peak[1:] >= peak[:-1]]
        excess = cp.sum(cp.pos(peak - level - worst)) / 50
        goal = cp.Maximize(problem.mean @ x)
        cp.Problem(goal, [*limits, worst + excess <= cap]).solve(solver=cp.HIGHS)
        return float(goal.value)

    step, here = 1e-5, best(problem.limits.cdar_max)
    gain = (best(problem.limits.cdar_max + step) - here) / step
    loss = (here - best(problem.limits.cdar_max - step)) / step
    assert price.low - 1e-7 <= gain <= price.high + 1e-7
    assert price.low - 1e-7 <= loss <= price.high + 1e-7


def test_sharpe_prices_are_of_the_ratio() -> None:
    problem = Problem(
        Objective(Kind.MAX_SHARPE),
        Limits(lower=np.zeros(3), upper=np.array([0.3, 1.0, 1.0]), budget_min=1.0, budget_max=1.0),
        mean=MEAN,
        covariance=COVARIANCE,
    )

    def best(upper: float) -> tuple[float, np.ndarray]:
        y, k = cp.Variable(3), cp.Variable()
        bound = cp.hstack([upper, 1.0, 1.0]) * k
        limits = [MEAN @ y == 1, y >= 0, y <= bound, cp.sum(y) == k, k >= 0]
        goal = cp.Minimize(cp.quad_form(y, cp.psd_wrap(COVARIANCE)))
        cp.Problem(goal, limits).solve(solver=cp.CLARABEL, **TIGHT)
        return 1.0 / np.sqrt(goal.value), y.value / k.value

    _, weights = best(0.3)
    price = shadow_prices(problem, weights)["upper[0]"]
    slope = (best(0.3 + 1e-4)[0] - best(0.3 - 1e-4)[0]) / 2e-4
    assert price.low == pytest.approx(slope, rel=1e-4)
    assert price.high == pytest.approx(slope, rel=1e-4)


def test_weights_that_are_not_optimal_are_refused() -> None:
    problem = _book(Limits(lower=np.zeros(3), budget_max=1.0))
    with pytest.raises(ValueError, match="none support these weights"):
        shadow_prices(problem, np.array([0.2, 0.2, 0.2]))
    with pytest.raises(ValueError, match="satisfy"):
        shadow_prices(problem, np.array([0.9, 0.9, 0.9]))


def test_named_rows_and_turnover() -> None:
    rows = Rows(np.array([[1.0, 1.0, 0.0]]), np.array([-np.inf]), np.array([0.6]), ("tech",))
    limits = Limits(lower=np.zeros(3), rows=rows, turnover_max=0.9)
    problem = dataclasses.replace(_book(limits), holdings=np.zeros(3))
    # Given 0.6 in the first two and 0.3 in the third: one equation each from the gradient.
    x = cp.Variable(3)
    goal = cp.Maximize(MEAN @ x - 0.5 * cp.quad_form(x, cp.psd_wrap(COVARIANCE)))
    tech, turnover = cp.sum(x[:2]) <= 0.6, cp.norm1(x) <= 0.9
    cp.Problem(goal, [x >= 0, tech, turnover]).solve(solver=cp.CLARABEL, **TIGHT)
    prices = shadow_prices(problem, x.value)
    assert prices["tech max"].low == pytest.approx(float(tech.dual_value), rel=1e-5)
    assert prices["turnover_max"].low == pytest.approx(float(turnover.dual_value), rel=1e-5)


@pytest.mark.parametrize(("price", "held"), [(0.0, 0.0), (2e-4, 0.0), (2e-3, 0.03)])
def test_a_segment_of_duals_is_what_linear_programs_find(
    monkeypatch: pytest.MonkeyPatch, price: float, held: float
) -> None:
    # The second row is three times the first: they share its price in any proportion.
    rng = np.random.default_rng(3)
    returns = 0.02 * rng.standard_normal((60, 12)) + np.linspace(0.001, 0.004, 12)
    matrix = np.array([np.ones(12), np.full(12, 3.0), np.eye(12)[11]])
    high = np.array([0.4, 1.2, 0.1])
    rows = Rows(matrix, np.full(3, -np.inf), high, ("sum", "thrice", "last"))
    problem = Problem(
        Objective(Kind.LOG_GROWTH),
        Limits(lower=np.zeros(12), upper=np.full(12, 0.15), rows=rows),
        Costs(linear=np.full(12, price)),
        scenarios=returns,
        holdings=np.full(12, held),
    )
    weights = solve(problem).weights
    own = shadow_prices(problem, weights)
    nothing = np.full(1, np.nan)
    monkeypatch.setattr(
        shadow_prices_module,
        "_segment",
        lambda duals, *_: (np.resize(nothing, len(duals.found)),) * 2,
    )
    zeros = np.zeros(12)
    monkeypatch.setattr(shadow_prices_module, "_straight", lambda program: (program, zeros))
    programs = shadow_prices(problem, weights)
    assert own["sum max"].high > 1e-4
    assert own["sum max"].low == 0.0
    assert own["thrice max"].high == pytest.approx(own["sum max"].high / 3.0, rel=1e-9)
    assert own.keys() == programs.keys()
    for name, found in own.items():
        assert found.low == pytest.approx(programs[name].low, abs=1e-9)
        assert found.high == pytest.approx(programs[name].high, abs=1e-9)
