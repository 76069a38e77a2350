"""Lists: pages of what was asked for, in the order said, and tokens that are good for one list."""

import base64
import json
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import (
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_service_pb2,
)

from tests.server.support.service_client import INSTRUMENTS, Client, new_id, refusal, sizing_request


async def pages(call: Any, request: Any, column: str) -> list[Any]:
    """All entries of a list, page by page."""
    found: list[Any] = []
    for _ in range(10_000):  # a server may have had all tests before this one
        answer = await call(request)
        entries = getattr(answer, column)
        assert len(entries) <= request.page_size
        found += entries
        request.page_token = answer.next_page_token
        if not request.page_token:
            return found
        assert len(entries) == request.page_size, "a page is full unless it is the last"
    raise AssertionError("no end")


async def test_portfolios_of_a_group_fill_their_pages(client: Client) -> None:
    group_id, mine = new_id("group"), []
    for number in range(12):
        given: dict[str, Any] = {"portfolio_id": new_id(f"list-{number:02}")}
        if number % 3 == 0:
            given["group_id"] = group_id
            mine.append(given["portfolio_id"])
        await client.put_portfolio(**given)
    request = portfolio_service_pb2.ListPortfoliosRequest(page_size=2, group_id=group_id)
    found = await pages(client.portfolio.ListPortfolios, request, "portfolios")
    assert [item.portfolio_id for item in found] == sorted(mine)


async def test_snapshots_are_listed_by_their_time(client: Client) -> None:
    """Whatever the order they arrive in: an old one that comes late is no newest."""
    start = 1_500_000_000
    for seconds in (300, 100, 400, 200, 300, 500):
        then = Timestamp(seconds=start + seconds)
        await client.put_market(snapshot_id=new_id(f"late-{seconds}"), as_of_time=then)
    request = market_service_pb2.ListMarketSnapshotsRequest(page_size=4)
    found = await pages(client.market.ListMarketSnapshots, request, "snapshots")
    times = [(item.as_of_time.seconds, item.as_of_time.nanos) for item in found]
    assert times == sorted(times, reverse=True)
    late = [item.snapshot_id for item in found if item.snapshot_id.startswith("late-")]
    assert [name.split("-")[1] for name in late] == ["500", "400", "300", "300", "200", "100"]


async def test_a_token_is_good_for_its_own_list_only(client: Client) -> None:
    portfolio_id = await client.ready()
    for name in INSTRUMENTS[:3]:
        await client.size(sizing_request(portfolio_id, [name]))
        await client.put_market()
    calls: list[tuple[Any, Any]] = [
        (client.market.ListMarketSnapshots, market_service_pb2.ListMarketSnapshotsRequest()),
        (
            client.sizing.ListDecisions,
            sizing_service_pb2.ListDecisionsRequest(portfolio_id=portfolio_id),
        ),
        (client.portfolio.ListPortfolios, portfolio_service_pb2.ListPortfoliosRequest()),
        (
            client.portfolio.ListReservations,
            portfolio_service_pb2.ListReservationsRequest(portfolio_id=portfolio_id),
        ),
    ]
    for request in (request for _, request in calls):
        request.page_size = 1
    tokens = [(await call(request)).next_page_token for call, request in calls]
    assert all(tokens)
    for place, (call, request) in enumerate(calls):
        for other, token in enumerate(tokens):
            request.page_token = token
            if other == place:
                assert await call(request)
            else:
                assert (await refusal(call(request))).fields == {"page_token": "BAD_FORMAT"}
    other = sizing_service_pb2.ListDecisionsRequest(page_size=1, page_token=tokens[1])
    assert (await refusal(client.sizing.ListDecisions(other))).fields  # of another portfolio


FORGED = (
    ["0001-01-01T00:00:00+14:00", "00000000-0000-0000-0000-000000000000"],
    ["9999-12-31T23:59:59-14:00", "00000000-0000-0000-0000-000000000000"],
    ["2020-01-01T00:00:00+00:00", 17],
    ["2020-01-01T00:00:00+00:00", None],
    ["2020-01-01T00:00:00+00:00", 2**63],
    ["2020-01-01T00:00:00+00:00", -1],
    [2**63 - 1],
    [-(2**63)],
    [2**64],
    [True],
    ["a\x00b"],
    [{"a": 1}],
)


@pytest.mark.parametrize("values", FORGED, ids=str)
async def test_a_forged_token_says_nothing_of_the_database(client: Client, values: Any) -> None:
    """The head of a true token with another place in it."""
    portfolio_id = await client.ready()
    for name in INSTRUMENTS[:2]:
        await client.put_market()
        await client.size(sizing_request(portfolio_id, [name]))
    calls: list[tuple[Any, Any]] = [
        (client.market.ListMarketSnapshots, market_service_pb2.ListMarketSnapshotsRequest()),
        (client.sizing.ListDecisions, sizing_service_pb2.ListDecisionsRequest()),
        (client.portfolio.ListPortfolios, portfolio_service_pb2.ListPortfoliosRequest()),
        (
            client.portfolio.ListReservations,
            portfolio_service_pb2.ListReservationsRequest(portfolio_id=portfolio_id),
        ),
    ]
    for call, request in calls:
        request.page_size = 1
        head = json.loads(base64.urlsafe_b64decode((await call(request)).next_page_token))[0]
        forged = json.dumps([head, *values]).encode()
        request.page_token = base64.urlsafe_b64encode(forged).decode()
        try:
            await call(request)  # a place that a row could have
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, (values, error.details())
            assert "token of this list" in str(error.details())
    parameters = parameter_service_pb2.ListParameterVersionsRequest(page_token="AAAA")
    assert (await refusal(client.parameter.ListParameterVersions(parameters))).fields


async def test_currencies_are_those_that_exist(client: Client) -> None:
    for code in ("USD", "JPY", "CNH", "BTC", "USDT", "GBX"):
        portfolio = portfolio_service_pb2.Portfolio(
            portfolio_id=new_id("money"), base_currency=code
        )
        request = portfolio_service_pb2.CreatePortfolioRequest(portfolio=portfolio)
        assert (await client.portfolio.CreatePortfolio(request)).portfolio.base_currency == code
    for code in ("ZZZ", "usd", "US", "", "USDX", "QQQ"):
        portfolio = portfolio_service_pb2.Portfolio(
            portfolio_id=new_id("money"), base_currency=code
        )
        request = portfolio_service_pb2.CreatePortfolioRequest(portfolio=portfolio)
        refused = await refusal(client.portfolio.CreatePortfolio(request))
        reason = "UNKNOWN_CURRENCY" if code else "MISSING"
        assert refused.fields == {"portfolio.base_currency": reason}
    rate = market_service_pb2.ExchangeRate(from_currency="ZZZ", to_currency="USD", rate=1.0)
    refused = await refusal(client.put_market(exchange_rates=[rate], currency=["ZZZ"] * 8))
    assert set(refused.fields) == {
        "snapshot.currency[0]", "snapshot.exchange_rates[0].from_currency"
    }  # fmt: skip
