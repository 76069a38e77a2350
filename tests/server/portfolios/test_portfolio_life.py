"""Portfolios are renamed, and closed for good once nothing is held or reserved."""

import grpc
from positionsizing.v1 import parameter_service_pb2, types_pb2
from positionsizing.v1 import portfolio_service_pb2 as pb

from tests.server.support.service_client import Client, refusal, sizing_request


async def named(client: Client, portfolio_id: str) -> pb.Portfolio:
    request = pb.GetPortfolioRequest(portfolio_id=portfolio_id)
    return (await client.portfolio.GetPortfolio(request)).portfolio


async def test_a_new_name_leaves_the_rest(client: Client) -> None:
    portfolio_id = await client.put_portfolio(5e5, {"I0": 7.0}, group_id="life-group")
    before = await named(client, portfolio_id)
    request = pb.RenamePortfolioRequest(portfolio_id=portfolio_id, display_name="Näme [x]")
    after = (await client.portfolio.RenamePortfolio(request)).portfolio
    assert after == await named(client, portfolio_id)
    assert after.display_name == "Näme [x]"
    assert after.version == before.version + 1
    for item in (before, after):
        item.ClearField("display_name")
        item.ClearField("version")
        item.ClearField("update_time")
    assert after == before
    request.expected_version = before.version
    assert (
        await refusal(client.portfolio.RenamePortfolio(request))
    ).code is grpc.StatusCode.ABORTED
    request = pb.RenamePortfolioRequest(portfolio_id="nobody-at-all")
    refused = await refusal(client.portfolio.RenamePortfolio(request))
    assert refused.reason == "PORTFOLIO_NOT_FOUND"


async def test_what_is_held_or_reserved_keeps_a_portfolio_open(client: Client) -> None:
    held = await client.put_portfolio(1e6, {"I0": 7.0})
    refused = await refusal(
        client.portfolio.ClosePortfolio(pb.ClosePortfolioRequest(portfolio_id=held))
    )
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PORTFOLIO_IN_USE",
    )
    assert (await named(client, held)).trading_state == types_pb2.TRADING_STATE_ACTIVE
    reserved = await client.ready()
    await client.size(sizing_request(reserved))
    request = pb.ClosePortfolioRequest(portfolio_id=reserved)
    assert (await refusal(client.portfolio.ClosePortfolio(request))).reason == "PORTFOLIO_IN_USE"


async def test_a_closed_portfolio_is_halted_hidden_and_stays(client: Client) -> None:
    portfolio_id = await client.ready()
    request = pb.ClosePortfolioRequest(portfolio_id=portfolio_id, reason="fund wound up")
    closed = (await client.portfolio.ClosePortfolio(request)).portfolio
    assert closed.HasField("close_time")
    assert closed.trading_state == types_pb2.TRADING_STATE_HALTED
    again = (await client.portfolio.ClosePortfolio(request)).portfolio
    assert again.close_time == closed.close_time
    refused = await refusal(client.sizing.SizePositions(sizing_request(portfolio_id)))
    assert refused.reason == "TRADING_HALTED"
    assert "fund wound up" in refused.message
    booked = await refusal(
        client.portfolio.SetHoldings(pb.SetHoldingsRequest(portfolio_id=portfolio_id, cash=1.0))
    )
    assert booked.reason == "PORTFOLIO_CLOSED"
    resumed = await refusal(
        client.portfolio.SetTradingState(
            pb.SetTradingStateRequest(
                scope=pb.Scope(portfolio_id=portfolio_id),
                trading_state=types_pb2.TRADING_STATE_ACTIVE,
            )
        )
    )
    assert resumed.reason == "PORTFOLIO_CLOSED"
    for include, there in ((False, False), (True, True)):
        found = await client.portfolio.ListPortfolios(
            pb.ListPortfoliosRequest(page_size=1000, include_closed=include)
        )
        assert any(item.portfolio_id == portfolio_id for item in found.portfolios) == there


async def test_nothing_of_a_closed_portfolio_changes(client: Client) -> None:
    portfolio_id = await client.ready()
    await client.portfolio.ClosePortfolio(pb.ClosePortfolioRequest(portfolio_id=portfolio_id))
    before = await named(client, portfolio_id)
    parameters = parameter_service_pb2.SizingParameters(kelly_fraction=0.3)
    calls = (
        client.set_limits(pb.Scope(portfolio_id=portfolio_id), weight_max=0.2),
        client.portfolio.RenamePortfolio(
            pb.RenamePortfolioRequest(portfolio_id=portfolio_id, display_name="other")
        ),
        client.portfolio.SetTimeZone(
            pb.SetTimeZoneRequest(portfolio_id=portfolio_id, time_zone="Asia/Tokyo")
        ),
        client.portfolio.ConfirmEquity(
            pb.ConfirmEquityRequest(portfolio_id=portfolio_id, reason="checked")
        ),
        client.parameter.SetParameters(
            parameter_service_pb2.SetParametersRequest(
                portfolio_id=portfolio_id, parameters=parameters
            )
        ),
    )
    for call in calls:
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "PORTFOLIO_CLOSED",
        )
    assert await named(client, portfolio_id) == before


async def test_what_is_owed_keeps_a_portfolio_open(client: Client) -> None:
    for cash, accounts in (
        (0.0, [pb.CashBalance(currency="EUR", amount=-5.0)]),
        (-5.0, [pb.CashBalance(currency="EUR", amount=100.0)]),
    ):
        portfolio_id = await client.put_portfolio(cash, cash_balances=accounts)
        request = pb.ClosePortfolioRequest(portfolio_id=portfolio_id)
        refused = await refusal(client.portfolio.ClosePortfolio(request))
        assert refused.reason == "PORTFOLIO_IN_USE"
        assert "is owed" in refused.message
