"""The method RISK_PARITY: lines share the risk budget in equal parts, as a client sees it."""

from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import (
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.support.service_client import Client, new_id, refusal, sizing_request

VOLATILITY = np.array([0.1, 0.2, 0.4, 0.25, 0.3, 0.2, 0.2, 0.2])
CORRELATION = np.array([[1.0, 0.6, -0.3], [0.6, 1.0, 0.1], [-0.3, 0.1, 1.0]])
COVARIANCE = CORRELATION * np.outer(VOLATILITY[:3], VOLATILITY[:3]) / 252
BUDGET = 0.12


async def book(
    client: Client, held: dict[str, float] | None = None, **given: Any
) -> tuple[str, str]:
    """A portfolio without tight limits, and the market it is sized on."""
    snapshot = await client.put_market(
        snapshot_id=new_id("snapshot"), lot_size=[1e-9] * 8, volatility=VOLATILITY
    )
    portfolio_id = await client.put_portfolio(1e6, held)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=5.0, leverage_max=20.0, allow_short=True)
    parameters = {"method": types_pb2.SIZING_METHOD_RISK_PARITY, "risk_budget": BUDGET, **given}
    chosen = parameter_service_pb2.SizingParameters(
        **{name: value for name, value in parameters.items() if value is not None}
    )
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=chosen)
    )
    return portfolio_id, snapshot


async def covariance(client: Client, values: np.ndarray = COVARIANCE) -> str:
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("covariance"),
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        instrument_ids=[f"I{i}" for i in range(len(values))],
        dense=market_service_pb2.DenseMatrix(values=values.ravel()),
    )
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    return matrix.matrix_id


def request(
    found: tuple[str, str], n: int = 3, sides: tuple[int, ...] = (), **given: Any
) -> sizing_service_pb2.SizePositionsRequest:
    edges = {"win_probability": [0.55] * n, "payoff": [1.0] * n}
    made = sizing_request(found[0], [f"I{i}" for i in range(n)], edges, **given)
    made.market_snapshot_id = found[1]
    if sides:
        made.signals.side[:] = sides
    return made


async def test_without_a_covariance_each_line_has_the_same_standalone_risk(client: Client) -> None:
    decision = await client.size(request(await book(client)))
    weight = np.array(decision.sizes.weight)
    np.testing.assert_allclose(weight * VOLATILITY[:3], BUDGET / 3, rtol=1e-6)
    assert decision.method == types_pb2.SIZING_METHOD_RISK_PARITY
    assert not decision.fallback_chain
    stages = [stage.stage for stage in decision.waterfall.stages]
    assert types_pb2.SIZING_STAGE_ALGORITHM in stages
    assert types_pb2.SIZING_STAGE_JOINT_OPTIMUM not in stages


@pytest.mark.parametrize("sides", [(1, 1, 1), (1, 2, 1), (2, 2, 2)])
async def test_with_a_covariance_each_line_contributes_the_same_risk(
    client: Client, sides: tuple[int, ...]
) -> None:
    found = await book(client)
    asked = request(found, sides=sides, covariance_matrix_id=await covariance(client))
    weight = np.array((await client.size(asked)).sizes.weight)
    contribution = weight * (COVARIANCE @ weight)
    np.testing.assert_allclose(contribution, contribution.mean(), rtol=1e-6)
    np.testing.assert_array_equal(np.sign(weight), [1 if side == 1 else -1 for side in sides])
    assert np.abs(weight) @ VOLATILITY[:3] == pytest.approx(BUDGET, rel=1e-6)


async def test_what_is_held_elsewhere_uses_the_budget_and_rules_hold(client: Client) -> None:
    found = await book(client, held={"I3": 100.0}, volatility_target=0.03)
    decision = await client.size(request(found, n=2))
    left = BUDGET - decision.summary.gross_weight_before * VOLATILITY[3]
    assert 0.0 < left < BUDGET
    risk = np.array(decision.sizes.weight) * VOLATILITY[:2]
    np.testing.assert_allclose(risk, min(left / 2, 0.03), rtol=1e-6)
    assert set(decision.sizes.binding) == {types_pb2.LIMIT_KIND_VOLATILITY_TARGET}


async def test_limits_hold_and_a_replay_gives_the_same_lots(client: Client) -> None:
    found = await book(client)
    asked = request(found, validate_only=False)
    asked.limits.weight_max = 0.3
    decision = await client.size(asked)
    weight = np.array(decision.sizes.weight)
    assert (weight <= 0.3).all()
    np.testing.assert_allclose(weight[1:], BUDGET / 3 / VOLATILITY[1:3], rtol=1e-6)
    assert decision.sizes.binding[0] == types_pb2.LIMIT_KIND_WEIGHT_MAX
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal


async def test_what_ifs_share_anew(client: Client) -> None:
    found = await book(client)
    half = sizing_service_pb2.Variation(name="half")
    half.parameters.risk_budget = BUDGET / 2
    other = sizing_service_pb2.Variation(name="kelly")
    other.parameters.method = types_pb2.SIZING_METHOD_CLOSED_FORM
    answer = await client.sizing.WhatIf(
        sizing_service_pb2.WhatIfRequest(base=request(found), variations=[half, other])
    )
    base = np.array(answer.base.sizes.weight)
    np.testing.assert_allclose(answer.results[0].sizes.weight, base / 2, rtol=1e-6)
    alone = await client.size(request(found, method=types_pb2.SIZING_METHOD_CLOSED_FORM))
    np.testing.assert_array_equal(answer.results[1].sizes.weight, alone.sizes.weight)


async def test_what_is_missing_is_named(client: Client) -> None:
    assert (await refused(client, request(await book(client, risk_budget=None)))) == (
        "MISSING_RISK_BUDGET"
    )
    few = await covariance(client, COVARIANCE[:2, :2])
    found = await book(client)
    assert await refused(client, request(found, covariance_matrix_id=few)) == "MISSING_COVARIANCE"
    hedge = np.array([[1.0, 1.0], [1.0, 1.0]]) * 1e-4
    asked = request(found, 2, (1, 2), covariance_matrix_id=await covariance(client, hedge))
    assert await refused(client, asked) == "SINGULAR_COVARIANCE"


async def refused(client: Client, asked: sizing_service_pb2.SizePositionsRequest) -> str:
    return (await refusal(client.sizing.SizePositions(asked))).reason
