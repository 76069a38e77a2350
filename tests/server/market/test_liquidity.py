"""Liquidity through the RPC: days to close a position, and what impact lacks."""

from typing import Any

import numpy as np
from positionsizing.v1 import (
    limits_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.support.service_client import Client, refusal, sizing_request

DAILY = 0.02
MOMENTS = {
    "edge_source": [sizing_pb2.EDGE_SOURCE_RETURN_VOLATILITY],
    "win_probability": [],
    "payoff": [],
    "expected_return": [0.002],
    "volatility": [DAILY],
}


async def ready(client: Client, cash: float = 5e7, **parameters: Any) -> str:
    """Full Kelly in a market with a volume of 200 million, lots too small to matter."""
    await client.put_market(
        volatility=[DAILY * np.sqrt(252.0)] * 8,
        average_daily_volume=[2e7, 1e7, 4e6, 2e6, 2e7, 1e6, 1e7, 0.0],
        lot_size=[1e-3] * 8,
    )
    portfolio_id = await client.put_portfolio(cash)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, leverage_max=10.0, weight_max=10.0, allow_short=True)
    given = {
        "kelly_fraction": 1.0,
        "confidence_shrinkage": parameter_service_pb2.CONFIDENCE_SHRINKAGE_NONE,
        **parameters,
    }
    await put(client, portfolio_id, **given)
    return portfolio_id


async def put(client: Client, portfolio_id: str, **given: Any) -> None:
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(**given),
        )
    )


async def test_positions_can_be_closed_within_days(client: Client) -> None:
    """2.5 million units at a volume of 1 million take 50 days at 0.05 (D7.11)."""
    portfolio_id = await ready(client, 1e9)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    limits = {"leverage_max": 10.0, "weight_max": 10.0, "exit_days_max": 50.0}
    for rate, lots in ((None, 2.5e9), (0.02, 1e9)):
        given = limits if rate is None else {**limits, "participation_rate": rate}
        await client.set_limits(scope, **given)
        decision = await client.size(
            sizing_request(portfolio_id, ["I5"], MOMENTS, validate_only=True)
        )
        assert decision.sizes.lots[0] == lots  # of a thousandth of a unit
        assert decision.sizes.binding[0] == types_pb2.LIMIT_KIND_EXIT_DAYS_MAX
        assert decision.sizes.binding_bound[0] == 50.0
    # of several scopes the tighter one, and a request can't loosen it
    wider = limits_pb2.Limits(exit_days_max=100.0, participation_rate=0.5)
    decision = await client.size(
        sizing_request(portfolio_id, ["I5", "I7"], {
            "edge_source": [sizing_pb2.EDGE_SOURCE_RETURN_VOLATILITY] * 2,
            "win_probability": [], "payoff": [],
            "expected_return": [0.002] * 2, "volatility": [DAILY] * 2,
        }, validate_only=True, limits=wider)
    )  # fmt: skip
    assert list(decision.sizes.lots) == [1e9, 0]  # I7 has no volume
    recorded = await client.size(sizing_request(portfolio_id, ["I5"], MOMENTS))
    await client.set_limits(scope, **{**limits, "exit_days_max": 1.0})
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=recorded.decision_id)
    )
    assert replay.lots_equal
    assert list(replay.replayed.sizes.lots) == [1e9]


async def test_what_is_missing_or_wrong_is_told(client: Client) -> None:
    portfolio_id = await ready(client, impact_coefficient=0.7)
    refused = await refusal(put(client, portfolio_id, impact_coefficient=-0.1))
    assert refused.fields == {"parameters.impact_coefficient": "OUT_OF_RANGE"}
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    refused = await refusal(client.set_limits(scope, exit_days_max=-1.0, participation_rate=5.0))
    assert refused.fields == {
        "limits.exit_days_max": "OUT_OF_RANGE",
        "limits.participation_rate": "OUT_OF_RANGE",
    }
    without = sizing_request(portfolio_id, ["I7"], MOMENTS, validate_only=True)
    refused = await refusal(client.size(without))
    assert refused.fields == {"signals.instrument_ids[0]": "MISSING_AVERAGE_DAILY_VOLUME"}
    await client.put_market(average_daily_volume=[])
    refused = await refusal(client.size(sizing_request(portfolio_id, ["I0"], MOMENTS)))
    assert refused.reason == "MISSING_AVERAGE_DAILY_VOLUME"
    await client.put_market()
