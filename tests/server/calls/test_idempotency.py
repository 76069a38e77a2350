"""The same request id gets the same bytes, whatever happens between; other content is refused."""

import asyncio
from uuid import uuid4

import grpc
from positionsizing.v1 import portfolio_service_pb2, sizing_service_pb2, types_pb2

from tests.server.support.service_client import Client, refusal, sizing_request


async def raw(client: Client, request: sizing_service_pb2.SizePositionsRequest) -> bytes:
    """The answer's bytes as they came over the wire."""
    call = client.channel.unary_unary(
        "/positionsizing.v1.SizingService/SizePositions",
        request_serializer=sizing_service_pb2.SizePositionsRequest.SerializeToString,
    )
    return await call(request)


async def test_sixty_four_at_once_are_one_decision(client: Client) -> None:
    portfolio_id = await client.ready()
    request = sizing_request(portfolio_id)
    answers = await asyncio.gather(*(raw(client, request) for _ in range(64)))
    assert len(set(answers)) == 1
    assert await client.counts(portfolio_id) == (1, 1)


async def test_a_request_id_with_other_content_is_refused(client: Client) -> None:
    portfolio_id = await client.ready()
    request = sizing_request(portfolio_id)
    first = await raw(client, request)
    request.signals.win_probability[0] = 0.61
    refused = await refusal(client.sizing.SizePositions(request))
    assert refused.code is grpc.StatusCode.ABORTED
    assert refused.reason == "REQUEST_ID_REUSED"
    request.signals.win_probability[0] = 0.6
    assert await raw(client, request) == first
    assert await client.counts(portfolio_id) == (1, 1)


async def test_one_id_may_be_written_in_more_ways_than_one(client: Client) -> None:
    portfolio_id = await client.ready()
    request = sizing_request(portfolio_id)
    usual = request.request_id
    first = await raw(client, request)
    for other in (usual.upper(), usual.replace("-", ""), f"urn:uuid:{usual}"):
        request.request_id = other
        assert await raw(client, request) == first
    assert await client.counts(portfolio_id) == (1, 1)
    decision_id = sizing_service_pb2.SizePositionsResponse.FromString(first).decision.decision_id
    settle = sizing_service_pb2.SettleDecisionRequest(
        request_id=str(uuid4()), decision_id=decision_id, close=True
    )
    answer = await client.sizing.SettleDecision(settle)
    settle.request_id, settle.decision_id = settle.request_id.upper(), decision_id.upper()
    assert await client.sizing.SettleDecision(settle) == answer
    cash = portfolio_service_pb2.AdjustCashRequest(
        request_id=str(uuid4()),
        portfolio_id=portfolio_id,
        changes=[portfolio_service_pb2.CashBalance(currency="USD", amount=1.0)],
        kind=portfolio_service_pb2.CASH_FLOW_KIND_INCOME,
    )
    booked = await client.portfolio.AdjustCash(cash)
    cash.request_id = cash.request_id.upper()
    assert await client.portfolio.AdjustCash(cash) == booked


async def test_the_stored_answer_survives_every_change_of_state(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=0.05)
    read = portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
    version = (await client.portfolio.GetPortfolio(read)).portfolio.version
    request = sizing_request(portfolio_id, expected_portfolio_version=version)
    first = await raw(client, request)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    holdings = portfolio_service_pb2.SetHoldingsRequest(portfolio_id=portfolio_id, cash=-1.0)
    halt = portfolio_service_pb2.SetTradingStateRequest(
        scope=scope, trading_state=types_pb2.TRADING_STATE_HALTED
    )
    await client.set_limits(scope, weight_max=0.01)
    assert await raw(client, request) == first
    # No average daily volume here: sizing anew would be refused.
    await client.put_market(average_daily_volume=[])
    await client.set_limits(scope, adv_trade_max=0.1)
    assert await raw(client, request) == first
    await client.portfolio.SetHoldings(holdings)  # equity below zero
    assert await raw(client, request) == first
    await client.portfolio.SetTradingState(halt)
    assert await raw(client, request) == first
    await client.put_market(instrument_ids=["elsewhere"], price=[1.0], volatility=[],
                            average_daily_volume=[], sector=[])  # fmt: skip
    assert await raw(client, request) == first
    assert (await client.counts(portfolio_id))[0] == 1


async def test_a_settlement_is_booked_once(client: Client) -> None:
    portfolio_id = await client.ready()
    decision = await client.size(sizing_request(portfolio_id))
    request = sizing_service_pb2.SettleDecisionRequest(
        request_id=str(uuid4()),
        decision_id=decision.decision_id,
        fills=sizing_service_pb2.Fills(instrument_ids=["I1"], lots=[10], price=[20.0]),
    )
    answers = await asyncio.gather(*(client.sizing.SettleDecision(request) for _ in range(16)))
    assert len({answer.SerializeToString(deterministic=True) for answer in answers}) == 1
    got = await client.portfolio.GetPortfolio(
        portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
    )
    assert got.portfolio.cash == 1e6 - 200.0
    request.fills.lots[0] = 11
    refused = await refusal(client.sizing.SettleDecision(request))
    assert refused.reason == "REQUEST_ID_REUSED"
