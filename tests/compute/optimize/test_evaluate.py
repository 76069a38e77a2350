"""Objectives, measures and limits against hand computations and slow definitions."""

from __future__ import annotations

import dataclasses

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.optimize import measures
from compute.optimize.problem import (
    Costs,
    DrawdownRisk,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
)
from compute.optimize.proof.evaluation import largest_violation, objective_value, violations

Kind = ObjectiveKind
UNIFORM4 = np.full(4, 0.25)


def test_cvar_takes_the_fraction_of_the_last_loss() -> None:
    # Worst 40 % of four equal atoms: all of the loss 4 (25 %) and 15 % of the loss 3.
    value, weights = measures.cvar(np.array([-1.0, -2.0, -3.0, -4.0]), UNIFORM4, 0.6)
    assert value == pytest.approx((0.25 * 4 + 0.15 * 3) / 0.4, abs=1e-15)
    np.testing.assert_allclose(weights, [0, 0, 0.375, 0.625], atol=1e-15)


def test_cvar_weighs_scenarios_by_probability() -> None:
    value, _ = measures.cvar(np.array([-10.0, 0.0, 1.0]), np.array([0.02, 0.48, 0.5]), 0.95)
    assert value == pytest.approx((0.02 * 10 + 0.03 * 0) / 0.05, abs=1e-14)


def test_drawdown_counts_the_start_as_a_peak() -> None:
    returns = np.array([-0.1, 0.3, -0.2, -0.1, 0.05])
    depth, peak = measures.drawdowns(returns)
    np.testing.assert_allclose(depth, [0.1, 0.0, 0.2, 0.3, 0.25], atol=1e-15)
    np.testing.assert_array_equal(peak, [0, 2, 2, 2, 2])
    assert measures.maximum_drawdown(returns)[0] == pytest.approx(0.3, abs=1e-15)


returns_lists = st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=30)


@settings(max_examples=60, deadline=None)
@given(returns_lists, st.floats(0.05, 0.97), st.integers(0, 2**31))
def test_functionals_attain_the_measure_and_never_exceed_it(
    values: list[float], level: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    here, other = np.array(values), rng.normal(0, 0.1, len(values))
    probability = np.full(len(values), 1.0 / len(values))
    for measure in (
        lambda x: measures.cvar(x, probability, level),
        lambda x: measures.cdar(x, probability, level),
        measures.maximum_drawdown,
    ):
        value, functional = measure(here)
        assert value == pytest.approx(-functional @ here, abs=1e-12)
        assert measure(other)[0] >= -functional @ other - 1e-12


@settings(max_examples=60, deadline=None)
@given(returns_lists, st.integers(0, 2**31))
def test_any_peak_masses_are_repaired_to_a_lower_bound(values: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    returns = np.array(values)
    probability = np.full(len(values), 1.0 / len(values))
    tail = measures.tail_weights(rng.normal(size=len(values)), probability, 0.5)
    functional = measures.drawdown_functional(tail, rng.normal(size=len(values) + 1))
    assert measures.cdar(returns, probability, 0.5)[0] >= -functional @ returns - 1e-12


def test_log_mean_power_of_little_has_its_own_digits() -> None:
    """Nothing held is worth 0, and returns of 1e-9 what 40 digits make of them."""
    probability = np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.1])
    assert probability.sum() != 1.0
    assert measures.log_mean_power(np.ones(6), probability, 11.4)[0] == 0.0
    growth = 1.0 + 1e-9 * np.array([1.0, -2.0, 0.5, 3.0, -1.0, 2.0])
    with mp.workdps(40):
        chances = [mp.mpf(float(p)) for p in probability]
        mean = sum(p * mp.mpf(float(g)) ** -6 for p, g in zip(chances, growth, strict=True))
        exact = float(mp.log(mean / sum(chances)))
    value, _ = measures.log_mean_power(growth, probability, 6.0)
    assert value == pytest.approx(exact, rel=1e-12)


def test_log_mean_power_matches_differences() -> None:
    growth, probability = np.array([0.9, 1.0, 1.2, 1.05]), np.array([0.1, 0.2, 0.3, 0.4])
    value, slope = measures.log_mean_power(growth, probability, 6.4)
    assert value == pytest.approx(np.log(probability @ growth**-6.4), abs=1e-14)
    for index in range(4):
        step = np.zeros(4)
        step[index] = 1e-6
        up = measures.log_mean_power(growth + step, probability, 6.4)[0]
        down = measures.log_mean_power(growth - step, probability, 6.4)[0]
        assert slope[index] == pytest.approx((up - down) / 2e-6, rel=1e-7, abs=1e-9)
    assert measures.log_mean_power(growth - 0.9, probability, 2.0)[0] == np.inf


SCENARIOS = np.array([[0.1, -0.05], [-0.08, 0.04], [0.02, 0.03], [0.0, -0.01]])
MEAN = SCENARIOS.mean(0)
SIGMA = np.cov(SCENARIOS, rowvar=False)
WEIGHTS = np.array([0.6, -0.2])


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Objective(Kind.LOG_GROWTH), np.log1p(SCENARIOS @ WEIGHTS).mean()),
        (Objective(Kind.CRRA, 1.0), np.log1p(SCENARIOS @ WEIGHTS).mean()),
        (Objective(Kind.CRRA, 3.0), (((1 + SCENARIOS @ WEIGHTS) ** -2 - 1) / -2).mean()),
        (
            Objective(Kind.MEAN_VARIANCE, 4.0),
            MEAN @ WEIGHTS - 2.0 * WEIGHTS @ SIGMA @ WEIGHTS,
        ),
        (Objective(Kind.MIN_VARIANCE), WEIGHTS @ SIGMA @ WEIGHTS),
        (Objective(Kind.MAX_RETURN), MEAN @ WEIGHTS),
        (Objective(Kind.MAX_SHARPE), MEAN @ WEIGHTS / np.sqrt(WEIGHTS @ SIGMA @ WEIGHTS)),
        (
            Objective(Kind.QUADRATIC_GROWTH),
            MEAN @ WEIGHTS - 0.5 * ((SCENARIOS @ WEIGHTS) ** 2).mean(),
        ),
        (Objective(Kind.MIN_CVAR, tail=0.75), -(SCENARIOS @ WEIGHTS).min()),
        (Objective(Kind.MIN_MAX_DRAWDOWN), 0.056),
    ],
)
def test_objective_values(objective: Objective, expected: float) -> None:
    problem = Problem(objective, scenarios=SCENARIOS)
    assert objective_value(problem, WEIGHTS) == pytest.approx(expected, rel=1e-12)


def test_costs_lower_what_is_maximised_and_raise_what_is_minimised() -> None:
    costs = Costs(linear=np.array([0.001, 0.002]), impact=np.array([0.01, 0.01]))
    held = np.array([0.5, 0.0])
    burden = 0.001 * 0.1 + 0.002 * 0.2 + 0.01 * (0.1**1.5 + 0.2**1.5)
    for kind, sign in ((Kind.MAX_RETURN, -1.0), (Kind.MIN_VARIANCE, 1.0)):
        bare = Problem(Objective(kind), scenarios=SCENARIOS, holdings=held)
        change = objective_value(dataclasses.replace(bare, costs=costs), WEIGHTS)
        change -= objective_value(bare, WEIGHTS)
        assert change == pytest.approx(sign * burden, rel=1e-12)


def test_combination_enters_minimised_terms_with_a_minus() -> None:
    terms = ((2.0, Objective(Kind.MAX_RETURN)), (3.0, Objective(Kind.MIN_VARIANCE)))
    problem = Problem(Objective(Kind.COMBINATION, terms=terms), scenarios=SCENARIOS)
    expected = 2.0 * MEAN @ WEIGHTS - 3.0 * WEIGHTS @ SIGMA @ WEIGHTS
    assert objective_value(problem, WEIGHTS) == pytest.approx(expected, rel=1e-12)


def test_ruin_is_minus_infinity() -> None:
    problem = Problem(Objective(Kind.LOG_GROWTH), scenarios=SCENARIOS)
    assert objective_value(problem, np.array([13.0, 0.0])) == -np.inf


def test_every_limit_is_measured_by_name() -> None:
    rows = Rows(
        np.array([[1.0, 1.0], [1.0, 0.0]]),
        np.array([0.5, -np.inf]),
        np.array([np.inf, 0.5]),
        ("net", "tech"),
    )
    limits = Limits(
        lower=np.array([0.0, -0.1]),
        upper=np.array([0.5, 0.5]),
        budget_min=0.45,
        budget_max=0.3,
        rows=rows,
        gross_max=0.7,
        turnover_max=0.75,
        trade_max=np.array([0.55, 0.3]),
        volatility_max=0.01,
        var_max=0.02,
        cvar_max=0.01,
        cvar_tail=0.75,
        cdar_max=0.05,
        cdar_tail=0.75,
        drawdown_max=0.01,
        drawdown_risk=DrawdownRisk(2.0),
    )
    found = violations(Problem(Objective(Kind.MAX_RETURN), limits, scenarios=SCENARIOS), WEIGHTS)
    volatility = np.sqrt(WEIGHTS @ SIGMA @ WEIGHTS)
    expected = {
        "lower": 0.1,
        "upper": 0.1,
        "budget_min": 0.05,
        "budget_max": 0.1,
        "net min": 0.1,
        "tech max": 0.1,
        "gross_max": 0.1,
        "turnover_max": 0.05,
        "trade_max": 0.05,
        "volatility_max": volatility - 0.01,
        "var_max": 1.6448536269514722 * volatility - MEAN @ WEIGHTS - 0.02,
        "cvar_max": 0.056 - 0.01,
        "cdar_max": 0.056 - 0.05,
        "drawdown_max": 0.056 - 0.01,
        "drawdown_risk": np.log(((1 + SCENARIOS @ WEIGHTS) ** -2.0).mean()),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_soft_rows_are_priced_and_not_violations() -> None:
    rows = Rows(
        np.ones((1, 2)), np.array([-np.inf]), np.array([0.1]), ("net",), price=np.array([2.0])
    )
    problem = Problem(Objective(Kind.MAX_RETURN), Limits(rows=rows), scenarios=SCENARIOS)
    assert largest_violation(problem, WEIGHTS) == 0.0
    expected = MEAN @ WEIGHTS - 2.0 * 0.3
    assert objective_value(problem, WEIGHTS) == pytest.approx(expected, rel=1e-12)


def test_not_a_number_violates_everything() -> None:
    problem = Problem(Objective(Kind.MAX_RETURN), scenarios=SCENARIOS)
    assert largest_violation(problem, np.array([0.1, np.nan])) == np.inf
