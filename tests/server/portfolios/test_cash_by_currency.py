"""Cash by currency, reckoned by hand: a book of dollars with accounts in euros and pounds.

EURUSD is 1.25 and GBPUSD 1.50 unless a line says otherwise; statements are in dollars.
"""

from typing import Any
from uuid import uuid4

import pytest
from positionsizing.v1 import market_service_pb2 as market_pb2
from positionsizing.v1 import parameter_service_pb2, sizing_pb2, types_pb2
from positionsizing.v1 import portfolio_service_pb2 as pb
from positionsizing.v1 import sizing_service_pb2 as sizing

from tests.server.support.service_client import (
    Client,
    all_that_may_be_had,
    new_id,
    refusal,
    snapshot_message,
)

FUTURE = market_pb2.CONTRACT_KIND_FUTURE


def cents(amount: float) -> Any:
    """Equal to the cent, and to what doubles leave of one."""
    return pytest.approx(amount, abs=1e-6)


def cash(**amounts: float) -> list[pb.CashBalance]:
    return [pb.CashBalance(currency=code, amount=amount) for code, amount in amounts.items()]


def rate(pair: str, value: float) -> market_pb2.ExchangeRate:
    return market_pb2.ExchangeRate(from_currency=pair[:3], to_currency=pair[3:], rate=value)


RATES = [rate("EURUSD", 1.25), rate("GBPUSD", 1.5)]


class Account:
    """One portfolio, traded in one instrument "X" of a currency of its own."""

    def __init__(self, client: Client, currency: str, **columns: Any) -> None:
        self.client, self.id = client, new_id("accounts")
        self.columns = {"currency": [currency], "exchange_rates": RATES, **columns}

    async def open(
        self, dollars: float, accounts: list[pb.CashBalance], **limits: Any
    ) -> "Account":
        await self.market()
        portfolio = pb.Portfolio(
            portfolio_id=self.id, base_currency="USD", cash=dollars, cash_balances=accounts
        )
        await self.client.portfolio.CreatePortfolio(pb.CreatePortfolioRequest(portfolio=portfolio))
        await self.client.set_limits(pb.Scope(portfolio_id=self.id), **limits)
        return self

    async def market(self, **changed: Any) -> None:
        self.columns |= changed
        snapshot = snapshot_message(
            instrument_ids=["X"], volatility=[], average_daily_volume=[], sector=[], **self.columns
        )
        request = market_pb2.PutMarketSnapshotRequest(snapshot=snapshot, confirm_prices=True)
        await self.client.market.PutMarketSnapshot(request)
        self.snapshot_id = snapshot.snapshot_id

    async def size(
        self, side: int = types_pb2.SIDE_LONG, **given: Any
    ) -> sizing_pb2.SizingDecision:
        signals = all_that_may_be_had("X", side)
        request = sizing.SizePositionsRequest(
            request_id=str(uuid4()),
            portfolio_id=self.id,
            signals=signals,
            market_snapshot_id=self.snapshot_id,
            **given,
        )
        return await self.client.size(request)

    async def fill(self, decision: sizing_pb2.SizingDecision, price: float, **given: Any) -> None:
        fills = sizing.Fills(
            instrument_ids=["X"],
            lots=decision.sizes.trade_lots,
            price=[price],
            **{name: [value] for name, value in given.items()},
        )
        request = sizing.SettleDecisionRequest(
            request_id=str(uuid4()), decision_id=decision.decision_id, fills=fills
        )
        await self.client.sizing.SettleDecision(request)

    async def stored(self) -> pb.GetPortfolioResponse:
        request = pb.GetPortfolioRequest(portfolio_id=self.id)
        return await self.client.portfolio.GetPortfolio(request)

    async def cash(self) -> dict[str, float]:
        found = (await self.stored()).portfolio
        return {"USD": found.cash, **{item.currency: item.amount for item in found.cash_balances}}


async def test_shares_are_paid_from_the_account_of_their_currency(client: Client) -> None:
    book = await Account(client, "EUR", price=[40.0]).open(
        10_000.0, cash(EUR=8_000.0, GBP=2_000.0), fee_rate=0.001
    )
    assert (await book.stored()).cash_total == cents(23_000.0)  # 10,000 + 10,000 + 3,000
    decision = await book.size(include_cash_needs=True)
    # Equity is 23,000; a share needs 40 x 1.25 x 1.001 = 50.05: 459.5.
    assert decision.summary.equity == cents(23_000.0)
    assert list(decision.sizes.trade_lots) == [459]
    assert decision.summary.cash_reserved == cents(22_972.95)
    needs = decision.cash_needs
    assert (list(needs.instrument_ids), list(needs.currency)) == (["X"], ["EUR"])
    assert list(needs.cash_needed) == [cents(18_378.36)]  # 459 x 40 x 1.001
    table = {n.currency: (n.balance, n.cash_needed, n.shortfall) for n in needs.currencies}
    assert table == {
        "EUR": (cents(8_000.0), cents(18_378.36), cents(10_378.36)),
        "GBP": (cents(2_000.0), 0.0, 0.0),
        "USD": (cents(10_000.0), 0.0, 0.0),
    }
    await book.fill(decision, 40.02, fee=18.37, fee_currency="EUR")
    # 8,000 - 459 x 40.02 - 18.37; no dollar has moved.
    assert await book.cash() == {"EUR": cents(-10_387.55), "GBP": 2_000.0, "USD": 10_000.0}
    statement = (await book.size(validate_only=True)).summary
    # 10,000 + 3,000 - 12,984.4375 + 459 x 50.
    assert statement.equity == cents(22_965.5625)
    await book.market(exchange_rates=[rate("EURUSD", 1.2), rate("GBPUSD", 1.5)])
    # What is borrowed in euros falls with them: 13,000 + 1.2 x (18,360 - 10,387.55).
    assert (await book.size(validate_only=True)).summary.equity == cents(22_566.94)


async def test_what_was_borrowed_before_is_a_part_of_the_shortfall(client: Client) -> None:
    book = await Account(client, "EUR", price=[40.0]).open(100_000.0, cash(EUR=-5_000.0, GBP=-10.0))
    decision = await book.size(include_cash_needs=True)
    table = {n.currency: n for n in decision.cash_needs.currencies}
    euros = table["EUR"]
    assert euros.cash_needed > 10_000.0
    assert euros.balance == cents(-5_000.0)
    assert euros.shortfall == cents(euros.cash_needed + 5_000.0)
    assert table["GBP"].shortfall == cents(10.0)


async def test_where_fills_settle(client: Client) -> None:
    book = await Account(client, "EUR", price=[40.0]).open(100_000.0, [], weight_max=0.1)

    async def bought(**given: Any) -> dict[str, float]:
        decision = await book.size()
        assert list(decision.sizes.trade_lots) == [200]  # 10,000 / 50
        await book.fill(decision, 40.0, **given)
        held = await book.cash()
        request = pb.SetHoldingsRequest(portfolio_id=book.id, cash=100_000.0)
        await client.portfolio.SetHoldings(request)
        return held

    # Without an account in euros the base currency pays, at the fill's own rate.
    assert await bought(exchange_rate=1.26) == {"USD": cents(89_920.0)}
    assert await bought(settlement_currency="EUR") == {"USD": 100_000.0, "EUR": cents(-8_000.0)}
    # A third currency, at the market's rate: 10,000 / 1.5; the fee in euros has no account.
    assert await bought(settlement_currency="GBP", fee=8.0, fee_currency="EUR") == {
        "USD": cents(99_990.0),
        "GBP": cents(-6_666.666666667),
    }
    with_account = pb.SetHoldingsRequest(
        portfolio_id=book.id, cash=100_000.0, cash_balances=cash(EUR=0.0)
    )
    await client.portfolio.SetHoldings(with_account)
    assert await bought() == {"USD": 100_000.0, "EUR": cents(-8_000.0)}
    await client.portfolio.SetHoldings(with_account)
    assert await bought(settlement_currency="USD") == {"USD": cents(90_000.0), "EUR": 0.0}
    decision = await book.size()
    for wrong, reason in (("EURO", "UNKNOWN_CURRENCY"), ("GBX", "NOT_APPLICABLE")):
        refused = await refusal(book.fill(decision, 40.0, settlement_currency=wrong))
        assert refused.fields == {"fills.settlement_currency[0]": reason}


async def test_a_fee_in_the_price_s_currency_is_converted_at_the_fill_s_rate(
    client: Client,
) -> None:
    book = await Account(client, "EUR", price=[100.0]).open(1e6, [], weight_max=0.5)
    decision = await book.size()
    lots = decision.sizes.trade_lots[0]
    await book.fill(decision, 100.0, exchange_rate=1.3, fee=1_000.0, fee_currency="EUR")
    assert await book.cash() == {"USD": cents(1e6 - 1.3 * (100.0 * lots + 1_000.0))}


@pytest.mark.parametrize(
    ("currency", "given", "field", "reason"),
    [
        ("USD", {"exchange_rate": 1.3}, "exchange_rate[0]", "CONTRADICTORY"),
        ("EUR", {"exchange_rate": 2.0}, "exchange_rate[0]", "FILL_OUT_OF_BAND"),
        ("EUR", {"fee": 1e18}, "fee[0]", "FILL_OUT_OF_BAND"),
    ],
)
async def test_fills_far_from_all_that_is_plausible(
    client: Client, currency: str, given: dict[str, Any], field: str, reason: str
) -> None:
    book = await Account(client, currency, price=[100.0]).open(1e6, [], weight_max=0.5)
    decision = await book.size()
    refused = await refusal(book.fill(decision, 100.0, **given))
    assert refused.fields == {f"fills.{field}": reason}
    assert await book.cash() == {"USD": 1e6}


async def test_a_conversion_moves_no_value(client: Client) -> None:
    book = await Account(client, "EUR", price=[100.0]).open(1e6, cash(EUR=100.0), weight_max=0.5)
    request = pb.AdjustCashRequest(
        request_id=str(uuid4()),
        portfolio_id=book.id,
        changes=cash(EUR=-100.0, USD=1e9),
        kind=pb.CASH_FLOW_KIND_CONVERSION,
    )
    refused = await refusal(client.portfolio.AdjustCash(request))
    assert refused.fields == {"changes": "CONTRADICTORY"}
    assert "125 given up" in refused.message
    assert await book.cash() == {"USD": 1e6, "EUR": 100.0}


async def test_pence_are_paid_in_pounds(client: Client) -> None:
    book = await Account(client, "GBX", price=[500.0]).open(
        10_000.0, cash(GBP=10_000.0), weight_max=0.3
    )
    decision = await book.size(include_cash_needs=True)
    # 0.3 x 25,000 = 7,500 of shares at 7.50.
    assert list(decision.sizes.trade_lots) == [1000]
    assert list(decision.cash_needs.currency) == ["GBP"]
    assert list(decision.cash_needs.cash_needed) == [cents(5_000.0)]
    await book.fill(decision, 501.0, fee=250.0, fee_currency="GBX")
    assert await book.cash() == {"USD": 10_000.0, "GBP": cents(4_987.5)}  # 10,000 - 5,010 - 2.50


async def test_gains_of_futures_come_in_their_currency(client: Client) -> None:
    book = await Account(
        client, "EUR", price=[4_000.0], contract_kind=[FUTURE], multiplier=[10.0],
        initial_margin_long=[4_000.0],
    ).open(20_000.0, cash(EUR=0.0), weight_max=10.0)  # fmt: skip
    decision = await book.size()
    assert list(decision.sizes.trade_lots) == [4]  # 20,000 / 5,000
    await book.fill(decision, 4_001.0, fee=8.0, fee_currency="EUR")
    assert await book.cash() == {"USD": 20_000.0, "EUR": cents(-8.0)}
    await book.market(price=[4_050.0])
    closing = await book.size(types_pb2.SIDE_SHORT)
    assert list(closing.sizes.trade_lots) == [-4]
    await book.fill(closing, 4_051.0)
    assert await book.cash() == {"USD": 20_000.0, "EUR": cents(1_992.0)}  # 4 x 10 x 50 - 8


async def test_a_rate_that_is_missing_refuses_the_book(client: Client) -> None:
    book = await Account(client, "USD", price=[10.0]).open(
        1_000.0, cash(JPY=1_000_000.0), weight_max=0.1
    )
    refused = await refusal(book.size())
    assert refused.reason == "MISSING_EXCHANGE_RATE"
    assert "cash is in JPY" in refused.message
    assert not (await book.stored()).HasField("cash_total")
    request = pb.SetHoldingsRequest(portfolio_id=book.id, cash=1_000.0, cash_balances=cash(JPY=0.0))
    await client.portfolio.SetHoldings(request)
    assert list((await book.size()).sizes.trade_lots) == [10]


@pytest.mark.parametrize(
    ("accounts", "field", "reason"),
    [
        (cash(USD=1.0), "cash_balances[0].currency", "NOT_APPLICABLE"),
        (cash(GBX=1.0), "cash_balances[0].currency", "NOT_APPLICABLE"),
        (cash(EUR=1.0) * 2, "cash_balances[1].currency", "DUPLICATE"),
        (cash(euro=1.0), "cash_balances[0].currency", "UNKNOWN_CURRENCY"),
        ([pb.CashBalance(amount=1.0)], "cash_balances[0].currency", "MISSING"),
        (cash(EUR=float("nan")), "cash_balances[0].amount", "NOT_FINITE"),
        (cash(EUR=1e19), "cash_balances[0].amount", "OUT_OF_RANGE"),
    ],
)
async def test_what_is_no_account(
    client: Client, accounts: list[pb.CashBalance], field: str, reason: str
) -> None:
    portfolio_id = await client.put_portfolio(1e6)
    request = pb.SetHoldingsRequest(portfolio_id=portfolio_id, cash_balances=accounts)
    assert (await refusal(client.portfolio.SetHoldings(request))).fields == {field: reason}
    portfolio = pb.Portfolio(portfolio_id=new_id("p"), base_currency="USD", cash_balances=accounts)
    create = pb.CreatePortfolioRequest(portfolio=portfolio)
    refused = await refusal(client.portfolio.CreatePortfolio(create))
    assert refused.fields == {f"portfolio.{field}": reason}


async def test_cash_is_moved_once(client: Client) -> None:
    book = await Account(client, "EUR", price=[40.0]).open(100_000.0, [], weight_max=0.1)
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=book.id,
            parameters=parameter_service_pb2.SizingParameters(drawdown_floor=0.5),
        )
    )
    await book.size()  # sets the high-water mark and the accepted equity, 100,000 both
    convert = pb.AdjustCashRequest(
        request_id=str(uuid4()),
        portfolio_id=book.id,
        changes=cash(USD=-12_600.0, EUR=10_000.0),
        kind=pb.CASH_FLOW_KIND_CONVERSION,
    )
    first = await client.portfolio.AdjustCash(convert)
    assert await client.portfolio.AdjustCash(convert) == first
    assert await book.cash() == {"USD": 87_400.0, "EUR": 10_000.0}
    # 87,400 + 12,500: the conversion has cost 100, and is no payment.
    found = await book.stored()
    assert (found.cash_total, found.high_water_mark) == (cents(99_900.0), 100_000.0)
    pay = pb.AdjustCashRequest(
        request_id=str(uuid4()),
        portfolio_id=book.id,
        changes=cash(USD=99_900.0),
        kind=pb.CASH_FLOW_KIND_PAYMENT,
    )
    await client.portfolio.AdjustCash(pay)
    found = await book.stored()
    # Equity doubles by it, and so do the mark and the equity that is accepted.
    assert (found.cash_total, found.high_water_mark) == (cents(199_800.0), cents(200_000.0))
    assert found.equity_accepted == cents(200_000.0)
    assert (await book.size(validate_only=True)).summary.equity == cents(199_800.0)
    pay.changes[0].amount = 1.0
    assert (await refusal(client.portfolio.AdjustCash(pay))).reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({"request_id": ""}, "request_id", "MISSING"),
        ({"changes": []}, "changes", "MISSING"),
        ({"kind": 0}, "kind", "MISSING"),
        ({"kind": pb.CASH_FLOW_KIND_CONVERSION}, "changes", "OUT_OF_RANGE"),
        ({"changes": cash(GBX=1.0)}, "changes[0].currency", "NOT_APPLICABLE"),
        ({"changes": cash(USD=float("inf"))}, "changes[0].amount", "NOT_FINITE"),
    ],
)
async def test_what_moves_no_cash(
    client: Client, given: dict[str, Any], field: str, reason: str
) -> None:
    portfolio_id = await client.put_portfolio(1e6)
    wanted: dict[str, Any] = {
        "request_id": str(uuid4()),
        "portfolio_id": portfolio_id,
        "changes": cash(USD=1.0),
        "kind": pb.CASH_FLOW_KIND_INCOME,
    }
    request = pb.AdjustCashRequest(**{**wanted, **given})
    assert (await refusal(client.portfolio.AdjustCash(request))).fields == {field: reason}


async def test_a_decision_on_two_currencies_replays(client: Client) -> None:
    book = await Account(client, "EUR", price=[40.0]).open(
        10_000.0, cash(EUR=8_000.0), weight_max=0.2
    )
    decision = await book.size(include_cash_needs=True)
    move = pb.AdjustCashRequest(
        request_id=str(uuid4()),
        portfolio_id=book.id,
        changes=cash(EUR=-8_000.0),
        kind=pb.CASH_FLOW_KIND_PAYMENT,
    )
    await client.portfolio.AdjustCash(move)
    request = sizing.ReplayDecisionRequest(decision_id=decision.decision_id)
    replayed = await client.sizing.ReplayDecision(request)
    assert replayed.lots_equal
    assert replayed.replayed.cash_needs == decision.cash_needs
