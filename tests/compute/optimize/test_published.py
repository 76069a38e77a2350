"""Published and closed-form numbers, reached by the joint solver."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from compute.optimize import solve
from compute.optimize.execution import Execution
from compute.optimize.interior_point.risk_budget import run_spinu
from compute.optimize.problem import Array, Limits, Objective, ObjectiveKind, Problem, Rows, Status

Kind = ObjectiveKind


def growth(outcomes: Array, odds: Array) -> Problem:
    """Bets held long, within all the money there is."""
    n = outcomes.shape[1]
    limits = Limits(lower=np.zeros(n), budget_max=1.0)
    objective = Objective(Kind.LOG_GROWTH)
    return Problem(objective, limits, scenarios=outcomes, scenario_probability=odds)


def weights(asked: Problem, execution: Execution) -> Array:
    found = solve(asked, execution=execution)
    assert found.status is Status.OPTIMAL
    return found.weights


def pair(edge: float, correlation: float) -> tuple[Array, Array]:
    """Two even-money bets of one edge whose outcomes correlate."""
    both = (1.0 + edge) ** 2 / 4.0 + correlation * (1.0 - edge**2) / 4.0
    win = 0.5 * (1.0 + edge)
    odds = np.array([both, win - both, win - both, 1.0 - 2.0 * win + both])
    return np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]), odds


@pytest.mark.parametrize(
    ("edge", "correlation", "stake"),
    [
        (0.02, 0.0, 0.0199920032),
        (0.2, 0.0, 0.1923076923),
        (0.2, 0.5, 0.1315789474),
        (0.2, -0.5, 0.3571428571),
    ],
)
def test_two_even_bets(ahead: Execution, edge: float, correlation: float, stake: float) -> None:
    """f = m / (1 + m^2 + rho (1 - m^2)) each (Thorp 2006, section 5, at rho 0 and 1)."""
    found = weights(growth(*pair(edge, correlation)), ahead)
    assert found == pytest.approx([stake, stake], abs=1e-9)


def test_many_independent_even_bets(ahead: Execution) -> None:
    for n, stake in ((3, 0.18419859), (5, 0.16538046)):
        wins = np.array(list(product([1.0, -1.0], repeat=n)))
        odds = np.where(wins > 0.0, 0.6, 0.4).prod(axis=1)
        found = weights(growth(wins, odds), ahead)
        assert found == pytest.approx(np.full(n, stake), abs=1e-8)


@pytest.mark.parametrize(
    ("chances", "gross", "stakes"),
    [
        ([0.5, 0.3, 0.2], [1.8, 4.0, 5.0], [0.0, 0.0727272727, 0.0181818182]),
        ([0.55, 0.25, 0.1], [3.0, 3.2, 8.0], [0.4045454545, 0.1136363636, 0.0454545455]),
        ([0.4, 0.3, 0.2, 0.1], [3.0, 3.5, 4.0, 8.0], [0.4, 0.3, 0.2, 0.1]),
    ],
)
def test_a_horse_race(
    ahead: Execution, chances: list[float], gross: list[float], stakes: list[float]
) -> None:
    """Smoczynski and Tomkins 2010: R = (1 - sum p) / (1 - sum 1/o), f_i = p_i - R/o_i."""
    n = len(chances)
    outcomes, odds = np.diag(gross) - 1.0, np.array(chances)
    if odds.sum() < 1.0 - 1e-12:
        outcomes = np.vstack([outcomes, -np.ones(n)])
        odds = np.append(odds, 1.0 - odds.sum())
    assert weights(growth(outcomes, odds), ahead) == pytest.approx(stakes, abs=1e-8)


def test_a_rare_crash_is_sized_from_its_outcomes(ahead: Execution) -> None:
    """2 % up with odds of .98, 50 % down otherwise: .96, where mean over variance says 1.81."""
    asked = growth(np.array([[0.02], [-0.5]]), np.array([0.98, 0.02]))
    assert weights(asked, ahead) == pytest.approx([0.96], abs=1e-9)


def test_minimum_variance_of_rockafellar_and_uryasev(ahead: Execution) -> None:
    """Least variance for a mean of 1.1 % (J. Risk 2(3), table 5)."""
    mean = np.array([0.0101110, 0.0043532, 0.0137058])
    covariance = np.array(
        [
            [0.00324625, 0.00022983, 0.00420395],
            [0.00022983, 0.00049937, 0.00019247],
            [0.00420395, 0.00019247, 0.00764097],
        ]
    )
    floor = Rows(mean[None, :], np.array([0.011]), np.array([np.inf]), ("mean",))
    limits = Limits(lower=np.zeros(3), budget_min=1.0, budget_max=1.0, rows=floor)
    asked = Problem(Objective(Kind.MIN_VARIANCE), limits, mean=mean, covariance=covariance)
    found = weights(asked, ahead)
    # The moments are printed to five digits, which leaves the sixth digit of the weights open.
    assert found == pytest.approx([0.452013, 0.115573, 0.432414], abs=5e-6)
    kkt = np.zeros((5, 5))
    kkt[:3, :3], kkt[3, :3], kkt[4, :3] = covariance, mean, 1.0
    kkt[:3, 3:] = kkt[3:, :3].T
    exact = np.linalg.solve(kkt, np.array([0.0, 0.0, 0.0, 0.011, 1.0]))[:3]
    assert found == pytest.approx(exact, abs=1e-9)


def test_equal_contributions_of_maillard_roncalli_and_teiletche(ahead: Execution) -> None:
    volatility = np.array([0.1, 0.2, 0.3, 0.4])
    correlation = np.eye(4)
    correlation[0, 1] = correlation[1, 0] = 0.8
    correlation[2, 3] = correlation[3, 2] = -0.5
    covariance = correlation * np.outer(volatility, volatility)
    limits = Limits(lower=np.zeros(4), budget_min=1.0, budget_max=1.0)
    asked = Problem(Objective(Kind.RISK_BUDGET), limits, covariance=covariance)
    found = weights(asked, ahead)
    assert found == pytest.approx([0.38361251, 0.19180625, 0.24261785, 0.18196339], abs=1e-8)
    assert np.sqrt(found @ covariance @ found) == pytest.approx(0.10293404, abs=1e-8)


LEAN = [
    ([[0.25, -0.2], [-0.2, 0.25]], [(3.162278, 3.162278), (2.965685, 3.285618)]),
    ([[0.01, 0.0], [0.0, 0.04]], [(7.071068, 3.535534), (5.0, 4.330127)]),
    ([[1.0, 0.45], [0.45, 0.25]], [(0.512989, 1.025978), (0.264749, 1.510089)]),
    ([[0.25, 0.05], [0.05, 0.04]], [(1.154701, 2.886751), (0.681774, 3.924933)]),
]


@pytest.mark.parametrize(("covariance", "expected"), LEAN)
def test_the_books_of_another_engine(
    covariance: list[list[float]], expected: list[tuple[float, float]]
) -> None:
    """The least 1/2 x'Sx - b'log x before it is scaled, as LEAN's own tests have it."""
    for budgets, book in zip(([0.5, 0.5], [0.25, 0.75]), expected, strict=True):
        found = np.asarray(run_spinu(np.array(covariance), np.array(budgets)))[:2]
        assert found == pytest.approx(book, abs=1e-6)


def test_risk_shares_scale_and_turn_with_the_names(ahead: Execution) -> None:
    """Equal correlations: inverse volatility. Books do not depend on units, and follow names."""
    volatility = np.array([0.1, 0.25, 0.4, 0.05, 0.3])
    equal = np.full((5, 5), 0.4) + 0.6 * np.eye(5)
    covariance = equal * np.outer(volatility, volatility)
    limits = Limits(lower=np.zeros(5), budget_min=1.0, budget_max=1.0)
    for unit in (1e-6, 1.0, 1e4):
        asked = Problem(Objective(Kind.RISK_BUDGET), limits, covariance=unit * covariance)
        inverse = (1.0 / volatility) / (1.0 / volatility).sum()
        assert weights(asked, ahead) == pytest.approx(inverse, abs=1e-9)
    order, budgets = np.array([2, 0, 4, 1, 3]), np.array([1.0, 2.0, 3.0, 1.0, 2.0])
    one = Problem(Objective(Kind.RISK_BUDGET, budgets=budgets), limits, covariance=covariance)
    turned = Problem(
        Objective(Kind.RISK_BUDGET, budgets=budgets[order]),
        limits,
        covariance=covariance[np.ix_(order, order)],
    )
    expected = weights(one, ahead)[order]
    assert weights(turned, ahead) == pytest.approx(expected, abs=1e-9)
