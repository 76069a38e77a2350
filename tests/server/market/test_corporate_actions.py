"""Corporate actions, reckoned by hand: books, open trades, limits and prices change together."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import analytics_service_pb2 as analytics_pb
from positionsizing.v1 import corporate_action_pb2 as action_pb
from positionsizing.v1 import events_pb2, limits_pb2, sizing_pb2, types_pb2
from positionsizing.v1 import history_service_pb2 as history_pb
from positionsizing.v1 import market_service_pb2 as market_pb2
from positionsizing.v1 import portfolio_service_pb2 as portfolio_pb
from positionsizing.v1 import sizing_service_pb2 as sizing

from server.app import App
from storage.postgres.group_commit import GroupCommitter
from tests.server.support.service_client import (
    Client,
    all_that_may_be_had,
    new_id,
    refusal,
    snapshot_message,
)

LONG, SHORT = types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT
KEEP, PAY = action_pb.FRACTION_POLICY_KEEP, action_pb.FRACTION_POLICY_PAY_CASH


def cents(amount: float) -> Any:
    """Equal to the cent, and to what doubles leave of one."""
    return pytest.approx(amount, abs=1e-6)


class Book:
    """A portfolio and one instrument of its own."""

    def __init__(self, client: Client, **columns: Any) -> None:
        self.client, self.id, self.name = client, new_id("book"), new_id("CA")
        self.columns = columns

    async def open(self, cash: float, held: float = 0.0, paid: float = 0.0, **given: Any) -> "Book":
        """With limits that let half of equity be in the instrument, unless others are given."""
        await self.market()
        portfolio = portfolio_pb.Portfolio(
            portfolio_id=self.id, base_currency="USD", cash=cash, **given.pop("portfolio", {})
        )
        if held:
            portfolio.holdings.CopyFrom(
                portfolio_pb.Holdings(
                    instrument_ids=[self.name], quantity=[held], average_price=[paid]
                )
            )
        await self.client.portfolio.CreatePortfolio(
            portfolio_pb.CreatePortfolioRequest(portfolio=portfolio)
        )
        limits = {"weight_max": 0.5, "allow_short": True, **given}
        await self.client.set_limits(portfolio_pb.Scope(portfolio_id=self.id), **limits)
        return self

    async def market(self, confirm: bool = True, **changed: Any) -> Any:
        self.columns |= changed
        columns = {
            name: value if name in ("exchange_rates", "as_of_time") else [value]
            for name, value in self.columns.items()
        }
        given = {"volatility": [], "average_daily_volume": [], "sector": [], **columns}
        snapshot = snapshot_message(instrument_ids=[self.name], **given)
        self.snapshot_id = snapshot.snapshot_id
        request = market_pb2.PutMarketSnapshotRequest(snapshot=snapshot, confirm_prices=confirm)
        return await self.client.market.PutMarketSnapshot(request)

    async def newest(self) -> market_pb2.MarketSnapshot:
        request = market_pb2.GetMarketSnapshotRequest()
        return (await self.client.market.GetMarketSnapshot(request)).snapshot

    async def size(self, side: int = LONG, **given: Any) -> sizing_pb2.SizingDecision:
        signals = all_that_may_be_had(self.name, side)
        request = sizing.SizePositionsRequest(
            request_id=str(uuid4()), portfolio_id=self.id, signals=signals, **given
        )
        return await self.client.size(request)

    async def size_from(self, universe_id: str, **given: Any) -> sizing_pb2.SizingDecision:
        """By the returns of a stored history."""
        signals = sizing_pb2.SignalBatch(
            instrument_ids=[self.name], side=[LONG], history_universe_id=universe_id
        )
        request = sizing.SizePositionsRequest(
            request_id=str(uuid4()), portfolio_id=self.id, signals=signals, **given
        )
        return await self.client.size(request)

    async def statement(self) -> sizing_pb2.PortfolioSummary:
        return (await self.size(validate_only=True)).summary

    async def fill(self, decision: sizing_pb2.SizingDecision, lots: int, price: float) -> None:
        fills = sizing.Fills(instrument_ids=[self.name], lots=[lots], price=[price])
        request = sizing.SettleDecisionRequest(
            request_id=str(uuid4()), decision_id=decision.decision_id, fills=fills
        )
        await self.client.sizing.SettleDecision(request)

    async def stored(self) -> portfolio_pb.Portfolio:
        request = portfolio_pb.GetPortfolioRequest(portfolio_id=self.id)
        return (await self.client.portfolio.GetPortfolio(request)).portfolio

    async def held(self) -> tuple[float, float, float]:
        """Units, their average price, and cash."""
        found = await self.stored()
        columns = (found.holdings.quantity, found.holdings.average_price)
        return (*(sum(column) for column in columns), found.cash)

    async def open_trades(self) -> list[portfolio_pb.Reservation]:
        request = portfolio_pb.ListReservationsRequest(portfolio_id=self.id)
        return list((await self.client.portfolio.ListReservations(request)).reservations)

    def action(self, **what: Any) -> market_pb2.ApplyCorporateActionRequest:
        given = {name: what.pop(name) for name in ("validate_only", "reason") if name in what}
        return market_pb2.ApplyCorporateActionRequest(
            request_id=str(uuid4()),
            action=action_pb.CorporateAction(instrument_id=self.name, **what),
            **given,
        )

    async def apply(self, **what: Any) -> market_pb2.ApplyCorporateActionResponse:
        return await self.client.market.ApplyCorporateAction(self.action(**what))


def split(new: float, old: float, **given: Any) -> action_pb.Split:
    return action_pb.Split(new_units=new, old_units=old, **given)


async def test_a_split_with_an_open_trade(client: Client) -> None:
    book = Book(client, price=100.0, stop_price=90.0, average_daily_volume=1_000.0)
    limit = limits_pb2.InstrumentLimit(instrument_id=book.name, quantity_max=250.0)
    await book.open(100_000.0, instruments=[limit], adv_trade_max=0.5)
    decision = await book.size()
    assert list(decision.sizes.trade_lots) == [250]
    await book.fill(decision, 100, 101.0)
    before, trade = await book.statement(), (await book.open_trades())[0]
    # 100,000 - 10,100 + 10,000; 150 lots are open, of 15,000.
    assert (before.equity, trade.cash_open) == (cents(99_900.0), cents(15_000.0))
    version = (await book.stored()).version

    request = book.action(split=split(2, 1), reason="two for one")
    done = await client.market.ApplyCorporateAction(request)
    [effect] = done.effects
    assert (effect.quantity_before, effect.quantity_after) == (100.0, 200.0)
    assert list(effect.decision_ids) == [decision.decision_id]
    assert list(effect.released_quantity) == [0.0]
    assert done.limits_changed == 1
    assert await client.market.ApplyCorporateAction(request) == done  # doubled: nothing more
    assert await book.held() == (200.0, cents(50.5), cents(89_900.0))
    assert (await book.stored()).version > version
    newest = await book.newest()
    assert newest.snapshot_id == done.market_snapshot_id
    assert (newest.price[0], newest.stop_price[0]) == (50.0, 45.0)
    assert newest.average_daily_volume[0] == 2_000.0
    assert newest.as_of_time.ToDatetime() < done.action.effective_time.ToDatetime()
    [left] = await book.open_trades()
    assert list(left.trade_lots_open) == [300]
    assert left.cash_open == cents(15_000.0)
    limits = portfolio_pb.GetLimitsRequest(scope=portfolio_pb.Scope(portfolio_id=book.id))
    found = await client.portfolio.GetLimits(limits)
    assert found.limits.instruments[0].quantity_max == 500.0
    assert "split" in found.change.reason
    assert await book.statement() == before  # to the last bit
    replayed = await client.sizing.ReplayDecision(
        sizing.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replayed.lots_equal
    await book.fill(decision, 300, 50.5)  # orders at the broker were split as well
    assert await book.held() == (500.0, cents(50.5), cents(74_750.0))


async def test_a_reverse_split_leaves_fractions(client: Client) -> None:
    book = await Book(client, price=2.0).open(1_000.0, held=1_005.0, paid=1.8)
    other = Book(client)
    other.name = book.name
    portfolio = portfolio_pb.Portfolio(portfolio_id=other.id, base_currency="USD", cash=1_000.0)
    portfolio.holdings.CopyFrom(
        portfolio_pb.Holdings(instrument_ids=[book.name], quantity=[-7.0], average_price=[2.0])
    )
    await client.portfolio.CreatePortfolio(portfolio_pb.CreatePortfolioRequest(portfolio=portfolio))
    refused = await refusal(book.apply(split=split(1, 10)))
    assert refused.reason == "FRACTIONS_NOT_DECLARED"
    assert "0.5 of one" in refused.message
    assert await book.held() == (1_005.0, cents(1.8), 1_000.0)
    looked = await book.apply(split=split(1, 10, fraction_policy=PAY), validate_only=True)
    assert await book.held() == (1_005.0, cents(1.8), 1_000.0)
    before = (await book.statement()).equity
    done = await book.apply(split=split(1, 10, fraction_policy=PAY))
    assert done.effects == looked.effects
    # 100.5 at 20: a half is paid with 10. Short 0.7 at 20: bought back for 14.
    assert await book.held() == (100.0, cents(18.0), cents(1_010.0))
    assert (await book.statement()).equity == cents(before)
    assert await other.held() == (0.0, 0.0, cents(986.0))
    effects = {e.portfolio_id: (e.fraction, e.cash_change, e.cash_currency) for e in done.effects}
    assert effects == {
        book.id: (cents(0.5), cents(10.0), "USD"),
        other.id: (cents(-0.7), cents(-14.0), "USD"),
    }


async def test_fractions_are_kept_or_paid_at_a_price(client: Client) -> None:
    book = await Book(client, price=30.0).open(1_000.0, held=7.0, paid=30.0)
    await book.apply(split=split(3, 2, fraction_policy=KEEP))
    assert await book.held() == (10.5, cents(20.0), 1_000.0)
    # 10.5 become 5.25 at 40; a quarter is paid at 44.
    await book.apply(split=split(1, 2, fraction_policy=PAY, cash_price=44.0))
    assert await book.held() == (5.0, cents(40.0), cents(1_011.0))


async def test_decimals_are_no_fractions(client: Client) -> None:
    book = await Book(client, price=50_000.0, lot_size=0.001).open(1_000.0, held=0.5, paid=40_000.0)
    await book.apply(split=split(10, 1))
    assert await book.held() == (5.0, cents(4_000.0), 1_000.0)


async def test_open_trades_that_fit_no_lot_are_released(client: Client) -> None:
    book = await Book(client, price=100.0).open(1_400.0)
    decision = await book.size()
    assert list(decision.sizes.trade_lots) == [7]
    done = await book.apply(split=split(3, 2))
    # 7 become 10.5: ten are still to be had, for 700 x 10 / 10.5.
    assert list(done.effects[0].released_quantity) == [0.5]
    [left] = await book.open_trades()
    assert (list(left.trade_lots_open), left.cash_open) == ([10], cents(666.666666667))
    await book.apply(split=split(1, 20))
    assert await book.open_trades() == []


async def test_a_change_of_lots(client: Client) -> None:
    book = await Book(client, price=1.0, lot_size=100.0).open(1_400.0)
    decision = await book.size()
    assert list(decision.sizes.trade_lots) == [7]
    await book.apply(lot_size_change=action_pb.LotSizeChange(lot_size=50.0))
    [left] = await book.open_trades()
    assert (list(left.trade_lots_open), left.cash_open) == ([14], cents(700.0))
    done = await book.apply(lot_size_change=action_pb.LotSizeChange(lot_size=300.0))
    assert list(done.effects[0].released_quantity) == [100.0]
    [left] = await book.open_trades()
    assert (list(left.trade_lots_open), left.cash_open) == ([2], cents(600.0))
    assert (await book.newest()).lot_size[0] == 300.0
    await book.fill(decision, 2, 1.0)
    assert await book.held() == (600.0, 1.0, cents(800.0))


async def test_a_change_of_multiplier(client: Client) -> None:
    contract = {
        "contract_kind": market_pb2.CONTRACT_KIND_FUTURE,
        "multiplier": 50.0,
        "initial_margin_long": 12_000.0,
    }
    book = await Book(client, price=4_000.0, **contract).open(
        100_000.0, held=3.0, paid=3_990.0, weight_max=10.0
    )
    before = await book.statement()
    assert (before.equity, before.margin_used) == (cents(101_500.0), cents(36_000.0))
    await book.apply(multiplier_change=action_pb.MultiplierChange(multiplier=5.0))
    assert await book.held() == (30.0, cents(3_990.0), 100_000.0)
    newest = await book.newest()
    assert (newest.multiplier[0], newest.initial_margin_long[0]) == (5.0, 1_200.0)
    after = await book.statement()
    assert (after.equity, after.margin_used) == (cents(101_500.0), cents(36_000.0))


async def test_a_dividend_moves_no_equity(client: Client) -> None:
    rate = market_pb2.ExchangeRate(from_currency="EUR", to_currency="USD", rate=1.25)
    columns = {"currency": "EUR", "exchange_rates": [rate]}
    book = await Book(client, price=100.0, **columns).open(10_000.0, held=100.0, paid=80.0)
    account = {"cash_balances": [portfolio_pb.CashBalance(currency="EUR")]}
    short = Book(client, price=100.0, **columns)
    short.name = book.name
    await short.open(50_000.0, held=-40.0, paid=100.0, portfolio=account)
    before = [(await item.statement()).equity for item in (book, short)]
    assert before == [cents(22_500.0), cents(45_000.0)]
    done = await book.apply(cash_dividend=action_pb.CashDividend(amount=1.5))
    # 150 euros are 187.50 dollars; who is short owes 60 in euros.
    assert await book.held() == (100.0, 80.0, cents(10_187.5))
    assert (await short.stored()).cash_balances[0].amount == cents(-60.0)
    assert (await book.newest()).price[0] == 98.5
    assert [(await item.statement()).equity for item in (book, short)] == [
        cents(22_500.0),
        cents(45_000.0),
    ]
    assert {e.cash_currency for e in done.effects} == {"USD", "EUR"}
    too_much = await refusal(book.apply(cash_dividend=action_pb.CashDividend(amount=98.5)))
    assert too_much.fields == {"action.cash_dividend.amount": "OUT_OF_RANGE"}


async def test_a_decision_from_before_is_computed_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten old units become one: lots of the old price would be ten times too many."""
    book = await Book(client, price=10.0).open(100_000.0)
    commit, applied = GroupCommitter.commit, []

    async def after_the_split(self: GroupCommitter, write: Any, **given: Any) -> Any:
        if not applied:
            applied.append(await book.apply(split=split(1, 10)))
        return await commit(self, write, **given)

    monkeypatch.setattr(GroupCommitter, "commit", after_the_split)
    decision = await book.size()
    assert applied
    assert (decision.sizes.price[0], decision.sizes.lots[0]) == (100.0, 500)
    assert decision.versions.market_snapshot_id == applied[0].market_snapshot_id


async def test_a_jump_that_a_split_explains_is_none(client: Client) -> None:
    book = await Book(client, price=100.0).open(10_000.0, held=10.0, paid=100.0)
    assert (await book.market(confirm=False, price=24.0)).price_jumps  # nobody has said why
    jumped = await book.newest()
    assert (await refusal(book.size())).reason == "PRICE_JUMP"
    done = await book.apply(split=split(4, 1))
    # The newest prices show it already: its time is theirs, and they stay.
    assert not done.market_snapshot_id
    assert done.action.effective_time == jumped.as_of_time
    assert await book.held() == (40.0, cents(25.0), 10_000.0)
    assert (await book.size(validate_only=True)).summary.equity == cents(10_960.0)
    assert not (await book.market(confirm=False, price=25.0)).price_jumps
    # The other way round: told first, the price that follows is no jump either.
    await book.apply(split=split(1, 10))
    assert (await book.newest()).price[0] == 250.0
    assert not (await book.market(confirm=False, price=240.0)).price_jumps
    assert (await book.market(confirm=False, price=24.0)).price_jumps


async def test_a_time_says_whether_prices_show_it(client: Client) -> None:
    book = await Book(client, price=100.0).open(10_000.0, held=10.0, paid=100.0)
    early = Timestamp()
    early.FromDatetime(datetime.now(UTC) - timedelta(hours=1))
    done = await book.apply(split=split(2, 1), effective_time=early)
    assert not done.market_snapshot_id  # the price of 100 is from after it
    assert await book.held() == (20.0, cents(50.0), 10_000.0)
    again = await refusal(book.apply(split=split(2, 1), effective_time=early))
    assert again.reason == "ALREADY_EXISTS"
    late = Timestamp()
    late.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    refused = await refusal(book.apply(split=split(2, 1), effective_time=late))
    assert refused.fields == {"action.effective_time": "OUT_OF_RANGE"}


async def test_a_split_told_by_two_people_is_applied_once(client: Client) -> None:
    book = await Book(client, price=100.0).open(10_000.0, held=10.0, paid=100.0)
    await book.apply(split=split(2, 1))
    again = await refusal(book.apply(split=split(2, 1)))
    assert again.reason == "ALREADY_EXISTS"
    assert "effective_time" in again.message
    assert await book.held() == (20.0, cents(50.0), 10_000.0)
    now = Timestamp()
    now.GetCurrentTime()
    await book.apply(split=split(2, 1), effective_time=now)  # it really is another one
    assert await book.held() == (40.0, cents(25.0), 10_000.0)


async def test_a_wrong_split_is_undone(client: Client) -> None:
    """What is held, the newest price and what counts as a jump are then as before."""
    book = await Book(client, price=100.0).open(10_000.0, held=10.0, paid=100.0)
    await book.apply(split=split(4, 1))
    await book.apply(split=split(1, 4))
    assert await book.held() == (10.0, cents(100.0), 10_000.0)
    assert (await book.newest()).price[0] == 100.0
    assert not (await book.market(confirm=False, price=101.0)).price_jumps
    assert (await book.statement()).equity == cents(11_010.0)


async def test_a_wrong_split_after_a_jump_is_undone(client: Client) -> None:
    book = await Book(client, price=100.0).open(10_000.0, held=10.0, paid=100.0)
    await book.market(confirm=False, price=24.0)
    await book.apply(split=split(2, 1))  # 24 is not near 50: the jump stays
    await book.apply(split=split(1, 2))
    [jump] = (await book.market(confirm=False, price=24.0)).price_jumps
    assert jump.accepted_price == 100.0
    await book.apply(split=split(4, 1))
    assert await book.held() == (40.0, cents(25.0), 10_000.0)
    assert (await book.statement()).equity == cents(10_960.0)


async def test_a_snapshot_from_before_is_not_sized_on(client: Client) -> None:
    book = await Book(client, price=100.0).open(10_000.0)
    old = book.snapshot_id
    decision = await book.size(market_snapshot_id=old)
    await book.apply(split=split(2, 1))
    refused = await refusal(book.size(market_snapshot_id=old))
    assert refused.reason == "SNAPSHOT_BEFORE_CORPORATE_ACTION"
    assert (await book.size(validate_only=True)).sizes.price[0] == 50.0
    request = sizing.ReplayDecisionRequest(decision_id=decision.decision_id)
    assert (await client.sizing.ReplayDecision(request)).lots_equal
    # A late snapshot from before it, at the old price, is not sized on either.
    late = Timestamp()
    late.FromDatetime((await book.newest()).as_of_time.ToDatetime() + timedelta(microseconds=1))
    await book.market(as_of_time=late)
    assert (await refusal(book.size())).reason == "SNAPSHOT_BEFORE_CORPORATE_ACTION"


async def test_growth_over_a_split_and_a_dividend(client: Client) -> None:
    """From 100 to 52 after two for one is 4 %; from 52 to 51.51 after a dividend of 1 is 1 %."""
    book = await Book(client, price=100.0).open(100_000.0, weight_max=0.5)
    first = await book.size()
    await book.apply(split=split(2, 1))
    await book.market(price=52.0)
    second = await book.size()
    await book.apply(cash_dividend=action_pb.CashDividend(amount=1.0))
    await book.market(price=51.51)
    weights = [decision.sizes.weight[0] for decision in (first, second)]
    assert weights[0] == 0.5
    request = analytics_pb.AnalyzeDecisionsRequest(portfolio_id=book.id)
    found = (await client.analytics.AnalyzeDecisions(request)).stage_growth
    expected = np.log1p(weights[0] * (104 / 100 - 1)) + np.log1p(weights[1] * (51.51 / 51 - 1))
    assert found.start + sum(found.steps) == pytest.approx(expected, rel=1e-9)


async def put_prices(
    client: Client, universe_id: str, name: str, prices: list[float], days_ago: int
) -> None:
    """Daily closes, the last of them so many days ago."""
    history = history_pb.History(
        universe_id=universe_id,
        kind=history_pb.HISTORY_KIND_PRICES,
        instrument_ids=[name],
        values=prices,
    )
    for day in range(len(prices)):
        before = timedelta(days=days_ago + len(prices) - 1 - day)
        history.observation_times.add().FromDatetime(datetime.now(UTC) - before)
    await client.history.PutHistory(history_pb.PutHistoryRequest(history=history))


async def test_stored_prices_follow_a_split(client: Client) -> None:
    """Closes of 100, 102, 101 from before it and 51, 52 from after it: no return of a half."""
    book = await Book(client, price=52.0).open(10_000.0)
    universe_id = new_id("universe")
    await put_prices(client, universe_id, book.name, [100.0, 102.0, 101.0], days_ago=3)
    before = datetime.now(UTC)
    decision = await book.size_from(universe_id)
    effective = Timestamp()
    effective.FromDatetime(datetime.now(UTC) - timedelta(days=2, hours=1))
    await book.apply(split=split(2, 1), effective_time=effective)
    await put_prices(client, universe_id, book.name, [51.0, 52.0], days_ago=1)
    request = history_pb.GetHistoryRequest(universe_id=universe_id)
    found = (await client.history.GetHistory(request)).history
    assert list(found.values) == [50.0, 51.0, 50.5, 51.0, 52.0]
    request.known_time.FromDatetime(before)
    then = (await client.history.GetHistory(request)).history
    assert list(then.values) == [100.0, 102.0, 101.0]
    again = await client.sizing.ReplayDecision(
        sizing.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert again.lots_equal
    returns = np.array([51 / 50, 50.5 / 51, 51 / 50.5, 52 / 51]) - 1.0
    newer = await book.size_from(universe_id, validate_only=True)
    assert newer.edges.mean[0] == pytest.approx(returns.mean(), rel=1e-12)


async def test_books_from_before_are_not_taken(client: Client) -> None:
    book = await Book(client, price=100.0).open(10_000.0, held=10.0, paid=100.0)
    early = Timestamp()
    early.GetCurrentTime()
    await book.apply(split=split(2, 1))
    held = portfolio_pb.Holdings(instrument_ids=[book.name], quantity=[10.0])
    books = portfolio_pb.SetHoldingsRequest(
        portfolio_id=book.id, cash=10_000.0, holdings=held, as_of_time=early
    )
    refused = await refusal(client.portfolio.SetHoldings(books))
    assert refused.reason == "BOOKS_BEFORE_CORPORATE_ACTION"
    books.holdings.quantity[0] = 20.0
    books.as_of_time.GetCurrentTime()
    await client.portfolio.SetHoldings(books)


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ({}, {"action": "MISSING"}),
        ({"split": split(0, 1)}, {"action.split.new_units": "OUT_OF_RANGE"}),
        ({"split": split(2, -1)}, {"action.split.old_units": "OUT_OF_RANGE"}),
        ({"split": split(2, float("nan"))}, {"action.split.old_units": "NOT_FINITE"}),
        ({"split": split(3, 3)}, {"action.split.new_units": "OUT_OF_RANGE"}),
        (
            {"cash_dividend": action_pb.CashDividend()},
            {"action.cash_dividend.amount": "OUT_OF_RANGE"},
        ),
        (
            {"lot_size_change": action_pb.LotSizeChange(lot_size=-1.0)},
            {"action.lot_size_change.lot_size": "OUT_OF_RANGE"},
        ),
    ],
)
async def test_what_is_no_action(
    client: Client, action: dict[str, Any], fields: dict[str, str]
) -> None:
    book = await Book(client, price=100.0).open(10_000.0)
    assert (await refusal(book.apply(**action))).fields == fields


async def test_an_action_names_what_is_there(client: Client) -> None:
    book = await Book(client, price=100.0).open(10_000.0)
    request = book.action(split=split(2, 1))
    request.request_id = ""
    refused = await refusal(client.market.ApplyCorporateAction(request))
    assert refused.fields == {"request_id": "MISSING"}
    request = book.action(split=split(2, 1))
    request.action.instrument_id = "nothing"
    refused = await refusal(client.market.ApplyCorporateAction(request))
    assert refused.fields == {"action.instrument_id": "UNKNOWN_INSTRUMENT"}
    request.action.instrument_id = ""
    refused = await refusal(client.market.ApplyCorporateAction(request))
    assert refused.fields == {"action.instrument_id": "EMPTY"}


async def test_actions_are_listed(client: Client) -> None:
    book = await Book(client, price=100.0).open(10_000.0)
    await book.apply(split=split(2, 1), reason="first")
    await book.apply(cash_dividend=action_pb.CashDividend(amount=1.0), reason="second")
    request = market_pb2.ListCorporateActionsRequest(instrument_id=book.name, page_size=1)
    page = await client.market.ListCorporateActions(request)
    assert [item.reason for item in page.actions] == ["second"]
    request.page_token = page.next_page_token
    page = await client.market.ListCorporateActions(request)
    assert [item.action.split.new_units for item in page.actions] == [2.0]
    assert not page.next_page_token


async def test_an_action_is_told_to_its_portfolios_and_once_to_all(
    client: Client, app: App
) -> None:
    book = await Book(client, price=100.0).open(10_000.0, held=10.0, paid=100.0)
    request = book.action(split=split(2, 1), reason="two for one")
    for _ in range(2):
        await client.market.ApplyCorporateAction(request)
    assert app.config.dsn is not None
    dsn = app.config.dsn.get_secret_value()
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            """SELECT portfolio_id, payload FROM outbox WHERE topic = 'corporate-actions'
            ORDER BY position"""
        )
    finally:
        await connection.close()
    events = [(row[0], events_pb2.CorporateActionApplied.FromString(row[1])) for row in rows]
    mine = [(id, e) for id, e in events if e.request_id == request.request_id]
    assert [id for id, _ in mine] == [book.id, ""]
    assert (mine[0][1].effect.quantity_after, mine[0][1].reason) == (20.0, "two for one")
    assert mine[0][1].portfolio_sequence > 0
    assert not mine[1][1].HasField("effect")
