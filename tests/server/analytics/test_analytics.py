"""What recorded decisions were worth, worked out beside the service from what it was told."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np
import pytest
from positionsizing.v1 import analytics_service_pb2 as pb
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.support.service_client import Client, new_id, refusal, sizing_request

NAMES = ["X", "Y"]
PRICES = [[100.0, 50.0], [110.0, 49.0], [104.5, 51.0], [115.0, 48.0]]


async def put_market(client: Client, prices: list[float]) -> str:
    """Of the first instruments, as many as there are prices."""
    snapshot = market_service_pb2.MarketSnapshot(
        snapshot_id=new_id("snapshot"), instrument_ids=NAMES[: len(prices)], price=prices
    )
    snapshot.as_of_time.FromDatetime(datetime.now(UTC))
    await client.market.PutMarketSnapshot(
        market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot, confirm_prices=True)
    )
    return snapshot.snapshot_id


async def decided_days(client: Client) -> tuple[str, list[str], list[np.ndarray]]:
    """A portfolio sized on three snapshots and filled 1 dearer, all snapshots, all weights."""
    portfolio_id = await client.put_portfolio(1e6)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.2, leverage_max=1.0)
    parameters = parameter_service_pb2.SizingParameters(kelly_fraction=0.5)
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )
    weights, snapshots = [], []
    for prices in PRICES[:3]:
        snapshots.append(await put_market(client, prices))
        request = sizing_request(
            portfolio_id,
            NAMES,
            {"side": [1, 1], "win_probability": [0.6, 0.52], "payoff": [1.0, 1.0]},
            market_snapshot_id=snapshots[-1],
        )
        decision = await client.size(request)
        weights.append(np.array(decision.sizes.weight))
        traded = np.array(decision.sizes.trade_lots)
        fills = sizing_service_pb2.Fills()
        for name, lots, price in zip(NAMES, traded, prices, strict=True):
            if lots:
                fills.instrument_ids.append(name)
                fills.lots.append(lots)
                fills.price.append(price + 1.0)
                fills.fee.append(2.0)
        if fills.instrument_ids:
            await client.sizing.SettleDecision(
                sizing_service_pb2.SettleDecisionRequest(
                    request_id=str(uuid4()),
                    decision_id=decision.decision_id,
                    fills=fills,
                    close=True,
                )
            )
    snapshots.append(await put_market(client, PRICES[3]))
    return portfolio_id, snapshots, weights


async def test_decisions_are_held_against_what_came(client: Client) -> None:
    portfolio_id, snapshots, weights = await decided_days(client)
    answer = await client.analytics.AnalyzeDecisions(
        pb.AnalyzeDecisionsRequest(portfolio_id=portfolio_id, end_market_snapshot_id=snapshots[-1])
    )
    prices = np.array(PRICES)
    returns = prices[1:] / prices[:-1] - 1.0
    assert answer.decisions == 3
    assert answer.lines == 6
    growth = sum(np.log1p(w @ r) for w, r in zip(weights, returns, strict=True))
    ledger = answer.stage_growth
    assert ledger.start + sum(ledger.steps) == pytest.approx(growth, abs=1e-9)
    assert ledger.stages[-1] == types_pb2.SIZING_STAGE_LOTS
    by_name = {item.name: item for item in answer.counterfactuals}
    assert by_name["nothing"].growth == 0.0
    assert by_name["nothing"].difference.mean == pytest.approx(growth / 3, abs=1e-9)
    full = sum(np.log1p(np.array([0.2, 0.04]) @ r) for r in returns)
    assert by_name["full Kelly"].growth == pytest.approx(full, abs=1e-9)
    # X won, lost, won; Y lost, won, lost.
    bets = answer.bet_forecast
    assert bets.bets == 6
    claimed, won = np.array([0.6, 0.52] * 3), np.array([1, 0, 0, 1, 1, 0])
    assert bets.brier == pytest.approx(np.mean((claimed - won) ** 2))
    ratio = np.where(won > 0, claimed / 0.5, (1 - claimed) / 0.5)
    edge = np.prod(ratio)
    assert bets.e_value_edge == pytest.approx(np.prod(ratio.reshape(3, 2).mean(axis=1)))
    assert bets.e_value_gone == pytest.approx(np.prod((1 / ratio).reshape(3, 2).mean(axis=1)))
    assert answer.growth_forecast.realised == pytest.approx(
        np.mean([np.log1p(w * r) for w, r in zip(weights, returns, strict=True)]), abs=1e-9
    )
    stopped = bets.sequential
    assert (stopped.verdict, stopped.bets) == (pb.SEQUENTIAL_VERDICT_GOES_ON, 6)
    assert stopped.log_ratio == pytest.approx(-np.log(edge))
    steps = [p * np.log(0.5 / p) + (1 - p) * np.log(0.5 / (1 - p)) for p in claimed]
    holds = (0.05 * np.log(18.0) + 0.95 * np.log(0.1 / 0.95)) / np.mean(steps)
    assert stopped.test.bets_if_it_holds == pytest.approx(holds)
    logs = np.array([np.log1p(w @ r) for w, r in zip(weights, returns, strict=True)])
    t = logs.mean() / (logs.std(ddof=1) / np.sqrt(3))
    assert answer.evidence.t_statistic == pytest.approx(t, rel=1e-6)
    assert answer.evidence.decisions_needed == pytest.approx(3 * (2 / t) ** 2, rel=1e-6)


async def test_fills_away_from_the_decision_are_its_shortfall(client: Client) -> None:
    portfolio_id, snapshots, _ = await decided_days(client)
    listed = await client.sizing.ListDecisions(
        sizing_service_pb2.ListDecisionsRequest(portfolio_id=portfolio_id)
    )
    traded, fees = 0.0, 0.0
    for summary in listed.decisions:
        got = await client.sizing.GetDecision(
            sizing_service_pb2.GetDecisionRequest(decision_id=summary.decision_id)
        )
        lots = np.array(got.decision.sizes.trade_lots)
        traded += float(lots.sum())
        fees += 2.0 * np.count_nonzero(lots)
    answer = await client.analytics.AnalyzeDecisions(
        pb.AnalyzeDecisionsRequest(portfolio_id=portfolio_id, end_market_snapshot_id=snapshots[-1])
    )
    found = answer.shortfall
    assert found.execution == pytest.approx(traded, rel=1e-9)
    assert found.opportunity == pytest.approx(0.0, abs=1e-6)
    assert found.fees == pytest.approx(fees)
    assert found.rate == pytest.approx((found.execution + fees) / found.notional)


async def test_a_fill_counts_at_its_own_rate_and_its_fee_in_its_own_currency(
    client: Client,
) -> None:
    portfolio_id = await client.put_portfolio(1e6)
    await client.set_limits(portfolio_service_pb2.Scope(portfolio_id=portfolio_id), weight_max=0.1)
    snapshot = market_service_pb2.MarketSnapshot(
        snapshot_id=new_id("snapshot"),
        instrument_ids=NAMES,
        price=[100.0, 50.0],
        currency=["EUR", "USD"],
        exchange_rates=[
            market_service_pb2.ExchangeRate(from_currency="EUR", to_currency="USD", rate=1.10)
        ],
    )
    snapshot.as_of_time.FromDatetime(datetime.now(UTC))
    await client.market.PutMarketSnapshot(
        market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot, confirm_prices=True)
    )
    request = sizing_request(portfolio_id, ["X"], market_snapshot_id=snapshot.snapshot_id)
    decision = await client.size(request)
    lots = decision.sizes.trade_lots[0]
    fills = sizing_service_pb2.Fills(
        instrument_ids=["X"],
        lots=[lots],
        price=[100.0],
        fee=[2.0],
        currency=["EUR"],
        exchange_rate=[1.12],
        fee_currency=["EUR"],
    )
    await client.sizing.SettleDecision(
        sizing_service_pb2.SettleDecisionRequest(
            request_id=str(uuid4()), decision_id=decision.decision_id, fills=fills, close=True
        )
    )
    answer = await client.analytics.AnalyzeDecisions(
        pb.AnalyzeDecisionsRequest(
            portfolio_id=portfolio_id, end_market_snapshot_id=snapshot.snapshot_id
        )
    )
    assert lots > 0
    assert answer.shortfall.execution == pytest.approx(lots * 100.0 * (1.12 - 1.10))
    assert answer.shortfall.fees == pytest.approx(2.0 * 1.12)


async def test_a_decision_without_a_later_price_is_left_out_and_counted(client: Client) -> None:
    portfolio_id = await client.put_portfolio(1e6)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.portfolio.SetLimits(
        portfolio_service_pb2.SetLimitsRequest(
            scope=scope, limits=limits_pb2.Limits(weight_max=0.1)
        )
    )
    snapshot = await put_market(client, PRICES[0])
    for _ in range(2):
        await client.size(sizing_request(portfolio_id, NAMES, market_snapshot_id=snapshot))
    answer = await client.analytics.AnalyzeDecisions(
        pb.AnalyzeDecisionsRequest(portfolio_id=portfolio_id, end_market_snapshot_id=snapshot)
    )
    assert answer.decisions == 0
    assert {item.name: item.count for item in answer.left_out} == {
        "SUPERSEDED": 1,
        "NO_LATER_PRICE": 1,
    }
    assert not answer.HasField("stage_growth")


async def test_lines_without_a_later_price_are_named(client: Client) -> None:
    portfolio_id = await client.put_portfolio(1e6)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.1, leverage_max=1.0)
    snapshot = await put_market(client, PRICES[0])
    request = sizing_request(portfolio_id, NAMES, market_snapshot_id=snapshot)
    decision = await client.size(request)
    assert all(decision.sizes.lots), "both are held"
    end = await put_market(client, PRICES[1][:1])
    answer = await client.analytics.AnalyzeDecisions(
        pb.AnalyzeDecisionsRequest(portfolio_id=portfolio_id, end_market_snapshot_id=end)
    )
    assert (answer.decisions, answer.lines, len(answer.left_out)) == (1, 1, 0)
    assert [(item.name, item.count) for item in answer.unpriced_lines] == [("Y", 1)]
    one = pb.ComparedPortfolio(portfolio_id=portfolio_id)
    compared = await client.analytics.CompareStrategies(
        pb.CompareStrategiesRequest(portfolios=[one], end_market_snapshot_id=end)
    )
    assert [item.unpriced_line_count for item in compared.strategies] == [1]


async def test_nothing_decided_is_an_empty_answer_and_wrong_input_is_named(client: Client) -> None:
    portfolio_id = await client.put_portfolio(1e6)
    answer = await client.analytics.AnalyzeDecisions(
        pb.AnalyzeDecisionsRequest(portfolio_id=portfolio_id)
    )
    assert answer.decisions == 0
    refused = await refusal(client.analytics.AnalyzeDecisions(pb.AnalyzeDecisionsRequest()))
    assert "portfolio_id" in refused.fields
    both = pb.AnalyzeDecisionsRequest(
        portfolio_id=portfolio_id, strategy_id="s", without_strategy=True
    )
    refused = await refusal(client.analytics.AnalyzeDecisions(both))
    assert refused.fields == {"without_strategy": "NOT_APPLICABLE"}
    unknown = pb.AnalyzeDecisionsRequest(portfolio_id="nobody")
    assert (
        await refusal(client.analytics.AnalyzeDecisions(unknown))
    ).reason == "PORTFOLIO_NOT_FOUND"
    later = pb.AnalyzeDecisionsRequest(portfolio_id=portfolio_id)
    later.create_time_from.FromDatetime(datetime.now(UTC) + timedelta(days=1))
    assert (await client.analytics.AnalyzeDecisions(later)).decisions == 0
