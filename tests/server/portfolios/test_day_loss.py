"""The largest loss of a day, reckoned by hand: what shows it reduces trading by itself."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import events_pb2, limits_pb2, sizing_pb2, types_pb2
from positionsizing.v1 import market_service_pb2 as market_pb2
from positionsizing.v1 import portfolio_service_pb2 as pb
from positionsizing.v1 import sizing_service_pb2 as sizing

from compute.money.day_loss import TradingDay, day_at, start_of
from server.app import App
from server.portfolios import day_loss
from tests.server.support.service_client import (
    Client,
    all_that_may_be_had,
    new_id,
    refusal,
    snapshot_message,
)

ACTIVE, REDUCING = types_pb2.TRADING_STATE_ACTIVE, types_pb2.TRADING_STATE_REDUCING


def test_a_loss_counts_from_the_start_until_it_is_passed() -> None:
    day = TradingDay.opened(date(2026, 11, 27), 100_000.0)
    assert not day.passes(95_000.0, 0.05)
    assert day.passes(94_999.0, 0.05)
    day = day.seen(94_000.0, is_restricted=False)
    assert (day.loss, day.equity_reference) == (0.06, 100_000.0)
    day = day.seen(93_000.0, is_restricted=True)  # from the lowest equity on
    assert not day.passes(88_000.0, 0.05)
    assert day.passes(87_999.0, 0.05)
    assert not TradingDay.opened(day.day, -1.0).passes(-5.0, 0.05)


def test_a_day_is_that_of_its_zone() -> None:
    moment = datetime(2026, 11, 27, 3, 30, tzinfo=UTC)  # half past ten in the evening before
    assert day_at(moment, "America/New_York") == date(2026, 11, 26)
    begin = start_of(date(2026, 11, 26), "America/New_York")
    assert begin == datetime(2026, 11, 26, 5, 0, tzinfo=UTC)


class Book:
    """A portfolio that holds an instrument of its own."""

    def __init__(self, client: Client) -> None:
        self.client, self.id, self.name = client, new_id("day"), new_id("D")
        self.scope = pb.Scope(portfolio_id=self.id)

    async def open(self, price: float = 100.0, **given: Any) -> "Book":
        """100,000: half in cash, 500 units at 100. Limits beside those given: half of it."""
        await self.market(price, given.pop("first_time", None))
        held = pb.Holdings(instrument_ids=[self.name], quantity=[500.0])
        portfolio = pb.Portfolio(
            portfolio_id=self.id,
            base_currency="USD",
            cash=50_000.0,
            holdings=held,
            time_zone=given.pop("time_zone", ""),
            group_id=given.pop("group_id", ""),
        )
        await self.client.portfolio.CreatePortfolio(pb.CreatePortfolioRequest(portfolio=portfolio))
        await self.client.set_limits(self.scope, weight_max=0.9, **given)
        return self

    async def market(
        self, price: float, time: Timestamp | None = None, *, confirm: bool = True
    ) -> None:
        columns: dict[str, Any] = {"volatility": [], "average_daily_volume": [], "sector": []}
        if time is not None:
            columns["as_of_time"] = time
        snapshot = snapshot_message(instrument_ids=[self.name], price=[price], **columns)
        request = market_pb2.PutMarketSnapshotRequest(snapshot=snapshot, confirm_prices=confirm)
        await self.client.market.PutMarketSnapshot(request)

    async def state(self) -> pb.GetTradingStateResponse:
        request = pb.GetTradingStateRequest(scope=self.scope)
        return await self.client.portfolio.GetTradingState(request)

    async def day(self) -> pb.TradingDay:
        request = pb.GetPortfolioRequest(portfolio_id=self.id)
        return (await self.client.portfolio.GetPortfolio(request)).trading_day

    async def resume(self) -> None:
        request = pb.SetTradingStateRequest(scope=self.scope, trading_state=ACTIVE, reason="seen")
        await self.client.portfolio.SetTradingState(request)

    async def size(self, **given: Any) -> sizing_pb2.SizingDecision:
        signals = all_that_may_be_had(self.name)
        request = sizing.SizePositionsRequest(
            request_id=str(uuid4()), portfolio_id=self.id, signals=signals, **given
        )
        return await self.client.size(request)


async def test_a_mark_that_shows_it_reduces_trading(client: Client, app: App) -> None:
    book = await Book(client).open(day_loss_max=0.05)
    day = await book.day()
    assert (day.equity_start, day.loss) == (100_000.0, 0.0)
    await book.market(90.0)  # 95,000: five percent is allowed
    assert (await book.state()).trading_state == ACTIVE
    assert (await book.size(validate_only=True)).sizes.trade_lots[0] > 0
    await book.market(89.0)  # 94,500
    state = await book.state()
    assert state.trading_state == REDUCING
    assert state.change.author == day_loss.AUTHOR
    assert "lost 5.50% of the equity 100,000.00" in state.change.reason
    assert "day_loss_max allows 5.00%" in state.change.reason
    day = await book.day()
    assert (day.equity_last, day.loss) == (94_500.0, 0.055)
    assert day.HasField("pass_time")
    decision = await book.size()
    assert list(decision.sizes.trade_lots) == [0]
    assert list(decision.sizes.binding) == [types_pb2.LIMIT_KIND_REDUCING_ONLY]
    assert app.config.dsn is not None
    connection = await asyncpg.connect(app.config.dsn.get_secret_value())
    try:
        payload = await connection.fetchval(
            "SELECT payload FROM outbox WHERE portfolio_id = $1 AND topic = $2",
            book.id,
            "trading-state-changed",
        )
    finally:
        await connection.close()
    event = events_pb2.TradingStateChanged.FromString(payload)
    assert (event.trading_state, event.change.reason) == (REDUCING, state.change.reason)
    # An operator lets it go on; the same loss doesn't stop it again, as much again does.
    await book.market(88.0)  # 94,000, the lowest
    await book.resume()
    await book.market(88.0)
    assert (await book.state()).trading_state == ACTIVE
    assert (await book.size(validate_only=True)).sizes.trade_lots[0] > 0
    await book.market(77.0)  # 88,500: 5,500 below 94,000
    assert (await book.state()).trading_state == REDUCING


async def test_a_price_that_nobody_accepted_is_no_loss(client: Client) -> None:
    book = await Book(client).open(day_loss_max=0.05)
    await book.market(1.0, confirm=False)  # two digits slipped
    assert (await refusal(book.size())).reason == "PRICE_JUMP"
    assert (await book.state()).trading_state == ACTIVE
    assert (await book.day()).loss == 0.0
    await book.market(99.0, confirm=False)
    assert (await book.state()).trading_state == ACTIVE
    assert (await book.day()).loss == 0.005
    await book.market(1.0)  # it really is worth that
    assert (await book.state()).trading_state == REDUCING


async def test_a_fill_shows_it(client: Client) -> None:
    book = await Book(client).open(day_loss_max=0.02)
    decision = await book.size()
    lots = decision.sizes.trade_lots[0]
    assert lots > 200
    # 200 bought at 110 and worth 100: 2,000 are lost, and the fee.
    for filled, fee, expected in ((200, 0.0, ACTIVE), (1, 1.0, REDUCING)):
        fills = sizing.Fills(
            instrument_ids=[book.name],
            lots=[filled],
            price=[110.0 if filled > 1 else 100.0],
            fee=[fee],
        )
        request = sizing.SettleDecisionRequest(
            request_id=str(uuid4()), decision_id=decision.decision_id, fills=fills
        )
        await client.sizing.SettleDecision(request)
        assert (await book.state()).trading_state == expected


async def test_books_show_a_loss_where_it_is_no_payment(client: Client) -> None:
    book = await Book(client).open(day_loss_max=0.05)
    held = pb.Holdings(instrument_ids=[book.name], quantity=[500.0])
    books = pb.SetHoldingsRequest(portfolio_id=book.id, cash=40_000.0, holdings=held)
    await client.portfolio.SetHoldings(books)  # all of it was paid out
    day = await book.day()
    assert (day.equity_start, day.loss) == (90_000.0, 0.0)
    books.cash, books.payment = 36_000.0, 500.0  # 500 paid in, and 4,500 lost: 4.97 %
    await client.portfolio.SetHoldings(books)
    assert (await book.state()).trading_state == ACTIVE
    assert (await book.day()).loss == pytest.approx(4_500.0 / 90_500.0)
    books.cash, books.payment = 35_900.0, 0.0
    stored = (await client.portfolio.SetHoldings(books)).portfolio
    assert stored.trading_state == REDUCING  # as it is when the answer comes


async def test_cash_that_is_paid_is_no_loss_and_costs_are(client: Client) -> None:
    book = await Book(client).open(day_loss_max=0.05)
    for kind, expected in (
        (pb.CASH_FLOW_KIND_PAYMENT, ACTIVE),
        (pb.CASH_FLOW_KIND_INCOME, REDUCING),
    ):
        request = pb.AdjustCashRequest(
            request_id=str(uuid4()),
            portfolio_id=book.id,
            changes=[pb.CashBalance(currency="USD", amount=-6_000.0)],
            kind=kind,
        )
        await client.portfolio.AdjustCash(request)
        assert (await book.state()).trading_state == expected


async def test_a_decision_shows_it(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    book = await Book(client).open(day_loss_max=0.05)

    async def nothing(*_: Any) -> None:
        """Nobody looks at marks: as with more than 256 portfolios."""

    monkeypatch.setattr(day_loss.DayLossMonitor, "marked", nothing)
    await book.market(80.0)
    tried = await book.size(validate_only=True)
    assert list(tried.sizes.binding) == [types_pb2.LIMIT_KIND_REDUCING_ONLY]
    assert (await book.state()).trading_state == ACTIVE  # looking records nothing
    decision = await book.size()
    assert list(decision.sizes.trade_lots) == [0]
    state = await book.state()
    assert state.trading_state == REDUCING
    assert decision.versions.trading_state_version == state.trading_state_version
    request = sizing.ReplayDecisionRequest(decision_id=decision.decision_id)
    assert (await client.sizing.ReplayDecision(request)).lots_equal


async def test_a_day_begins_at_the_prices_before_its_midnight(client: Client) -> None:
    yesterday = Timestamp()
    zone = "Pacific/Auckland"
    midnight = start_of(day_at(datetime.now(UTC), zone), zone)
    yesterday.FromDatetime((midnight - timedelta(seconds=1)).astimezone(UTC).replace(tzinfo=None))
    book = Book(client)
    await book.open(price=120.0, first_time=yesterday, time_zone=zone)
    await book.market(108.0)
    await client.set_limits(book.scope, weight_max=0.9, day_loss_max=0.05)
    # 110,000 when it began, 104,000 now.
    day = await book.day()
    assert (day.equity_start, day.equity_last) == (110_000.0, 104_000.0)
    assert day.day == datetime.now(ZoneInfo(zone)).date().isoformat()
    assert (await book.state()).trading_state == REDUCING


async def test_the_next_day_lets_it_go_on_where_that_is_declared(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = [
        await Book(client).open(day_loss_max=0.05, day_loss_resumes=True),
        await Book(client).open(day_loss_max=0.05),
    ]
    for book in books:
        await book.market(80.0)
        assert (await book.state()).trading_state == REDUCING
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    monkeypatch.setattr(day_loss, "day_at", lambda moment, zone: tomorrow)
    for book, expected in zip(books, (ACTIVE, REDUCING), strict=True):
        await book.market(80.0)
        await book.size()
        state = await book.state()
        assert state.trading_state == expected
        assert (await book.day()).day == tomorrow.isoformat()
    assert "a new trading day" in (await books[0].state()).change.reason


async def test_narrower_scopes_only_tighten(client: Client) -> None:
    group = new_id("group")
    book = await Book(client).open(group_id=group, day_loss_max=0.5, day_loss_resumes=True)
    await client.set_limits(pb.Scope(group_id=group), day_loss_max=0.02)
    await book.market(95.0)  # 97,500
    assert (await book.state()).trading_state == REDUCING


@pytest.mark.parametrize("value", [0.0, -0.1, 1.5, float("nan")])
async def test_a_limit_is_a_fraction(client: Client, value: float) -> None:
    request = pb.SetLimitsRequest(limits=limits_pb2.Limits(day_loss_max=value))
    refused = await refusal(client.portfolio.SetLimits(request))
    assert set(refused.fields) == {"limits.day_loss_max"}


async def test_it_is_a_limit_of_books(client: Client) -> None:
    strategy = pb.Scope(strategy_id="s")
    limits = limits_pb2.Limits(day_loss_max=0.1)
    request = pb.SetLimitsRequest(scope=strategy, limits=limits)
    refused = await refusal(client.portfolio.SetLimits(request))
    assert refused.fields == {"limits.day_loss_max": "NOT_APPLICABLE"}
    book = await Book(client).open()
    refused = await refusal(book.size(limits=limits))
    assert refused.fields == {"limits.day_loss_max": "NOT_APPLICABLE"}


async def test_zones_have_names(client: Client) -> None:
    book = await Book(client).open()
    wanted = pb.SetTimeZoneRequest(portfolio_id=book.id, time_zone="Europe/Zurich")
    assert (await client.portfolio.SetTimeZone(wanted)).portfolio.time_zone == "Europe/Zurich"
    wanted.time_zone = "Mars/Olympus"
    refused = await refusal(client.portfolio.SetTimeZone(wanted))
    assert refused.fields == {"time_zone": "UNKNOWN_VALUE"}
    portfolio = pb.Portfolio(portfolio_id=new_id("z"), base_currency="USD", time_zone="../etc")
    create = pb.CreatePortfolioRequest(portfolio=portfolio)
    refused = await refusal(client.portfolio.CreatePortfolio(create))
    assert refused.fields == {"portfolio.time_zone": "UNKNOWN_VALUE"}
