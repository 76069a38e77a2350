"""Volatility target and risk at the stop hold for the joint method as well, line by line."""

import numpy as np
import pytest
from positionsizing.v1 import parameter_service_pb2, sizing_service_pb2, types_pb2

from tests.server.joint.test_joint import joint_request, ready
from tests.server.support.service_client import PRICES, Client


async def test_no_line_adds_more_volatility_than_the_target(joint_client: Client) -> None:
    portfolio_id, matrix_id = await ready(joint_client)
    free = await joint_client.size(joint_request(portfolio_id, matrix_id, validate_only=True))
    assert max(np.abs(free.sizes.weight)) > 0.15
    await joint_client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(volatility_target=0.03),
        )
    )
    decision = await joint_client.size(joint_request(portfolio_id, matrix_id))
    weights = np.abs(decision.sizes.weight)
    assert max(weights) <= 0.03 / 0.3 * (1.0 + 1e-12)
    assert decision.certificate.duality_gap_relative <= 1e-8
    (at,) = np.nonzero(weights > 0.0999)
    assert len(at)
    bound = {(decision.sizes.binding[i], decision.sizes.binding_bound[i]) for i in at}
    assert (types_pb2.LIMIT_KIND_VOLATILITY_TARGET, 0.03) in bound
    replay = await joint_client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal
    assert replay.weight_difference_max == pytest.approx(0.0, abs=1e-12)


async def test_no_line_loses_more_at_its_stop_than_it_may(joint_client: Client) -> None:
    portfolio_id, matrix_id = await ready(joint_client)
    request = joint_request(portfolio_id, matrix_id, validate_only=True)
    free = await joint_client.size(request)
    n = len(request.signals.instrument_ids)
    # 20 % below the price: 0.5 % of equity at the stop is a weight of 2.5 %; the last has no stop.
    request.signals.stop_price[:] = [0.8 * price for price in PRICES[: n - 1]] + [0.0]
    await joint_client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(stop_risk_max=0.005),
        )
    )
    decision = await joint_client.size(request)
    weights = np.abs(decision.sizes.weight)
    assert max(weights[:-1]) <= 0.025 * (1.0 + 1e-12)
    assert weights[-1] >= free.sizes.weight[-1] - 1e-3
    assert max(free.sizes.weight[:-1]) > 0.025
    kinds = {decision.sizes.binding[i] for i in np.flatnonzero(weights[:-1] > 0.0249)}
    assert types_pb2.LIMIT_KIND_STOP_RISK in kinds
