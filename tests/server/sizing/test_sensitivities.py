"""Sensitivities beside multipliers: the slopes of the stakes that the service itself answers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from positionsizing.v1 import parameter_service_pb2, sizing_pb2, sizing_service_pb2, types_pb2

from tests.server.joint.test_joint_truth import set_parameters
from tests.server.support.service_client import INSTRUMENTS, Client

ASSET = {"expected_return": 0.02, "volatility": 0.3, "expected_return_error": 0.01}
BET = {"win_probability": 0.56, "payoff": 0.5, "loss_fraction": 0.4, "win_probability_error": 0.03}
ROBUST = parameter_service_pb2.RobustEdge(
    set=parameter_service_pb2.UNCERTAINTY_SET_KL, radius=0.001
)
MONTH = 30 * 86_400  # so long that no age is gained between two calls
NUMERIC = parameter_service_pb2.CONFIDENCE_SHRINKAGE_BAKER_MCHALE_NUMERIC


@pytest.mark.parametrize("side", [types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT])
@pytest.mark.parametrize(
    ("edge", "name"),
    [(ASSET, "expected_return"), (ASSET, "volatility"), (BET, "win_probability"), (BET, "payoff")],
)
@pytest.mark.parametrize(
    "parameters",
    [{"robust": ROBUST}, {"confidence_shrinkage": NUMERIC}, {"edge_half_life": {"seconds": MONTH}}],
    ids=["robust", "numeric", "a half-life old"],
)
async def test_slopes_are_those_of_the_stakes(
    client: Client, parameters: dict[str, Any], edge: dict[str, float], name: str, side: int
) -> None:
    """Central differences of the stake at the Kelly fraction, before risk rules and limits."""
    portfolio_id = await client.ready(allow_short=True, weight_max=50.0, leverage_max=50.0)
    made = datetime.now(UTC) - timedelta(days=30)
    await set_parameters(client, portfolio_id, kelly_fraction=0.5, **parameters)

    async def sized(change: float) -> sizing_pb2.SizingDecision:
        given = {key: [value] for key, value in {**edge, name: edge[name] + change}.items()}
        signals = sizing_pb2.SignalBatch(instrument_ids=INSTRUMENTS[:1], side=[side], **given)
        signals.as_of_time.FromDatetime(made)
        return await client.size(
            sizing_service_pb2.SizePositionsRequest(
                portfolio_id=portfolio_id,
                validate_only=True,
                include_sensitivities=True,
                signals=signals,
            )
        )

    def stake(decision: sizing_pb2.SizingDecision) -> float:
        (fraction,) = [
            stage.weight[0]
            for stage in decision.waterfall.stages
            if stage.stage == types_pb2.SIZING_STAGE_KELLY_FRACTION
        ]
        return fraction

    step = 1e-4
    slope = (stake(await sized(step)) - stake(await sized(-step))) / (2.0 * step)
    assert abs(slope) > 0.01
    found = getattr((await sized(0.0)).sensitivities, name)[0]
    assert found == pytest.approx(slope, rel=2e-3)
