"""Each smooth objective says the same twice: to the solvers, and to the proof."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from compute.optimize import objectives
from compute.optimize.problem import Objective, ObjectiveKind, Problem
from compute.optimize.proof.evaluation import objective_value
from compute.optimize.proof.objectives import TWINS
from compute.optimize.proof.problem_numbers import ProblemData

# Not a smooth function by itself: tails have `measures`, the others modules of their own.
APART = {kind for kind in ObjectiveKind if kind.tail is not None}
APART |= {ObjectiveKind.RISK_BUDGET, ObjectiveKind.COMBINATION, ObjectiveKind.MAX_DIVERSIFICATION}
SMOOTH = [kind for kind in ObjectiveKind if kind not in APART]
KINDS = pytest.mark.parametrize("kind", SMOOTH, ids=lambda kind: kind.name)


def problem(kind: ObjectiveKind) -> tuple[Problem, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(11)
    scenarios = rng.normal(0.01, 0.04, (60, 4))
    probability = rng.dirichlet(np.full(60, 5.0))
    objective = Objective(kind, risk_aversion=2.5)
    made = Problem(
        objective, scenarios=scenarios, scenario_probability=probability, cash_return=0.002
    )
    return made, np.array([0.3, -0.2, 0.4, 0.1])


@KINDS
def test_every_smooth_kind_is_stated_on_both_sides(kind: ObjectiveKind) -> None:
    assert kind in objectives.SMOOTH, "add its blocks to compute/optimize/objectives.py"
    assert kind in TWINS, "add its twin to compute/optimize/proof/objectives.py"


@KINDS
def test_solver_and_proof_see_the_same_value(kind: ObjectiveKind) -> None:
    stated, weights = problem(kind)
    compiled = objectives.blocks(stated.objective, objectives.Moments(stated))
    seen = float(np.asarray(objectives.evaluate(stated, compiled, weights)))
    assert objective_value(stated, weights) == pytest.approx(seen, rel=1e-12, abs=1e-15)


def test_losses_beyond_doubles_are_minus_infinity_on_both_sides() -> None:
    stated, weights = problem(ObjectiveKind.CRRA)
    stated = dataclasses.replace(
        stated, objective=Objective(ObjectiveKind.CRRA, 1e6), cash_return=0.0
    )
    compiled = objectives.blocks(stated.objective, objectives.Moments(stated))
    assert objectives.evaluate(stated, compiled, weights) == -np.inf
    assert objective_value(stated, weights) == -np.inf
    with np.errstate(invalid="ignore"):
        slope = TWINS[ObjectiveKind.CRRA].gradient(
            ProblemData(stated), stated.objective, weights, -np.inf
        )
    assert not np.isfinite(slope).all()


@KINDS
def test_the_slope_of_the_proof_is_that_of_its_value(kind: ObjectiveKind) -> None:
    stated, weights = problem(kind)
    data, step = ProblemData(stated), 1e-6
    value = objective_value(stated, weights)
    sign = 1.0 if kind.maximised else -1.0
    steps = step * np.eye(len(weights))
    slope = [
        sign * (objective_value(stated, weights + d) - objective_value(stated, weights - d))
        for d in steps
    ]
    # Of the Sharpe ratio the slope is that of mean less ratio times volatility.
    unit = data.volatility(weights) if kind is ObjectiveKind.MAX_SHARPE else 1.0
    stated_slope = TWINS[kind].gradient(data, stated.objective, weights, value)
    np.testing.assert_allclose(stated_slope, unit * np.array(slope) / (2 * step), rtol=1e-6)


@KINDS
def test_the_curvature_bounds_the_value_from_above(kind: ObjectiveKind) -> None:
    """f(v) <= f(w) + g'd - d'Qd within reach, of what is maximised."""
    stated, weights = problem(kind)
    data, twin = ProblemData(stated), TWINS[kind]
    if kind is ObjectiveKind.MAX_SHARPE:
        assert not twin.curvature(data, stated.objective, weights, 0.0)[0].any()
        return
    sign = 1.0 if kind.maximised else -1.0
    matrix, _ = twin.curvature(data, stated.objective, weights, 0.0)
    here = sign * twin.value(data, stated.objective, weights)
    slope = twin.gradient(data, stated.objective, weights, None)
    for d in np.random.default_rng(3).normal(0.0, 0.3, (50, 4)):
        there = sign * twin.value(data, stated.objective, weights + d)
        assert there <= here + slope @ d - d @ matrix @ d + 1e-12
