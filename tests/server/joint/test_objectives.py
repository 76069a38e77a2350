"""Objectives and frontiers of a running service, against the same programs solved by cvxpy."""

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from positionsizing.v1 import optimization_service_pb2 as pb

from tests.server.joint.test_joint import RETURNS, objective_of, optimize, problem
from tests.server.support.service_client import Client

N, CAP, LEVEL, AVERSION = 5, 0.4, 0.9, 3.0
R = RETURNS[:, :N]
MEAN, COVARIANCE = R.mean(axis=0), np.cov(R.T)
Risk = Callable[[Any], Any]


def drawdowns(w: Any) -> Any:
    """Of the path of summed returns, which begins at nothing lost."""
    path = cp.hstack([0.0, cp.cumsum(R @ w)])
    peak = cp.Variable(len(R) + 1)
    return peak, peak - path, [peak >= path, peak[1:] >= peak[:-1]]


def worst_mean(losses: Any, level: float) -> Any:
    """The mean of the worst 1 - level (Rockafellar and Uryasev 2000)."""
    t = cp.Variable()
    return t + cp.sum(cp.pos(losses - t)) / ((1.0 - level) * len(R))


def solved(value: Any, w: Any, constraints: list[Any], least: float | None) -> float:
    book = [w >= 0.0, w <= CAP, cp.sum(w) <= 1.0]
    if least is not None:
        book.append(MEAN @ w >= least)
    program = cp.Problem(value, [*book, *constraints])
    return float(program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12))


def least_risk(kind: str, least: float | None = None, invested: float = 1.0) -> float:
    """The least risk of a book that is invested, and of those that earn so much."""
    w = cp.Variable(N)
    within = [cp.sum(w) >= invested]
    if kind == "MIN_VARIANCE":
        return solved(cp.Minimize(cp.quad_form(w, COVARIANCE)), w, within, least)
    if kind == "MIN_CVAR":
        return solved(cp.Minimize(worst_mean(-R @ w, LEVEL)), w, within, least)
    _, falls, along = drawdowns(w)
    value = cp.max(falls) if kind == "MIN_MAX_DRAWDOWN" else worst_mean(falls[1:], LEVEL)
    return solved(cp.Minimize(value), w, within + along, least)


def risk_of(kind: str, w: np.ndarray) -> float:
    """The risk by its definition, of weights."""
    path = np.concatenate([[0.0], np.cumsum(R @ w)])
    falls = np.maximum.accumulate(path) - path
    if kind == "MIN_VARIANCE":
        return float(w @ COVARIANCE @ w)
    if kind == "MIN_MAX_DRAWDOWN":
        return float(falls.max())
    losses = np.sort(-R @ w if kind == "MIN_CVAR" else falls[1:])[::-1]
    return float(losses[: round((1.0 - LEVEL) * len(R))].mean())


def asked(kind: str, **given: Any) -> pb.OptimizationProblem:
    tail = {"tail_level": LEVEL} if kind in ("MIN_CVAR", "MIN_CDAR") else {}
    return problem(objective_of(kind, **tail), n=N, budget_min=1.0, **given)


RISKS = ["MIN_VARIANCE", "MIN_CVAR", "MIN_CDAR", "MIN_MAX_DRAWDOWN"]


@pytest.mark.parametrize("kind", RISKS)
async def test_no_invested_book_has_less_risk(joint_client: Client, kind: str) -> None:
    answer = await optimize(joint_client, asked(kind))
    assert answer.status == pb.OPTIMIZATION_STATUS_OPTIMAL
    weights = np.array(answer.weights)
    assert weights.sum() == pytest.approx(1.0, abs=1e-9)
    assert ((weights >= -1e-12) & (weights <= CAP + 1e-12)).all()
    wanted = least_risk(kind)
    assert risk_of(kind, weights) == pytest.approx(wanted, rel=1e-6)
    assert answer.certificate.objective == pytest.approx(wanted, rel=1e-6)
    even = np.full(N, 1.0 / N)
    assert wanted < 0.999 * risk_of(kind, even), "there is something to gain"


async def test_no_book_has_a_larger_sharpe_ratio(joint_client: Client) -> None:
    """min y'Sy of those with an excess mean of 1, scaled to what is invested."""
    cap = 0.24
    answer = await optimize(joint_client, asked("MAX_SHARPE", weight_max=np.full(N, cap)))
    weights = np.array(answer.weights)
    y = cp.Variable(N, nonneg=True)
    within = [MEAN @ y == 1.0, y <= cap * cp.sum(y)]
    least = cp.Problem(cp.Minimize(cp.quad_form(y, COVARIANCE)), within).solve(solver=cp.CLARABEL)
    ratio = MEAN @ weights / np.sqrt(weights @ COVARIANCE @ weights)
    assert ratio == pytest.approx(least**-0.5, rel=1e-6)
    assert answer.certificate.objective == pytest.approx(ratio, rel=1e-9)
    np.testing.assert_allclose(weights, y.value / y.value.sum(), atol=1e-4)
    assert weights.max() == pytest.approx(cap, abs=1e-6), "a cap binds"


@pytest.mark.parametrize("kind", ["LOG_GROWTH", "CRRA"])
async def test_no_book_has_more_utility(joint_client: Client, kind: str) -> None:
    given = {"risk_aversion": AVERSION} if kind == "CRRA" else {}
    answer = await optimize(joint_client, problem(objective_of(kind, **given), n=N))
    w = cp.Variable(N)
    wealth = 1.0 + R @ w
    if kind == "LOG_GROWTH":
        utility = cp.sum(cp.log(wealth)) / len(R)
    else:
        utility = (1.0 - cp.sum(cp.power(wealth, 1.0 - AVERSION)) / len(R)) / (AVERSION - 1.0)
    wanted = solved(cp.Maximize(utility), w, [], None)
    assert answer.certificate.objective == pytest.approx(wanted, rel=1e-7)
    np.testing.assert_allclose(answer.weights, w.value, atol=1e-4)


@pytest.mark.parametrize("kind", RISKS)
async def test_every_point_of_a_frontier_is_the_least_risk_of_its_return(
    joint_client: Client, kind: str
) -> None:
    request = pb.TraceFrontierRequest(problem=asked(kind), point_count=6)
    points = (await joint_client.optimization.TraceFrontier(request, timeout=60)).points
    assert len(points) == 6
    for point in points:
        weights, found = np.array(point.weights), point.risk
        assert point.expected_return == pytest.approx(MEAN @ weights, rel=1e-9)
        wanted = least_risk(kind, least=point.expected_return - 1e-12)
        assert risk_of(kind, weights) == pytest.approx(wanted, rel=2e-6)
        wanted = wanted**0.5 if kind == "MIN_VARIANCE" else wanted
        assert found == pytest.approx(wanted, rel=2e-6)
    order = np.sort(MEAN)[::-1]
    most = CAP * order[:2].sum() + (1.0 - 2.0 * CAP) * order[2]
    assert points[-1].expected_return == pytest.approx(most, rel=1e-6)
    assert np.all(np.diff([point.risk for point in points]) > 0.0)
