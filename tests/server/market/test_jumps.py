"""A price, a rate or an equity that jumps is not sized on before somebody has looked at it."""

from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import market_service_pb2 as pb
from positionsizing.v1 import parameter_service_pb2, portfolio_service_pb2
from positionsizing.v1 import sizing_service_pb2 as sizing_pb2

from server.convert.market import Snapshot
from server.convert.price_jump import quotes
from server.market.price_jumps import Quote, jumps, not_accepted
from storage.postgres.price_jumps import JumpKind, PriceJump
from tests.server.support.service_client import (
    Client,
    new_id,
    refusal,
    sizing_request,
    snapshot_message,
)

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def rate(source: str, to: str, value: float) -> pb.ExchangeRate:
    return pb.ExchangeRate(from_currency=source, to_currency=to, rate=value)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({"A": 15.0, "B": 5.0}, {}),
        ({"A": 15.1, "B": 4.9}, {"A": 10.0, "B": 10.0}),
        ({"C": 1e9}, {}),  # seen for the first time
        ({"D": 5.0}, {}),  # from below 0
        ({"A": -37.0}, {"A": 10.0}),
    ],
)
def test_against_the_last_accepted_price(now: dict[str, float], expected: dict[str, float]) -> None:
    accepted = {(JumpKind.PRICE, name): Quote(10.0, NOW) for name in "AB"}
    accepted[JumpKind.PRICE, "D"] = Quote(-1.0, NOW)
    snapshot = Snapshot(pb.MarketSnapshot(instrument_ids=now.keys(), price=now.values()))
    assert {j.name: j.accepted for j in jumps(accepted, snapshot, 0.5)} == expected


def test_a_rate_is_the_same_whichever_way_it_is_written() -> None:
    for written in (rate("USD", "EUR", 0.8), rate("EUR", "USD", 1.25)):
        assert dict(quotes(Snapshot(pb.MarketSnapshot(exchange_rates=[written])))) == {
            (JumpKind.RATE, "EUR/USD"): 1.25
        }


@pytest.mark.parametrize(
    ("base", "expected"),
    [("USD", {"A", "P"}), ("EUR", {"U", "P"}), ("GBP", {"A", "U"}), ("GBX", {"A", "U"})],
)
def test_a_rate_that_jumped_concerns_what_is_converted_by_it(base: str, expected: set[str]) -> None:
    message = pb.MarketSnapshot(instrument_ids=["A", "U", "P"], currency=["EUR", "USD", "GBX"])
    snapshot = Snapshot(message)
    jumped = [PriceJump(JumpKind.RATE, "EUR/USD", 1.1, NOW)]
    assert not_accepted(jumped, snapshot, base) == expected


class Feed:
    """Snapshots of two instruments of one test."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.names = [new_id("jump"), new_id("jump")]

    async def put(
        self, *price: float, confirm: bool = False, **columns: Any
    ) -> pb.PutMarketSnapshotResponse:
        given: dict[str, Any] = {"volatility": [], "average_daily_volume": [], "sector": []}
        snapshot = snapshot_message(
            **{"instrument_ids": self.names, "price": price, **given, **columns}
        )
        self.last = pb.PutMarketSnapshotRequest(snapshot=snapshot, confirm_prices=confirm)
        return await self.client.market.PutMarketSnapshot(self.last)


async def test_a_jump_refuses_its_line_until_confirmed(client: Client) -> None:
    feed = Feed(client)
    portfolio_id = await client.ready(1e6, weight_max=0.1)
    again = sizing_request(portfolio_id, feed.names, validate_only=True)
    assert not (await feed.put(100.0, 10.0)).price_jumps
    assert list((await client.size(again)).sizes.trade_lots) == [1000, 10_000]
    for _ in range(2):  # it stays where it jumped to, and is no more accepted
        await client.put_market()  # of other instruments
        answer = await feed.put(49.0, 11.0)
        [told] = answer.price_jumps
        assert (told.instrument_id, told.price, told.accepted_price) == (feed.names[0], 49.0, 100.0)
        decision = await client.size(again)
        assert [(e.field, e.reason) for e in decision.line_errors] == [
            ("signals.instrument_ids[0]", "PRICE_JUMP")
        ]
        assert (
            await refusal(client.size(sizing_request(portfolio_id, feed.names[:1])))
        ).fields == {"signals.instrument_ids[0]": "PRICE_JUMP"}
    recorded = await client.size(sizing_request(portfolio_id, feed.names))
    found = await client.market.GetMarketSnapshot(pb.GetMarketSnapshotRequest())
    assert [j.accepted_price for j in found.price_jumps] == [100.0]
    feed.last.confirm_prices = True
    assert not (await client.market.PutMarketSnapshot(feed.last)).price_jumps
    assert not (await client.size(again)).line_errors
    assert not (await feed.put(50.0, 11.0)).price_jumps  # 49 is the accepted price now
    # What was decided before is decided alike again, with its refused line.
    replayed = await client.sizing.ReplayDecision(
        sizing_pb2.ReplayDecisionRequest(decision_id=recorded.decision_id)
    )
    assert replayed.lots_equal
    assert [e.reason for e in replayed.replayed.line_errors] == ["PRICE_JUMP"]


async def test_nothing_is_sized_while_what_is_held_has_jumped(client: Client) -> None:
    """Its equity would count a price that nobody accepted, and with it every limit."""
    feed = Feed(client)
    portfolio_id = await client.ready(1e6, weight_max=0.1)
    await feed.put(100.0, 10.0)
    await client.size(sizing_request(portfolio_id, feed.names[:1]))  # reserved
    await feed.put(160.0, 10.0)
    other = sizing_request(portfolio_id, feed.names[1:])
    refused = await refusal(client.size(other))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PRICE_JUMP")
    assert feed.names[0] in refused.message
    feed.last.confirm_prices = True
    await client.market.PutMarketSnapshot(feed.last)
    assert list((await client.size(other)).sizes.trade_lots) == [10_000]


async def test_a_rate_jump_refuses_lines_of_its_currency(client: Client) -> None:
    feed = Feed(client)
    portfolio_id = await client.ready(1e6, weight_max=0.1)
    columns: dict[str, Any] = {"currency": ["EUR", "USD"]}
    await feed.put(10.0, 10.0, **columns, exchange_rates=[rate("EUR", "USD", 1.25)])
    request = sizing_request(portfolio_id, feed.names, validate_only=True)
    assert not (await client.size(request)).line_errors
    # Ten times too little, and written the other way round.
    answer = await feed.put(10.0, 10.0, **columns, exchange_rates=[rate("USD", "EUR", 8.0)])
    assert [(j.currency_pair, j.price) for j in answer.price_jumps] == [("EUR/USD", 0.125)]
    decision = await client.size(request)
    assert [(e.line, e.reason) for e in decision.line_errors] == [(0, "PRICE_JUMP")]


async def test_a_unit_that_changes_is_no_jump_and_a_wrong_one_is(client: Client) -> None:
    """Ten pounds are a thousand pence, and ten pence a hundredth; so with multipliers."""
    feed, pounds = Feed(client), [rate("GBP", "USD", 1.3)]
    await feed.put(10.0, 10.0, currency=["GBP"] * 2, exchange_rates=pounds, multiplier=[1.0, 50.0])
    told = await feed.put(
        *(1_000.0, 10.0), currency=["GBX", "GBP"], exchange_rates=pounds, multiplier=[1.0, 50.0]
    )
    assert not told.price_jumps
    told = await feed.put(
        *(10.0, 10.0), currency=["GBX", "GBP"], exchange_rates=pounds, multiplier=[1.0, 5000.0]
    )
    assert [(j.instrument_id, j.accepted_price) for j in told.price_jumps] == [
        (feed.names[0], pytest.approx(1_000.0)),
        (feed.names[1], pytest.approx(0.1)),
    ]
    told = await feed.put(
        *(10.0, 11.0), currency=["GBP"] * 2, exchange_rates=pounds, multiplier=[1.0, 50.0]
    )
    assert not told.price_jumps  # what was accepted last counts, in pounds again


async def test_the_firm_says_what_a_jump_is(client: Client) -> None:
    feed = Feed(client)
    portfolio_id = await client.ready(1e6, weight_max=0.1)
    parameters = parameter_service_pb2.SizingParameters(price_jump_max=0.05)
    wanted = parameter_service_pb2.SetParametersRequest(parameters=parameters)
    narrow = parameter_service_pb2.SetParametersRequest(
        parameters=parameters, portfolio_id=portfolio_id
    )
    refused = await refusal(client.parameter.SetParameters(narrow))
    assert refused.fields == {"parameters.price_jump_max": "NOT_APPLICABLE"}
    try:
        await client.parameter.SetParameters(wanted)
        await feed.put(100.0, 100.0)
        told = await feed.put(105.0, 106.0)
        assert [j.instrument_id for j in told.price_jumps] == [feed.names[1]]
    finally:
        wanted.parameters.Clear()
        wanted.parameters.SetInParent()
        await client.parameter.SetParameters(wanted)


async def test_late_snapshots_are_held_against_what_was_before_them(client: Client) -> None:
    feed = Feed(client)
    early, late = Timestamp(), Timestamp()
    early.FromDatetime(datetime(2026, 11, 2))
    late.FromDatetime(datetime(2026, 11, 3))
    await feed.put(10.0, 10.0, as_of_time=early)
    await feed.put(100.0, 100.0, confirm=True)
    assert not (await feed.put(11.0, 9.0, as_of_time=late)).price_jumps


async def test_equity_that_jumps_stops_sizing_until_confirmed(client: Client) -> None:
    portfolio_id = await client.ready(100_000.0, weight_max=0.1)
    await client.size(sizing_request(portfolio_id))
    held = portfolio_service_pb2.SetHoldingsRequest(portfolio_id=portfolio_id, cash=150_000.0)
    await client.portfolio.SetHoldings(held)  # half as much again is allowed
    ask = sizing_request(portfolio_id, validate_only=True)
    await client.size(ask)
    held.cash = 1_000_000.0  # books of record with a slipped decimal point
    await client.portfolio.SetHoldings(held)
    refused = await refusal(client.size(ask))
    assert refused.reason == "EQUITY_JUMP"
    assert "1,000,000.00, +900.0%" in refused.message
    shown = portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
    assert (await client.portfolio.GetPortfolio(shown)).equity_accepted == 100_000.0
    held.cash = 100_000.0
    await client.portfolio.SetHoldings(held)  # put right: nothing to confirm
    await client.size(ask)
    held.cash, held.confirm_equity = 1_000_000.0, True  # a deposit that was meant
    await client.portfolio.SetHoldings(held)
    assert (await client.size(sizing_request(portfolio_id))).summary.equity == 1_000_000.0
    held.cash, held.confirm_equity = 400_000.0, False
    await client.portfolio.SetHoldings(held)
    assert (await refusal(client.size(ask))).reason == "EQUITY_JUMP"
    confirm = portfolio_service_pb2.ConfirmEquityRequest(portfolio_id=portfolio_id)
    assert (await refusal(client.portfolio.ConfirmEquity(confirm))).fields == {"reason": "MISSING"}
    confirm.reason = "redemption of the feeder fund"
    answer = await client.portfolio.ConfirmEquity(confirm)
    assert (answer.equity_before, answer.equity) == (1_000_000.0, 400_000.0)
    assert (await client.size(sizing_request(portfolio_id))).summary.equity == 400_000.0


async def test_confirming_is_for_portfolios_that_are_there(client: Client) -> None:
    confirm = portfolio_service_pb2.ConfirmEquityRequest(portfolio_id="nobody", reason="x")
    assert (await refusal(client.portfolio.ConfirmEquity(confirm))).reason == "PORTFOLIO_NOT_FOUND"


async def test_an_underlying_that_jumps_refuses_its_option(client: Client) -> None:
    """Exposure is counted by it: a slip of ten times would buy ten times as much."""
    feed = Feed(client)
    portfolio_id = await client.ready(1e6, weight_max=0.1)
    again = sizing_request(portfolio_id, feed.names, validate_only=True)
    option = {"delta": [0.5, 1.0], "multiplier": [100.0, 1.0]}
    assert not (await feed.put(5.0, 10.0, underlying_price=[100.0, 0.0], **option)).price_jumps
    # Exposure of a contract: 0.5 x 100 x 100.
    assert list((await client.size(again)).sizes.trade_lots) == [20, 10_000]
    [told] = (await feed.put(5.0, 10.0, underlying_price=[10.0, 0.0], **option)).price_jumps
    assert (told.instrument_id, told.is_underlying) == (feed.names[0], True)
    assert (told.price, told.accepted_price) == (10.0, 100.0)
    refused = (await client.size(again)).line_errors
    assert [(e.field, e.reason) for e in refused] == [("signals.instrument_ids[0]", "PRICE_JUMP")]
    # In points of another multiplier it is the same price.
    option["multiplier"][0] = 10.0
    answer = await feed.put(50.0, 10.0, underlying_price=[1000.0, 0.0], **option)
    assert not answer.price_jumps
    assert list((await client.size(again)).sizes.trade_lots) == [20, 10_000]
