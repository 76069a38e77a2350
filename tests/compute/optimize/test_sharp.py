"""Books far smaller than their bounds: risk aversions of a million, and little room beside much."""

from __future__ import annotations

from math import expm1, log

import numpy as np
import pytest

from compute.optimize import solve
from compute.optimize.problem import Limits, Objective, ObjectiveKind, Problem, Rows
from compute.optimize.proof.certificate import certify

GAIN, LOSS = 0.02, 0.015


def _best(rho: float, win: float) -> float:
    """The optimum of a bet: win GAIN (1 + GAIN w)^-rho = (1 - win) LOSS (1 - LOSS w)^-rho."""
    size = log(win * GAIN / ((1.0 - win) * LOSS)) / rho
    return expm1(size) / (GAIN + LOSS * (1.0 + expm1(size)))


@pytest.mark.parametrize("cash", [0.0, 5e-5, -1e-4])
@pytest.mark.parametrize("rho", [2.0, 1e2, 1e3, 1e4, 1e5, 1e6])
def test_a_bet_is_sized_at_any_risk_aversion(rho: float, cash: float) -> None:
    """Cash earns the same whatever is bet, and takes the utility to 1e43 or to 1e-22."""
    problem = Problem(
        Objective(ObjectiveKind.CRRA, risk_aversion=rho),
        scenarios=np.array([[GAIN * (1.0 + cash) + cash], [-LOSS * (1.0 + cash) + cash]]),
        scenario_probability=np.array([0.6, 0.4]),
        limits=Limits(lower=np.zeros(1), upper=np.full(1, 50.0)),
        cash_return=cash,
    )
    found = solve(problem)
    assert found.weights[0] == pytest.approx(min(_best(rho, 0.6), 50.0), rel=1e-7)
    if rho < 1e5 or cash >= 0.0:
        assert certify(problem, found).is_optimal


def test_little_room_beside_large_holdings_is_used_to_the_last_digit() -> None:
    """Of two that are not traded, and cancel, there is much; cash leaves 3.5e-7 for the third."""
    room = 3.4798700345158584e-07
    held = np.array([-0.32111993, -0.37887972])
    rng = np.random.default_rng(7)
    move = 0.02 * rng.standard_normal(64)
    problem = Problem(
        Objective(ObjectiveKind.CRRA, risk_aversion=2.0),
        scenarios=np.column_stack([np.full(64, 1.0), move, -move * held[0] / held[1]]),
        limits=Limits(
            lower=np.concatenate([[0.0], held]),
            upper=np.concatenate([[0.5], held]),
            rows=Rows(
                np.array([[1.0, 0.0, 0.0]]), np.full(1, -np.inf), np.array([room]), ("cash",)
            ),
        ),
    )
    found = solve(problem)
    assert found.weights[0] == pytest.approx(room, rel=1e-9)
    assert certify(problem, found).is_optimal


def test_a_ratio_is_proven_whatever_number_bounds_what_cash_bounds() -> None:
    """Bounds of 1e4 where cash leaves 0.66, and a holding of 0.0026 that stays: as with 1."""
    rng = np.random.default_rng(5)
    scenarios = rng.normal(0.002, 0.015, (100, 4))
    scenarios[:, 3] = 0.0

    def problem(most: float) -> Problem:
        kept = np.array([0.0, 0.0, 0.0, 0.0026])
        return Problem(
            Objective(ObjectiveKind.MAX_SHARPE),
            scenarios=scenarios,
            limits=Limits(
                lower=kept,
                upper=np.where(kept > 0.0, kept, most),
                rows=Rows(
                    np.array([[1.0, 1.0, 1.0, 0.0]]),
                    np.full(1, -np.inf),
                    np.full(1, 0.66),
                    ("cash",),
                ),
            ),
        )

    ratios = []
    for most in (1.0, 1e4, 1e9):
        found = solve(problem(most))
        proof = certify(problem(most), found)
        assert proof.is_optimal, (most, proof)
        ratios.append(proof.objective)
    assert max(ratios) - min(ratios) <= 1e-9
