"""Reference numbers of trading costs, asked of a running service."""

from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import edge_service_pb2 as pb
from positionsizing.v1 import optimization_service_pb2 as optimization

from tests.server.reference.test_reference_portfolios import KELLY, matrix, optimum
from tests.server.support.service_client import INSTRUMENTS, Client, refusal


async def test_impact_of_the_power_three_halves_k10_3(joint_client: Client) -> None:
    """max f mu - s^2 f^2 / 2 - c f^(3/2): mu 0.01, s^2 0.04, c 0.003; 0.25 without the cost."""
    given: dict[str, Any] = {"mean": [0.01], "free": True}
    free = await optimum(joint_client, KELLY, np.array([[0.04]]), **given)
    assert free.weights[0] == pytest.approx(0.25, rel=1e-9)
    answer = await optimum(joint_client, KELLY, np.array([[0.04]]), **given, impact_cost=[0.003])
    assert answer.weights[0] == pytest.approx(0.1997232872, abs=6e-11)
    root = (-0.0045 + np.sqrt(0.0045**2 + 4 * 0.04 * 0.01)) / 0.08
    assert answer.weights[0] == pytest.approx(root**2, rel=1e-8)
    problem = optimization.OptimizationProblem(
        instrument_ids=INSTRUMENTS[:1],
        objective=KELLY,
        covariance=matrix("COVARIANCE", np.array([[0.04]])),
        mean=[0.01],
        impact_cost=[-0.003],
    )
    request = optimization.OptimizePortfolioRequest(problem=problem)
    refused = await refusal(joint_client.optimization.OptimizePortfolio(request))
    assert refused.fields == {"problem.impact_cost[0]": "OUT_OF_RANGE"}


async def traded(
    client: Client, mean: float, deviation: float, spread: float, multiple: float, rate: float = 0.0
) -> pb.StakeRow:
    """An asset traded for ever, at one multiple of Kelly."""
    request = pb.EvaluateStakesRequest(
        asset=pb.AssetEdge(expected_return=mean, volatility=deviation, risk_free_rate=rate),
        kelly_fractions=[multiple],
        spread=spread,
    )
    (row,) = (await client.edge.EvaluateStakes(request)).rows
    return row


@pytest.mark.parametrize(
    ("mean", "deviation", "aversion", "spread", "band", "safe"),
    [
        (0.05, 0.4, 1.0, 0.01, (0.24301653, 0.38198347), 0.0074262638),
        (0.05, 0.4, 1.0, 0.002, (0.27159438, 0.35340562), 0.0076786384),
        (0.08, 0.4, 1.0, 0.01, (0.42293332, 0.57706668), 0.0195248582),
        (0.08, 0.16, 5.0, 0.01, (0.58194231, 0.66805769), 0.02488135),
    ],
    ids=["K10.5", "K10.6", "K10.7", "K10.8"],
)
async def test_trading_for_ever_k10_5_to_k10_8(
    client: Client,
    mean: float,
    deviation: float,
    aversion: float,
    spread: float,
    band: tuple[float, float],
    safe: float,
) -> None:
    """Ends at the prices one trades at there; what it is worth, and what more cash earns on top."""
    row = await traded(client, mean, deviation, spread, 1 / aversion)
    assert (row.no_trade_low, row.no_trade_high) == pytest.approx(band, abs=6e-9)
    assert row.traded_safe_rate == pytest.approx(safe, abs=6e-9)
    assert row.no_trade_low < row.stake < row.no_trade_high
    dearer = await traded(client, mean + 0.02, deviation, spread, 1 / aversion, rate=0.02)
    assert dearer.traded_safe_rate == pytest.approx(safe + 0.02, abs=6e-9)
    assert dearer.no_trade_low == pytest.approx(row.no_trade_low, rel=1e-9)


async def test_full_kelly_without_costs_is_the_limit_and_costs_only_take(client: Client) -> None:
    frictionless = 0.05**2 / (2 * 0.16)
    found = [await traded(client, 0.05, 0.4, spread, 1.0) for spread in (1e-6, 1e-4, 1e-2, 0.1)]
    rates = [row.traded_safe_rate for row in found]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(frictionless, rel=2e-3)
    widths = [row.no_trade_high - row.no_trade_low for row in found]
    assert widths == sorted(widths)
    assert widths[1] == pytest.approx(
        2 * (0.75 * 0.3125**2 * 0.6875**2 * 1e-4) ** (1 / 3), rel=0.02
    )


async def test_short_regions_and_what_has_none(client: Client) -> None:
    row = await traded(client, -0.05, 0.4, 0.01, 1.0)
    assert row.no_trade_low < row.stake < row.no_trade_high < 0.0
    held = await traded(client, 0.25, 0.5, 0.01, 1.0)
    assert held.stake == 1.0
    assert not held.HasField("no_trade_low"), "bought and held: there is nothing to trade"
    plain = pb.EvaluateStakesRequest(asset=pb.AssetEdge(expected_return=0.05, volatility=0.4))
    for each in (await client.edge.EvaluateStakes(plain)).rows:
        assert not each.HasField("traded_safe_rate")
    bet = pb.EvaluateStakesRequest(bet=pb.BetEdge(win_probability=0.6, payoff=1.0), spread=0.01)
    refused = await refusal(client.edge.EvaluateStakes(bet))
    assert refused.fields == {"spread": "NOT_APPLICABLE"}
    plain.spread = 1.0
    refused = await refusal(client.edge.EvaluateStakes(plain))
    assert refused.fields == {"spread": "OUT_OF_RANGE"}
