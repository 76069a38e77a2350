"""Decisions against a benchmark, and what their size cost, through the RPC."""

from uuid import uuid4

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import analytics_service_pb2 as pb
from positionsizing.v1 import market_service_pb2, portfolio_service_pb2, sizing_service_pb2

from tests.server.support.service_client import Client, new_id, refusal, sizing_request

NAMES = ["A", "B", "C"]
SECTORS = ["tech", "tech", "energy"]
VOLUME, VOLATILITY = [2e5, 1e5, 3e5], [0.2, 0.3, 0.25]
COEFFICIENT = 0.9


async def put_market(client: Client, prices: np.ndarray, spread: float = 0.0) -> str:
    snapshot = market_service_pb2.MarketSnapshot(
        snapshot_id=new_id("snapshot"),
        instrument_ids=NAMES,
        price=prices,
        sector=SECTORS,
        volatility=VOLATILITY,
        average_daily_volume=VOLUME,
        spread=[spread] * len(NAMES) if spread else [],
    )
    now = Timestamp()
    now.GetCurrentTime()
    snapshot.as_of_time.CopyFrom(now)
    await client.market.PutMarketSnapshot(
        market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot, confirm_prices=True)
    )
    return snapshot.snapshot_id


async def decided(client: Client, spread: float = 0.0) -> tuple[str, str, np.ndarray, np.ndarray]:
    """Five decisions filled dearer by half the spread and the square-root law; weights (5, 3),
    prices (6, 3)."""
    portfolio_id = await client.put_portfolio(1e6)
    await client.set_limits(portfolio_service_pb2.Scope(portfolio_id=portfolio_id), weight_max=0.2)
    prices = np.cumprod(1.0 + np.random.default_rng(1).normal(0.0, 0.02, (6, 3)), axis=0) * 100.0
    weights = []
    for day in range(5):
        snapshot_id = await put_market(client, prices[day], spread)
        chances = [0.55, 0.58, 0.6] if day % 2 else [0.6, 0.53, 0.56]
        edge = {"side": [1, 1, 1], "win_probability": chances, "payoff": [1.0] * 3}
        decision = await client.size(
            sizing_request(portfolio_id, NAMES, edge, market_snapshot_id=snapshot_id)
        )
        weights.append(np.array(decision.sizes.weight))
        traded = np.array(decision.sizes.trade_lots, dtype=float)
        daily = np.array(VOLATILITY) / np.sqrt(252.0)
        share = COEFFICIENT * daily * np.sqrt(np.abs(traded) / VOLUME)
        fills = sizing_service_pb2.Fills(
            instrument_ids=NAMES,
            lots=traded.astype(int),
            price=prices[day] * (1.0 + np.sign(traded) * (share + spread / 2)),
        )
        await client.sizing.SettleDecision(
            sizing_service_pb2.SettleDecisionRequest(
                request_id=str(uuid4()), decision_id=decision.decision_id, fills=fills, close=True
            )
        )
    return portfolio_id, await put_market(client, prices[5]), np.array(weights), prices


async def test_decisions_are_attributed_by_sector_and_their_impact_is_fitted(
    client: Client,
) -> None:
    portfolio_id, end, weights, prices = await decided(client)
    benchmark = pb.BenchmarkWeights(instrument_ids=["A", "C"], weights=[0.5, 0.3])
    request = pb.AnalyzeDecisionsRequest(
        portfolio_id=portfolio_id, end_market_snapshot_id=end, benchmark=benchmark
    )
    answer = await client.analytics.AnalyzeDecisions(request)
    moved = prices[1:] / prices[:-1] - 1.0
    found = answer.attribution
    assert found.portfolio_return == pytest.approx(
        np.prod(1.0 + (weights * moved).sum(axis=1)) - 1.0, abs=1e-12
    )
    held = moved @ np.array([0.5, 0.0, 0.3])
    assert found.benchmark_return == pytest.approx(np.prod(1.0 + held) - 1.0, abs=1e-12)
    assert [item.group for item in found.groups] == ["energy", "tech", "cash"]
    effects = sum(item.allocation + item.selection for item in found.groups)
    assert effects == pytest.approx(found.portfolio_return - found.benchmark_return, abs=1e-12)
    tech = found.groups[1]
    assert tech.weight == pytest.approx(weights[:, :2].sum(axis=1).mean(), abs=1e-12)
    assert tech.benchmark_weight == pytest.approx(0.5)
    assert answer.impact.coefficient == pytest.approx(COEFFICIENT, rel=1e-6)
    assert answer.impact.trades == 15
    request.ClearField("benchmark")
    assert not (await client.analytics.AnalyzeDecisions(request)).HasField("attribution")


async def test_half_the_spread_is_no_impact_of_size(client: Client) -> None:
    """Sizing charges both: a coefficient with the spread in it would charge that twice."""
    portfolio_id, end, _, _ = await decided(client, spread=0.004)
    request = pb.AnalyzeDecisionsRequest(portfolio_id=portfolio_id, end_market_snapshot_id=end)
    found = (await client.analytics.AnalyzeDecisions(request)).impact
    assert found.trades > 10
    assert found.coefficient == pytest.approx(COEFFICIENT, rel=1e-6)


async def test_returns_and_risk_are_divided_among_factors(client: Client) -> None:
    """C is the factor; A has half of it, C itself all, and B no exposure."""
    portfolio_id, end, weights, prices = await decided(client)
    request = pb.AnalyzeDecisionsRequest(
        portfolio_id=portfolio_id,
        end_market_snapshot_id=end,
        factors=pb.FactorExposures(
            factor_ids=["C"], instrument_ids=["A", "C"], exposures=[0.5, 1.0]
        ),
    )
    found = (await client.analytics.AnalyzeDecisions(request)).factor_attribution
    assert [item.factor for item in found.effects] == ["C", "specific", "unclassified"]
    moved = prices[1:] / prices[:-1] - 1.0
    total = (weights * moved).sum(axis=1)
    assert found.portfolio_return == pytest.approx(np.prod(1.0 + total) - 1.0, abs=1e-12)
    effects = sum(item.effect for item in found.effects)
    assert effects == pytest.approx(found.portfolio_return, abs=1e-12)
    exposure = weights[:, 0] * 0.5 + weights[:, 2]
    assert found.effects[0].exposure == pytest.approx(exposure.mean(), abs=1e-12)
    parts = [
        exposure * moved[:, 2],
        weights[:, 0] * (moved[:, 0] - 0.5 * moved[:, 2]),
        weights[:, 1] * moved[:, 1],
    ]
    for item, part in zip(found.effects, parts, strict=True):
        assert item.volatility == pytest.approx(part.std(ddof=1), abs=1e-12)
        assert item.correlation == pytest.approx(np.corrcoef(part, total)[0, 1], abs=1e-9)
    risks = sum(item.risk for item in found.effects)
    assert risks == pytest.approx(found.volatility, abs=1e-12)
    assert found.volatility == pytest.approx(total.std(ddof=1), abs=1e-12)
    for change, path in (
        ({"factor_ids": []}, "factors.factor_ids"),
        ({"factor_ids": ["Z"]}, "factors.factor_ids[0]"),
        ({"instrument_ids": ["A", "A"]}, "factors.instrument_ids"),
        ({"exposures": [0.5]}, "factors.exposures"),
        ({"exposures": [0.5, float("inf")]}, "factors.exposures[1]"),
    ):
        told = {"factor_ids": ["C"], "instrument_ids": ["A", "C"], "exposures": [0.5, 1.0]}
        request.factors.CopyFrom(pb.FactorExposures(**{**told, **change}))
        assert path in (await refusal(client.analytics.AnalyzeDecisions(request))).fields


@pytest.mark.parametrize(
    ("names", "weights", "path"),
    [
        (["A", "Z"], [0.5, 0.2], "benchmark.instrument_ids[1]"),
        (["A", "A"], [0.5, 0.2], "benchmark.instrument_ids"),
        (["A", "C"], [0.5], "benchmark.weights"),
        (["A", "C"], [0.7, 0.7], "benchmark.weights"),
        (["A", "C"], [0.5, -0.1], "benchmark.weights[1]"),
        (["A", "C"], [0.5, float("nan")], "benchmark.weights[1]"),
    ],
)
async def test_a_wrong_benchmark_is_named(
    client: Client, names: list[str], weights: list[float], path: str
) -> None:
    portfolio_id, end, _, _ = await decided(client)
    request = pb.AnalyzeDecisionsRequest(
        portfolio_id=portfolio_id,
        end_market_snapshot_id=end,
        benchmark=pb.BenchmarkWeights(instrument_ids=names, weights=weights),
    )
    refused = await refusal(client.analytics.AnalyzeDecisions(request))
    assert path in refused.fields
