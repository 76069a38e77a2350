"""Limits of the book inside the joint problem: on the data as stored, whatever signals expect.

The values are those of cvxpy, which is told the limits as the contract says them.
"""

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    portfolio_service_pb2,
    risk_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)
from positionsizing.v1 import optimization_service_pb2 as pb
from scipy.stats import norm

from tests.server.joint.test_joint import new_id, scenarios
from tests.server.joint.test_joint_truth import before_lots, covariance_of, moments, set_parameters
from tests.server.support.service_client import INSTRUMENTS, Client

FLOOR = {"wealth_floor": 0.7, "wealth_floor_probability": 0.05}
POWER = np.log(0.05) / np.log(0.7)
NOISE = 0.01 * np.random.default_rng(3).standard_normal((60, 2))
RETURNS = NOISE - NOISE.mean(axis=0) + np.array([-0.0005, 0.0005])
EXACT = {"tol_gap_abs": 1e-8, "tol_gap_rel": 1e-8, "tol_feas": 1e-9}
Measure = Callable[[Any], Any]


def stored_returns() -> market_service_pb2.Matrix:
    """The scenarios as a matrix to store."""
    return scenarios(2, matrix_id=new_id("matrix"), dense={"values": RETURNS.ravel()})


async def book(
    client: Client, matrix: market_service_pb2.Matrix, joint: dict[str, Any], **given: Any
) -> str:
    """A portfolio with these limits of the book, sized at full Kelly in lots of next to nothing."""
    limits = {"weight_max": 0.5, "leverage_max": 1.0, "joint": limits_pb2.JointLimits(**joint)}
    portfolio_id = await client.ready(cash=1e9, **{**limits, **given})
    matrix.as_of_time.GetCurrentTime()
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    await set_parameters(client, portfolio_id, kelly_fraction=1.0)
    return portfolio_id


def best(utility: Measure, *limits: Measure, weight_max: float = 0.5) -> np.ndarray[Any, Any]:
    """Weights of the largest utility where no limit is above 0, by cvxpy."""
    w = cp.Variable(2)
    within = [
        w >= 0.0,
        w <= weight_max,
        cp.sum(w) <= 1.0,
        *(100.0 * limit(w) <= 0.0 for limit in limits),
    ]
    model = cp.Problem(cp.Maximize(1e3 * utility(w)), within)
    model.solve(solver=cp.CLARABEL, **EXACT)
    assert model.status == "optimal"
    return np.asarray(w.value)


def growth(returns: np.ndarray[Any, Any], rate: float = 0.0) -> Measure:
    """Expected log growth over equally likely returns."""
    return lambda w: cp.sum(cp.log(1.0 + rate + (returns - rate) @ w)) / len(returns)


def floor(w: Any, rate: float = 0.0) -> Any:
    """log E W^-k over the stored scenarios."""
    wealth = 1.0 + rate + (RETURNS - rate) @ w
    return cp.log_sum_exp(-POWER * cp.log(wealth)) - np.log(len(RETURNS))


def assert_kept(
    decision: sizing_pb2.SizingDecision, weights: np.ndarray[Any, Any], atol: float = 2e-6
) -> None:
    """The optimum is `weights`, proven, and nothing after it cuts more than rounding to lots."""
    assert not decision.fallback_chain
    assert decision.certificate.duality_gap_relative <= 1e-8
    np.testing.assert_allclose(before_lots(decision), weights, atol=atol)
    np.testing.assert_allclose(decision.sizes.weight, before_lots(decision), atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.0002])
async def test_a_wealth_floor_is_that_of_the_stored_scenarios(
    joint_client: Client, rate: float
) -> None:
    """Hopeful signals neither buy more risk nor have all of it cut afterwards."""
    matrix = stored_returns()
    portfolio_id = await book(joint_client, matrix, FLOOR)
    await set_parameters(joint_client, portfolio_id, kelly_fraction=1.0, risk_free_rate=rate)
    expected = [0.004, 0.004]
    request = moments(portfolio_id, expected, scenario_matrix_id=matrix.matrix_id)
    decision = await joint_client.size(request)
    hoped = RETURNS - RETURNS.mean(axis=0) + np.array(expected)
    found = best(growth(hoped, rate), lambda w: floor(w, rate))
    assert floor(found, rate).value == pytest.approx(0.0, abs=1e-8)  # it binds
    assert_kept(decision, found)
    assert types_pb2.LIMIT_KIND_DRAWDOWN_RISK in decision.sizes.binding


async def test_a_hopeless_signal_may_leave_a_position_inside_the_floor(
    joint_client: Client,
) -> None:
    """The book is inside on the stored scenarios: as much is sold as one decision may."""
    matrix = stored_returns()
    portfolio_id = await book(joint_client, matrix, FLOOR, weight_max=0.6, turnover_max=0.05)
    await joint_client.portfolio.SetHoldings(
        portfolio_service_pb2.SetHoldingsRequest(
            portfolio_id=portfolio_id,
            cash=5e5,
            holdings={"instrument_ids": [INSTRUMENTS[1]], "quantity": [25_000]},
        )
    )
    request = moments(portfolio_id, [-0.02], scenario_matrix_id=matrix.matrix_id)
    request.signals.instrument_ids[:] = [INSTRUMENTS[1]]
    decision = await joint_client.size(request)
    assert not decision.fallback_chain
    np.testing.assert_allclose(decision.sizes.weight, [0.45], atol=1e-9)
    assert list(decision.sizes.trade_lots) == [-2_500]


async def test_value_at_risk_beside_a_covariance_alone_has_no_mean(joint_client: Client) -> None:
    """z sqrt(w'Sw) <= 0.005, as the contract says, and not less the mean that is expected."""
    covariance = np.array([[1e-4, 2e-5], [2e-5, 1e-4]])
    matrix = covariance_of(covariance)
    portfolio_id = await book(joint_client, matrix, {"var_max": 0.005})
    request = moments(portfolio_id, [0.003, 0.002], covariance_matrix_id=matrix.matrix_id)
    decision = await joint_client.size(request)
    root, mean = np.linalg.cholesky(covariance).T, np.array([0.003, 0.002])
    found = best(
        lambda w: mean @ w - 0.5 * cp.sum_squares(root @ w),
        lambda w: norm.ppf(0.95) * cp.norm(root @ w) - 0.005,
    )
    np.testing.assert_allclose(found, [0.24776, 0.13341], atol=1e-5)
    assert_kept(decision, found)


def drawdowns(w: Any) -> Any:
    """Depths below the highest level of the summed returns before."""
    path = cp.hstack([np.zeros(1), cp.cumsum(RETURNS @ w)])
    return (cp.cummax(path) - path)[1:]


CENTRED = RETURNS - RETURNS.mean(axis=0)
ROOT = np.linalg.qr(CENTRED)[1] / np.sqrt(len(RETURNS) - 1)
MEASURES: dict[str, tuple[float, Measure]] = {
    "volatility_max": (0.003, lambda w: cp.norm(ROOT @ w)),
    "var_max": (0.005, lambda w: norm.ppf(0.95) * cp.norm(ROOT @ w) - RETURNS.mean(axis=0) @ w),
    "cvar_max": (0.006, lambda w: cp.sum_largest(-RETURNS @ w, 3) / 3),
    "cdar_max": (0.015, lambda w: cp.sum_largest(drawdowns(w), 3) / 3),
    "wealth_floor": (0.0, floor),
    "tails": (0.006, lambda w: norm.ppf(0.975) * cp.norm(ROOT @ w)),
}


def stated(name: str, bound: float) -> dict[str, Any]:
    """A limit of the book in the contract's terms."""
    if name == "wealth_floor":
        return FLOOR
    if name != "tails":
        return {name: bound}
    tail = limits_pb2.TailLimit(
        measure=limits_pb2.TAIL_MEASURE_VALUE_AT_RISK,
        method=risk_service_pb2.TAIL_METHOD_NORMAL,
        level=0.975,
        bound=bound,
    )
    return {"tails": [tail]}


@pytest.mark.parametrize("of_variance", [False, True], ids=["growth", "mean variance"])
@pytest.mark.parametrize("name", MEASURES)
async def test_limits_beside_bets_are_those_of_the_stored_scenarios(
    joint_client: Client, name: str, of_variance: bool
) -> None:
    """What a bet pays is a matter of the objective, the matrix says what the book may lose."""
    matrix, (bound, measure) = stored_returns(), MEASURES[name]
    portfolio_id = await book(joint_client, matrix, stated(name, bound))
    win, payoff, loss = np.array([0.56, 0.6]), 0.02, 0.02
    rho = float(np.corrcoef(RETURNS.T)[0, 1])
    both = float(win.prod() + rho * np.sqrt((win * (1.0 - win)).prod()))
    outcome = np.array([[payoff, payoff], [payoff, -loss], [-loss, payoff], [-loss, -loss]])
    chance = np.array([both, win[0] - both, win[1] - both, 1.0 - win.sum() + both])
    centred = outcome - chance @ outcome
    spread = np.sqrt(chance)[:, None] * centred
    if of_variance:
        objective = pb.Objective(kind=pb.OBJECTIVE_KIND_MEAN_VARIANCE, risk_aversion=5.0)
        await set_parameters(
            joint_client, portfolio_id, kelly_fraction=1.0, joint_objective=objective
        )
    signals = sizing_pb2.SignalBatch(
        instrument_ids=INSTRUMENTS[:2],
        side=[types_pb2.SIDE_LONG] * 2,
        win_probability=win,
        payoff=[payoff] * 2,
        loss_fraction=[loss] * 2,
    )
    decision = await joint_client.size(
        sizing_service_pb2.SizePositionsRequest(
            portfolio_id=portfolio_id,
            method=types_pb2.SIZING_METHOD_JOINT,
            validate_only=True,
            signals=signals,
            scenario_matrix_id=matrix.matrix_id,
        )
    )

    def utility(w: Any) -> Any:
        if of_variance:
            return chance @ outcome @ w - 2.5 * cp.sum_squares(spread @ w)
        return chance @ cp.log(1.0 + outcome @ w)

    found = best(utility, lambda w: measure(w) - bound)
    assert measure(found).value == pytest.approx(bound, abs=1e-7)  # it binds
    optimum = before_lots(decision)
    assert measure(optimum).value <= bound + 1e-8
    assert utility(optimum).value == pytest.approx(utility(found).value, abs=2e-9)
    assert_kept(decision, found, atol=1e-5)  # a move along a limit is worth its square only


@pytest.mark.parametrize("seed", [1, 5, 7])
async def test_no_book_inside_a_tail_that_is_not_convex_is_better(
    joint_client: Client, seed: int
) -> None:
    """No mixture of two names, made smaller until 3 of 60 losses are beyond, grows faster."""
    returns = 0.01 * np.random.default_rng(seed).standard_t(3, (60, 2))
    returns += 0.001 - returns.mean(axis=0)
    matrix = scenarios(2, matrix_id=new_id("matrix"), dense={"values": returns.ravel()})
    tail = limits_pb2.TailLimit(
        measure=limits_pb2.TAIL_MEASURE_VALUE_AT_RISK,
        method=risk_service_pb2.TAIL_METHOD_HISTORICAL,
        level=0.95,
        bound=0.008,
    )
    portfolio_id = await book(joint_client, matrix, {"tails": [tail]}, weight_max=5.0)
    request = moments(portfolio_id, [0.004, 0.003], scenario_matrix_id=matrix.matrix_id)
    decision = await joint_client.size(request)
    assert decision.certificate.duality_gap_relative <= 1e-8
    hoped = returns - 0.001 + np.array([0.004, 0.003])

    def log_growth(weights: Any) -> float:
        return float(np.log1p(hoped @ weights).mean())

    def exceeded(weights: Any) -> float:
        return float(np.sort(-returns @ weights)[56])  # 3 of 60 losses are larger

    optimum = before_lots(decision)
    assert exceeded(optimum) <= 0.008 * (1.0 + 1e-8)
    np.testing.assert_allclose(decision.sizes.weight, optimum, atol=1e-6)
    angles = np.linspace(0.0, np.pi / 2.0, 721)
    rays = np.column_stack([np.cos(angles), np.sin(angles)])
    books = [ray * min(0.008 / exceeded(ray), 1.0 / ray.sum()) for ray in rays]
    assert log_growth(optimum) >= max(map(log_growth, books)) - 1e-9
