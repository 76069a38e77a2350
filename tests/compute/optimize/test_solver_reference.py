"""The supplied problems with certified optima and the Busseti-Ryu-Boyd table."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from compute.optimize.interior_point import solve
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
from compute.optimize.proof.evaluation import largest_violation, objective_value

REFERENCE = Path(__file__).parents[2] / "reference"
OBJECTIVES = {
    "P1_max_sharpe_N20": Objective(ObjectiveKind.MAX_SHARPE),
    "P2_mv_utility_costs_N20": Objective(ObjectiveKind.MEAN_VARIANCE, risk_aversion=5.0),
    "P3_kelly_exact_N20": Objective(ObjectiveKind.LOG_GROWTH),
    "P3L_kelly_lev3_N20": Objective(ObjectiveKind.LOG_GROWTH),
    "P4_risk_constrained_kelly_N20": Objective(ObjectiveKind.LOG_GROWTH),
    "P8_mv_utility_nocost_N20": Objective(ObjectiveKind.MEAN_VARIANCE, risk_aversion=5.0),
}


def supplied(name: str) -> tuple[Problem, float]:
    data = np.load(REFERENCE / f"{name}.npz", allow_pickle=False)
    count = len(data["c_sechi"])
    sectors = np.array([data["c_sec"] == k for k in range(count)], float)
    names = tuple(f"sector {k}" for k in range(count))
    limits = Limits(
        lower=data["c_lo"],
        upper=data["c_hi"],
        budget_min=float(data["c_smin"]),
        budget_max=float(data["c_smax"]),
        rows=Rows(sectors, data["c_seclo"], data["c_sechi"], names) if count else None,
        drawdown_risk=DrawdownRisk(float(data["lam"])) if "lam" in data else None,
    )
    problem = Problem(
        OBJECTIVES[name],
        limits,
        Costs(linear=data["cost"]) if "cost" in data else Costs(),
        mean=data["mu"],
        covariance=data["Sigma"],
        scenarios=data["R"],
        holdings=data["c_w0"],
    )
    return problem, float(data["obj_opt"])


@pytest.mark.reference
@pytest.mark.parametrize("name", OBJECTIVES)
def test_supplied_problem_reaches_the_certified_optimum(name: str) -> None:
    problem, best = supplied(name)
    solution = solve(problem)
    assert solution.status is Status.OPTIMAL
    assert objective_value(problem, solution.weights) == pytest.approx(best, rel=1e-9, abs=0.0)
    assert solution.objective == pytest.approx(best, rel=1e-9, abs=0.0)
    assert largest_violation(problem, solution.weights) < 1e-10


def bets() -> tuple[Array, Array]:
    table = json.loads((REFERENCE / "rck_reference.json").read_text())
    outcomes = np.array(table["r"])
    if outcomes.shape[0] == 20:
        outcomes = outcomes.T
    return outcomes - 1.0, np.array(table["pi"])


def bet(exponent: float, *, quadratic: bool) -> Solution:
    """Notebook of Busseti, Ryu and Boyd: 20 bets, 100 outcomes, the last bet is cash."""
    scenarios, probability = bets()
    kind = ObjectiveKind.QUADRATIC_GROWTH if quadratic else ObjectiveKind.LOG_GROWTH
    risk = DrawdownRisk(exponent, quadratic=quadratic) if exponent > 0.0 else None
    limits = Limits(lower=np.zeros(20), budget_min=1.0, budget_max=1.0, drawdown_risk=risk)
    return solve(
        Problem(Objective(kind), limits, scenarios=scenarios, scenario_probability=probability)
    )


# exponent, quadratic, exact growth, shadow price of the risk limit
TABLE = [
    (0.0, False, 0.06169132399009, 0.0),
    (6.4556962358, False, 0.04301994612170, 0.1436722242),
    (5.5, False, 0.04735074899197, 0.1235067005),
    (0.0, True, 0.05386256271680, 0.0),
    (6.4556962358, True, 0.02662742732959, 0.7317487279),
    (2.8, True, 0.04370710792406, 0.3014060744),
]


@pytest.mark.reference
@pytest.mark.parametrize(("exponent", "quadratic", "growth", "kappa"), TABLE)
def test_busseti_ryu_boyd_table_is_reproduced(
    exponent: float, quadratic: bool, growth: float, kappa: float
) -> None:
    exact = math.log(0.1) / math.log(0.7) if exponent > 6 else exponent
    solution = bet(exact, quadratic=quadratic)
    scenarios, probability = bets()
    assert solution.status is Status.OPTIMAL
    value = float(probability @ np.log1p(scenarios @ solution.weights))
    assert value == pytest.approx(growth, abs=1e-10)
    assert solution.multipliers is not None
    # The table prices the quadratic limit divided by its exponent.
    assert solution.multipliers.drawdown_risk == pytest.approx(
        kappa / (exact if quadratic and exact > 0.0 else 1.0), abs=2e-8
    )


@pytest.mark.reference
def test_risk_constrained_kelly_budget_price_balances_every_held_bet() -> None:
    # Stationarity of the held bets: the pull of growth and of the risk limit is the budget's price.
    solution = bet(math.log(0.1) / math.log(0.7), quadratic=False)
    assert solution.multipliers is not None
    scenarios, probability = bets()
    kappa, exponent = solution.multipliers.drawdown_risk, math.log(0.1) / math.log(0.7)
    wealth = 1.0 + scenarios @ solution.weights
    tilt = probability * wealth**-exponent
    pull = scenarios.T @ ((probability + kappa * exponent * tilt / tilt.sum()) / wealth)
    held = solution.weights > 1e-9
    price = solution.multipliers.budget_max - solution.multipliers.budget_min
    assert pull[held] == pytest.approx(np.full(held.sum(), price), abs=1e-9)
