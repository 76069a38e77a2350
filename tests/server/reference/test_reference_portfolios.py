"""Reference numbers of whole books, asked of a running service."""

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import limits_pb2, market_service_pb2, types_pb2
from positionsizing.v1 import optimization_service_pb2 as pb

from tests.server.joint.test_joint import objective_of
from tests.server.support.service_client import INSTRUMENTS, Client

Joint = limits_pb2.JointLimits


def matrix(kind: str, values: np.ndarray, **given: Any) -> market_service_pb2.Matrix:
    return market_service_pb2.Matrix(
        kind=market_service_pb2.MatrixKind.Value(f"MATRIX_KIND_{kind}"),
        instrument_ids=INSTRUMENTS[: values.shape[1]],
        dense={"values": values.ravel()},
        **given,
    )


def covariance(deviation: Any, *pairs: tuple[int, int, float]) -> np.ndarray:
    """From deviations and correlations of pairs."""
    correlation = np.eye(len(deviation))
    for i, j, rho in pairs:
        correlation[i, j] = correlation[j, i] = rho
    return correlation * np.outer(deviation, deviation)


async def optimum(
    client: Client,
    kind: str | pb.Objective,
    values: np.ndarray,
    mean: Any = (),
    *,
    free: bool = False,
    **given: Any,
) -> pb.OptimizePortfolioResponse:
    """free: neither sign nor size of a weight is bounded."""
    n = len(values)
    if free:
        given = {
            "weight_min": np.full(n, -100.0),
            "weight_max": np.full(n, 100.0),
            "budget_max": 1000.0,
        } | given
    problem = pb.OptimizationProblem(
        instrument_ids=INSTRUMENTS[:n],
        objective=objective_of(kind) if isinstance(kind, str) else kind,
        covariance=matrix("COVARIANCE", values),
        mean=mean,
        **given,
    )
    answer = await client.optimization.OptimizePortfolio(
        pb.OptimizePortfolioRequest(problem=problem)
    )
    assert answer.status == pb.OPTIMIZATION_STATUS_OPTIMAL
    return answer


def price(answer: pb.OptimizePortfolioResponse, limit: str) -> tuple[float, float]:
    (found,) = (p for p in answer.certificate.shadow_prices if p.limit == limit)
    return found.price_low, found.price_high


KELLY = objective_of("MEAN_VARIANCE", risk_aversion=1.0)
K5_1 = covariance([0.2, 0.3], (0, 1, 0.3))
K5_2 = np.array([[0.04, 0.006, 0.0], [0.006, 0.09, 0.01], [0.0, 0.01, 0.0225]])
MU = [0.05, 0.08, 0.03]
F = np.array([1.14516341, 0.69891062, 1.02270639])


async def test_two_assets_k5_1(joint_client: Client) -> None:
    answer = await optimum(joint_client, KELLY, K5_1, [0.06, 0.09], free=True, cash_return=0.02)
    np.testing.assert_allclose(answer.weights, [5 / 7, 40 / 63], rtol=1e-8)
    assert answer.certificate.objective == pytest.approx(0.0565079365 - 0.02, abs=6e-11)
    tangent = await optimum(
        joint_client, "MAX_SHARPE", K5_1, [0.06, 0.09], cash_return=0.02, budget_min=1.0
    )
    np.testing.assert_allclose(tangent.weights, [0.5294117647, 0.4705882353], atol=1e-8)
    assert tangent.certificate.objective == pytest.approx(0.2702144945, abs=6e-11)


async def test_three_assets_k5_2_to_k5_4(joint_client: Client) -> None:
    free = await optimum(joint_client, KELLY, K5_2, MU, free=True)
    np.testing.assert_allclose(free.weights, F, atol=1e-8)
    assert free.certificate.objective == pytest.approx(0.0719261058, abs=6e-11)
    ratio = await optimum(joint_client, "MAX_SHARPE", K5_2, MU, budget_min=1.0)
    assert ratio.certificate.objective == pytest.approx(0.3792785409, abs=6e-11)
    paid = await optimum(joint_client, KELLY, K5_2, MU)
    np.testing.assert_allclose(paid.weights, [27 / 59, 32 / 59, 0.0], atol=1e-8)
    assert paid.certificate.objective == pytest.approx(0.0473559322, abs=6e-11)
    assert price(paid, "budget_max") == pytest.approx((0.0284406780,) * 2, abs=1e-9)
    assert price(paid, "lower[I2]") == pytest.approx((0.0038644068,) * 2, abs=1e-9)
    halves = await optimum(joint_client, KELLY, K5_2, MU, weight_max=[0.5] * 3)
    np.testing.assert_allclose(halves.weights, [0.5, 0.5, 0.0], atol=1e-8)
    assert halves.certificate.objective == pytest.approx(0.04725, abs=6e-11)
    assert price(halves, "budget_max") == pytest.approx((0.025, 0.027), abs=1e-8)


@pytest.mark.parametrize(
    ("most", "scale", "dual"),
    [(0.2, 0.5273169411, 0.4481963522), (0.1, 0.2636584705, 1.3963927044)],
)
async def test_a_cap_on_volatility_k5_5(
    joint_client: Client, most: float, scale: float, dual: float
) -> None:
    """The dual is that of w'Sw <= v^2; of sqrt(w'Sw) <= v it is 2 v times that."""
    answer = await optimum(
        joint_client, KELLY, K5_2, MU, free=True, limits=Joint(volatility_max=most)
    )
    np.testing.assert_allclose(answer.weights, scale * F, atol=1e-7)
    assert price(answer, "volatility_max") == pytest.approx((2 * most * dual,) * 2, rel=1e-7)


RCK = [  # p, payoff, floor, probability: stake
    (0.6, 1.0, 0.7, 0.1, 0.0542572855),
    (0.6, 1.0, 0.5, 0.125, 0.1008501473),
    (0.55, 1.0, 0.7, 0.1, 0.0268997435),
    (0.5, 2.0, 0.7, 0.1, 0.0654489210),
    (0.6, 1.0, 0.8, 0.05, 0.0280779740),
]


def two_outcomes(
    p: float, payoff: float, floor: float, probability: float, kind: str = "LOG_GROWTH"
) -> pb.OptimizationProblem:
    return pb.OptimizationProblem(
        instrument_ids=INSTRUMENTS[:1],
        objective=objective_of(kind),
        scenarios=matrix(
            "SCENARIOS", np.array([[payoff], [-1.0]]), scenario_probability=[p, 1.0 - p]
        ),
        limits=Joint(wealth_floor=floor, wealth_floor_probability=probability),
    )


@pytest.mark.parametrize(("p", "payoff", "floor", "probability", "stake"), RCK)
async def test_risk_constrained_kelly_of_two_outcomes(
    joint_client: Client, p: float, payoff: float, floor: float, probability: float, stake: float
) -> None:
    request = pb.OptimizePortfolioRequest(problem=two_outcomes(p, payoff, floor, probability))
    answer = await joint_client.optimization.OptimizePortfolio(request)
    assert answer.weights[0] == pytest.approx(stake, abs=6e-10)
    if (p, floor) == (0.6, 0.7):
        assert answer.certificate.objective == pytest.approx(0.0093880270, abs=6e-11)
        (limit,) = answer.certificate.shadow_prices
        assert limit.kind == types_pb2.LIMIT_KIND_DRAWDOWN_RISK
        assert limit.price_low == pytest.approx(0.11227904, abs=6e-8)


async def test_rockafellar_and_uryasev_r6(joint_client: Client) -> None:
    values = np.array(
        [
            [0.00324625, 0.00022983, 0.00420395],
            [0.00022983, 0.00049937, 0.00019247],
            [0.00420395, 0.00019247, 0.00764097],
        ]
    )
    mean = np.array([0.0101110, 0.0043532, 0.0137058])
    least = limits_pb2.LinearLimit(
        name="return", instrument_ids=INSTRUMENTS[:3], coefficients=mean, lower=0.011
    )
    answer = await optimum(
        joint_client, "MIN_VARIANCE", values, mean, budget_min=1.0, limits=Joint(linear=[least])
    )
    # The moments are printed to five digits, which leaves the sixth digit of the weights open.
    np.testing.assert_allclose(answer.weights, [0.452013, 0.115573, 0.432414], atol=5e-6)
    kkt = np.zeros((5, 5))
    kkt[:3, :3], kkt[3, :3], kkt[4, :3] = values, mean, 1.0
    kkt[:3, 3:] = kkt[3:, :3].T
    exact = np.linalg.solve(kkt, np.array([0.0, 0.0, 0.0, 0.011, 1.0]))[:3]
    np.testing.assert_allclose(answer.weights, exact, atol=1e-9)
    w = np.array(answer.weights)
    s, m = float(np.sqrt(w @ values @ w)), float(mean @ w)
    for z, var, tail, cvar in (
        (1.2815515655, 0.067847, 1.7549833193, 0.096975),
        (1.6448536270, 0.090200, 2.0627128075, 0.115908),
        (2.3263478740, 0.132128, 2.6652142203, 0.152977),
    ):
        assert (z * s - m, tail * s - m) == pytest.approx((var, cvar), abs=1.1e-6)


BUDGETS = {  # covariance, budgets: weights in proportion, volatility at a sum of 1
    "R9": (
        covariance([0.3, 0.2, 0.15], (0, 1, 0.8), (0, 2, 0.5), (1, 2, 0.3)),
        [0.5, 0.2, 0.3],
        [0.31145051, 0.21899751, 0.46955198],
        0.17489716,
    ),
    "R9 equal": (
        covariance([0.3, 0.2, 0.15], (0, 1, 0.8), (0, 2, 0.5), (1, 2, 0.3)),
        [1.0, 1.0, 1.0],
        [0.19686194, 0.32444083, 0.47869723],
        0.16131352,
    ),
    "R10": (
        covariance([0.1, 0.2, 0.3, 0.4], (0, 1, 0.8), (2, 3, -0.5)),
        [1.0] * 4,
        [0.38361251, 0.19180625, 0.24261785, 0.18196339],
        0.10293404,
    ),
    "R11 S1": (np.array([[0.25, -0.2], [-0.2, 0.25]]), [1.0, 1.0], [0.5, 0.5], None),
    "R11 S2": (np.diag([0.01, 0.04]), [0.5, 0.5], [7.071068, 3.535534], None),
    "R11 S3": (np.array([[1.0, 0.45], [0.45, 0.25]]), [0.5, 0.5], [0.512989, 1.025978], None),
    "R11 S4": (np.array([[0.25, 0.05], [0.05, 0.04]]), [0.5, 0.5], [1.154701, 2.886751], None),
    "R11 S1 b": (np.array([[0.25, -0.2], [-0.2, 0.25]]), [1, 3], [2.965685, 3.285618], None),
    "R11 S2 b": (np.diag([0.01, 0.04]), [1, 3], [5.0, 4.330127], None),
    "R11 S3 b": (np.array([[1.0, 0.45], [0.45, 0.25]]), [1, 3], [0.264749, 1.510089], None),
    "R11 S4 b": (np.array([[0.25, 0.05], [0.05, 0.04]]), [1, 3], [0.681774, 3.924933], None),
}


@pytest.mark.parametrize("name", BUDGETS)
async def test_risk_budgets(joint_client: Client, name: str) -> None:
    values, budgets, expected, volatility = BUDGETS[name]
    objective = objective_of("RISK_BUDGET", budgets=budgets)
    answer = await optimum(joint_client, objective, values, budget_min=1.0)
    proportion = np.array(expected) / np.sum(expected)
    np.testing.assert_allclose(answer.weights, proportion, atol=3e-7)
    if volatility is not None:
        w = np.array(answer.weights)
        assert np.sqrt(w @ values @ w) == pytest.approx(volatility, abs=6e-9)


@pytest.mark.parametrize(
    ("deviations", "most"),
    [(None, 2.7777778), (2.3263478740, 0.7268452236), (2.6652142203, 0.6332606749)],
    ids=["free", "VaR", "ES"],
)
async def test_kelly_inside_value_at_risk_and_shortfall_r20(
    joint_client: Client, deviations: float | None, most: float
) -> None:
    """Of a normal return the shortfall at 99 % is the value at risk at 2.665 deviations."""
    limits = Joint()
    if deviations is not None:
        limits = Joint(var_max=0.02, var_level=NormalDist().cdf(deviations))
    answer = await optimum(
        joint_client, KELLY, np.array([[0.012**2]]), [0.0004], free=True, limits=limits
    )
    assert answer.weights[0] == pytest.approx(most, rel=2e-8)
