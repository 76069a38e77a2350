"""A drawdown floor over decisions, payments, losses and an operator's re-base, through the RPC."""

from typing import Any
from uuid import uuid4

import pytest
from positionsizing.v1 import (
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.support.service_client import (
    Client,
    new_id,
    refusal,
    sizing_request,
    snapshot_message,
)

EDGE = {"win_probability": [0.6], "payoff": [1.0]}


async def ready(client: Client, floor: float | None = 0.8) -> str:
    portfolio_id = await client.ready(weight_max=1.0, leverage_max=3.0)
    if floor is not None:
        await put(client, portfolio_id, drawdown_floor=floor)
    return portfolio_id


async def put(client: Client, portfolio_id: str, **given: Any) -> None:
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(**given),
        )
    )


async def pay(client: Client, portfolio_id: str, cash: float, **held: float) -> None:
    await client.portfolio.SetHoldings(
        portfolio_service_pb2.SetHoldingsRequest(
            confirm_equity=True,
            portfolio_id=portfolio_id,
            cash=cash,
            holdings=portfolio_service_pb2.Holdings(
                instrument_ids=list(held), quantity=list(held.values())
            ),
        )
    )


async def mark(client: Client, portfolio_id: str) -> portfolio_service_pb2.GetPortfolioResponse:
    return await client.portfolio.GetPortfolio(
        portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
    )


async def multiplier(client: Client, portfolio_id: str, **given: Any) -> float:
    decision = await client.size(sizing_request(portfolio_id, ["I1"], EDGE, **given))
    (item,) = decision.adjustments
    assert item.source == sizing_pb2.ADJUSTMENT_SOURCE_DRAWDOWN_FLOOR
    weights = {stage.stage: stage.weight[0] for stage in decision.waterfall.stages}
    assert weights[types_pb2.SIZING_STAGE_KELLY_FRACTION] == pytest.approx(0.1 * item.multiplier)
    return item.multiplier


async def test_losses_count_and_payments_do_not(client: Client) -> None:
    portfolio_id = await ready(client)
    assert not (await mark(client, portfolio_id)).HasField("high_water_mark")
    assert await multiplier(client, portfolio_id, validate_only=True) == pytest.approx(0.2)
    assert not (await mark(client, portfolio_id)).HasField("high_water_mark")
    assert await multiplier(client, portfolio_id) == pytest.approx(0.2)
    assert (await mark(client, portfolio_id)).high_water_mark == pytest.approx(1e6)

    await pay(client, portfolio_id, 4e6)  # paid in
    assert (await mark(client, portfolio_id)).high_water_mark == pytest.approx(4e6)
    assert await multiplier(client, portfolio_id) == pytest.approx(0.2)
    await pay(client, portfolio_id, 5e5)  # and out
    assert await multiplier(client, portfolio_id) == pytest.approx(0.2)
    await pay(client, portfolio_id, 4e5, I0=1e4)  # 100,000 in I0 at 10
    assert await multiplier(client, portfolio_id) == pytest.approx(0.2)

    await client.put_market(price=(5.0, 20.0, 50.0, 100.0, 5.0, 200.0, 30.0, 80.0))
    assert await multiplier(client, portfolio_id) == pytest.approx(1 - 0.8 * 5e5 / 4.5e5)
    await pay(client, portfolio_id, 8.5e5, I0=1e4)  # a deposit doesn't win it back
    assert await multiplier(client, portfolio_id) == pytest.approx(1 - 0.8 * 5e5 / 4.5e5)
    assert (await mark(client, portfolio_id)).high_water_mark == pytest.approx(1e6)
    await client.put_market()


async def test_payments_count_while_the_newest_prices_are_of_another_venue(client: Client) -> None:
    """100,000 in cash and 10,000 units at 10; half of the cash is paid out, by both calls."""
    portfolio_id = await ready(client)
    await pay(client, portfolio_id, 1e5, I0=1e4)
    await multiplier(client, portfolio_id)
    assert (await mark(client, portfolio_id)).high_water_mark == pytest.approx(2e5)
    other = snapshot_message(
        instrument_ids=[new_id("other")],
        price=[1.0],
        volatility=[],
        average_daily_volume=[],
        sector=[],
    )
    await client.market.PutMarketSnapshot(
        market_service_pb2.PutMarketSnapshotRequest(snapshot=other)
    )
    request = portfolio_service_pb2.AdjustCashRequest(
        request_id=str(uuid4()),
        portfolio_id=portfolio_id,
        kind=portfolio_service_pb2.CASH_FLOW_KIND_PAYMENT,
        changes=[portfolio_service_pb2.CashBalance(currency="USD", amount=-5e4)],
    )
    await client.portfolio.AdjustCash(request)
    assert (await mark(client, portfolio_id)).high_water_mark == pytest.approx(1.5e5)
    await pay(client, portfolio_id, 1e5, I0=1e4)
    assert (await mark(client, portfolio_id)).high_water_mark == pytest.approx(2e5)
    for _ in range(9):  # nobody says any more what it is worth
        other.snapshot_id = new_id("other")
        await client.market.PutMarketSnapshot(
            market_service_pb2.PutMarketSnapshotRequest(snapshot=other)
        )
    request.request_id = str(uuid4())
    assert (await refusal(client.portfolio.AdjustCash(request))).reason == "MISSING_PRICE"
    await client.put_market()


async def test_at_the_floor_nothing_is_held_until_an_operator_says_so(client: Client) -> None:
    portfolio_id = await ready(client, floor=0.9)
    rebase = portfolio_service_pb2.RebaseHighWaterMarkRequest(
        portfolio_id=portfolio_id, reason="the strategy was changed"
    )
    refused = await refusal(client.portfolio.RebaseHighWaterMark(rebase))
    assert refused.reason == "NO_HIGH_WATER_MARK"
    await pay(client, portfolio_id, 5e5, I0=5e4)
    assert await multiplier(client, portfolio_id) == pytest.approx(0.1)
    await client.put_market(price=(5.0, 20.0, 50.0, 100.0, 5.0, 200.0, 30.0, 80.0))
    decision = await client.size(sizing_request(portfolio_id, ["I0"], EDGE))
    (item,) = decision.adjustments
    assert item.multiplier == 0.0
    assert "RebaseHighWaterMark" in item.explanation
    assert (decision.sizes.lots[0], decision.sizes.trade_lots[0]) == (0, -50_000)
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )

    refused = await refusal(
        client.portfolio.RebaseHighWaterMark(
            portfolio_service_pb2.RebaseHighWaterMarkRequest(portfolio_id=portfolio_id)
        )
    )
    assert refused.fields == {"reason": "MISSING"}
    done = (await client.portfolio.RebaseHighWaterMark(rebase)).rebase
    assert (done.equity_before, done.equity_after) == (pytest.approx(1e6), pytest.approx(7.5e5))
    assert await multiplier(client, portfolio_id) == pytest.approx(0.1)
    stored = await mark(client, portfolio_id)
    assert stored.high_water_mark == pytest.approx(7.5e5)
    assert [r.change.reason for r in stored.high_water_mark_rebases] == [rebase.reason]
    assert replay.lots_equal
    again = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert again.lots_equal
    assert list(again.replayed.adjustments) == list(decision.adjustments)
    await client.put_market()


async def test_floors_out_of_range_are_told(client: Client) -> None:
    portfolio_id = await ready(client, None)
    for floor in (0.0, 1.0, float("nan"), -0.5):
        refused = await refusal(put(client, portfolio_id, drawdown_floor=floor))
        assert set(refused.fields) == {"parameters.drawdown_floor"}
    for times in (0.5, 0.0, 101.0, float("nan")):
        refused = await refusal(
            put(client, portfolio_id, drawdown_floor=0.5, drawdown_multiplier=times)
        )
        assert set(refused.fields) == {"parameters.drawdown_multiplier"}
