"""Books reckoned by hand, as a broker's statement would have them, through the service.

Every number is worked out in the comment beside it and was checked line by line. The edge is far
beyond what margin allows (half of 0.99 / 0.01 - 0.01 = 98.99 times equity), so that sizes are what
the money says, unless a comment names another limit. Statements are in the base currency.
"""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from positionsizing.v1 import market_service_pb2 as market_pb2
from positionsizing.v1 import (
    portfolio_service_pb2,
    risk_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.risk.test_risk import losses_universe
from tests.server.support.service_client import (
    Client,
    all_that_may_be_had,
    new_id,
    refusal,
    sizing_request,
    snapshot_message,
)

LONG, SHORT = types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT
FUTURE, INVERSE = market_pb2.CONTRACT_KIND_FUTURE, market_pb2.CONTRACT_KIND_INVERSE_FUTURE


def cents(amount: float) -> Any:
    """Equal to the cent, and to what doubles leave of one."""
    return pytest.approx(amount, abs=1e-6)


@dataclass
class Trader:
    """One portfolio of one instrument, "X", traded through the service."""

    client: Client
    portfolio_id: str
    columns: dict[str, Any]
    snapshot_id: str = ""

    @classmethod
    async def opened(
        cls, client: Client, cash: float, limits: dict[str, Any], base: str = "USD", **columns: Any
    ) -> "Trader":
        trader = cls(client, new_id("golden"), columns)
        await trader.market()
        portfolio = portfolio_service_pb2.Portfolio(
            portfolio_id=trader.portfolio_id, base_currency=base, cash=cash
        )
        await client.portfolio.CreatePortfolio(
            portfolio_service_pb2.CreatePortfolioRequest(portfolio=portfolio)
        )
        scope = portfolio_service_pb2.Scope(portfolio_id=trader.portfolio_id)
        await client.set_limits(scope, **limits)
        return trader

    async def market(self, **changed: Any) -> None:
        """A new snapshot, with what has changed."""
        self.columns |= changed
        given = {
            name: value if name == "exchange_rates" else [value]
            for name, value in self.columns.items()
        }
        snapshot = snapshot_message(
            instrument_ids=["X"], volatility=[], average_daily_volume=[], sector=[], **given
        )
        request = market_pb2.PutMarketSnapshotRequest(snapshot=snapshot, confirm_prices=True)
        await self.client.market.PutMarketSnapshot(request)
        self.snapshot_id = snapshot.snapshot_id

    async def size(self, side: int = LONG, **given: Any) -> sizing_pb2.SizingDecision:
        """A decision on an edge that asks for all that may be had."""
        signals = all_that_may_be_had("X", side)
        request = sizing_service_pb2.SizePositionsRequest(
            request_id=str(uuid4()),
            portfolio_id=self.portfolio_id,
            signals=signals,
            market_snapshot_id=self.snapshot_id,
            **given,
        )
        return await self.client.size(request)

    async def fill(self, decision: sizing_pb2.SizingDecision, price: float, **given: Any) -> None:
        """Fills a decision whole."""
        columns = {name: [value] for name, value in given.items() if name != "confirm_prices"}
        fills = sizing_service_pb2.Fills(
            instrument_ids=["X"], lots=decision.sizes.trade_lots, price=[price], **columns
        )
        request = sizing_service_pb2.SettleDecisionRequest(
            request_id=str(uuid4()),
            decision_id=decision.decision_id,
            fills=fills,
            confirm_prices=given.get("confirm_prices", False),
        )
        await self.client.sizing.SettleDecision(request)

    async def cash(self) -> float:
        request = portfolio_service_pb2.GetPortfolioRequest(portfolio_id=self.portfolio_id)
        return float((await self.client.portfolio.GetPortfolio(request)).portfolio.cash)

    async def unrealised(self) -> float:
        """Gains since the fills at the newest market, which this one is."""
        request = portfolio_service_pb2.GetPortfolioRequest(portfolio_id=self.portfolio_id)
        return float((await self.client.portfolio.GetPortfolio(request)).unrealised_pnl.total)

    async def statement(self) -> tuple[float, float, float]:
        """Equity, margin used and what is free, at the newest snapshot."""
        summary = (await self.size(validate_only=True)).summary
        return summary.equity, summary.margin_used, summary.cash_available


def rates(**pairs: float) -> list[market_pb2.ExchangeRate]:
    """EURUSD=1.1 and the like."""
    return [
        market_pb2.ExchangeRate(from_currency=pair[:3], to_currency=pair[3:], rate=rate)
        for pair, rate in pairs.items()
    ]


async def test_cash_equities(client: Client) -> None:
    limits = {"fee_rate": 0.001, "cash_buffer": 0.05}
    trader = await Trader.opened(client, 100_000.0, limits, price=10.0)
    decision = await trader.size()
    # 95,000 are free for shares at 10 x 1.001 = 10.01: 9,490.5.
    assert list(decision.sizes.trade_lots) == [9490]
    assert decision.summary.cash_reserved == cents(94_994.90)  # 94,900 + 94.90
    await trader.fill(decision, 10.02, fee=95.09)
    assert await trader.cash() == cents(4_815.11)  # 100,000 - 95,089.80 - 95.09
    # At 10: 4,815.11 + 94,900; all that is not shares is free.
    assert await trader.statement() == (cents(99_715.11), cents(94_900.0), cents(4_815.11))


async def test_short_at_half_margin(client: Client) -> None:
    limits = {"allow_short": True, "short_margin_rate": 0.5}
    trader = await Trader.opened(client, 50_000.0, limits, price=20.0)
    decision = await trader.size(SHORT)
    assert list(decision.sizes.trade_lots) == [-5000]  # 50,000 / 0.5 = 100,000
    assert decision.summary.cash_reserved == cents(50_000.0)
    await trader.fill(decision, 20.0)
    assert await trader.cash() == cents(150_000.0)
    assert await trader.statement() == (cents(50_000.0), cents(50_000.0), cents(0.0))
    await trader.market(price=21.0)
    # 150,000 - 105,000; 0.5 x 105,000; a deficit of 7,500.
    assert await trader.statement() == (cents(45_000.0), cents(52_500.0), cents(-7_500.0))
    assert list((await trader.size(SHORT)).sizes.trade_lots) == [0]
    cover = await trader.size(LONG)
    assert list(cover.sizes.trade_lots) == [5000]
    await trader.fill(cover, 21.0, fee=10.0)
    assert await trader.statement() == (cents(44_990.0), cents(0.0), cents(44_990.0))


async def test_index_future_with_margin_by_amount(client: Client) -> None:
    contract = {
        "contract_kind": FUTURE,
        "multiplier": 50.0,
        "initial_margin_long": 12_000.0,
        "initial_margin_short": 12_000.0,
        "fee_fixed": 2.25,
    }
    limits = {"allow_short": True}
    trader = await Trader.opened(client, 100_000.0, limits, price=4_000.0, **contract)
    decision = await trader.size()
    # 8 x 12,000 + 2.25 = 96,002.25; the ninth would need 108,002.25.
    assert list(decision.sizes.trade_lots) == [8]
    assert decision.summary.cash_reserved == cents(96_002.25)
    assert decision.sizes.notional[0] == cents(1_600_000.0)  # 8 x 50 x 4,000
    await trader.fill(decision, 4_001.25, fee=18.0)
    assert await trader.cash() == cents(99_982.0)  # opening costs its fee
    await trader.market(price=3_990.0)
    # 8 x 50 x (3,990 - 4,001.25) = -4,500.
    assert await trader.unrealised() == cents(-4_500.0)
    assert await trader.statement() == (cents(95_482.0), cents(96_000.0), cents(-518.0))
    assert list((await trader.size()).sizes.trade_lots) == [0]
    closing = await trader.size(SHORT)  # the other side closes first
    assert list(closing.sizes.trade_lots) == [-8]
    await trader.fill(closing, 3_992.50, fee=18.0)
    # 8 x 50 x (3,992.50 - 4,001.25) = -3,500, and the fee.
    assert await trader.cash() == cents(96_464.0)
    assert await trader.statement() == (cents(96_464.0), cents(0.0), cents(96_464.0))


async def test_what_futures_are_still_beyond_is_a_part_of_equity(client: Client) -> None:
    """Futures are no part of equity: 7 of 8 contracts of 200,000 on 99,982 are left in a step."""
    contract = {"contract_kind": FUTURE, "multiplier": 50.0, "margin_rate_long": 0.06}
    trader = await Trader.opened(client, 100_000.0, {}, price=4_000.0, **contract)
    decision = await trader.size()
    assert list(decision.sizes.trade_lots) == [8]
    await trader.fill(decision, 4_000.0, fee=18.0)
    scope = portfolio_service_pb2.Scope(portfolio_id=trader.portfolio_id)
    await client.set_limits(scope, weight_max=10.0, turnover_max=2.5)
    step = await trader.size()
    assert list(step.sizes.trade_lots) == [-1]
    (only,) = step.limits_exceeded
    assert (only.kind, only.name, only.bound) == (types_pb2.LIMIT_KIND_WEIGHT_MAX, "X", 10.0)
    assert only.value == pytest.approx(7 * 200_000.0 / 99_982.0, rel=1e-12)
    universe = await losses_universe(client, 0.01 * np.resize([1.0, -1.0], 60), "X")
    found = await client.risk.ReportRisk(
        risk_service_pb2.ReportRiskRequest(
            portfolio_id=trader.portfolio_id,
            market_snapshot_id=trader.snapshot_id,
            universe_id=universe,
        )
    )
    assert found.equity == cents(99_982.0)
    # The step of one contract is reserved, and counts as filled.
    assert found.before.weights[0] == pytest.approx(7 * 200_000.0 / 99_982.0, rel=1e-12)


async def test_fx_pair_in_the_base_currency(client: Client) -> None:
    contract = {"contract_kind": FUTURE, "margin_rate_long": 0.05, "lot_size": 1_000.0}
    trader = await Trader.opened(client, 10_000.0, {"leverage_max": 30.0}, price=1.10, **contract)
    decision = await trader.size()
    # 10,000 / 0.05 = 200,000 of lots of 1,100: 181.8.
    assert list(decision.sizes.trade_lots) == [181]
    assert decision.summary.cash_reserved == cents(9_955.0)  # 0.05 x 199,100
    await trader.fill(decision, 1.1002)
    await trader.market(price=1.0950)
    # 181,000 x -0.0052 = -941.20; 0.05 x 181,000 x 1.0950 = 9,909.75.
    assert await trader.statement() == (cents(9_058.80), cents(9_909.75), cents(-850.95))


async def test_fx_pair_in_another_currency(client: Client) -> None:
    """USDJPY in a book of dollars: gains come in yen."""
    contract = {"contract_kind": FUTURE, "margin_rate_long": 0.04, "lot_size": 1_000.0}
    yen = {"currency": "JPY", "exchange_rates": rates(USDJPY=150.0)}
    trader = await Trader.opened(
        client, 10_000.0, {"leverage_max": 25.0}, price=150.0, **contract, **yen
    )
    decision = await trader.size()
    assert list(decision.sizes.trade_lots) == [250]  # 10,000 / 0.04 in lots of 150,000 yen
    await trader.fill(decision, 150.30)
    await trader.market(price=151.0, exchange_rates=rates(USDJPY=151.0))
    # 250,000 x 0.70 = 175,000 yen at 151 = 1,158.94; margin 0.04 x 250,000.
    equity, used, free = await trader.statement()
    assert round(equity, 2) == 11_158.94
    assert (used, round(free, 2)) == (cents(10_000.0), 1_158.94)
    # 10,000 at once of the gain, booked at the fill's own rate: 250,000 x 0.60 / 152.
    closing = await trader.size(SHORT)
    await trader.fill(closing, 150.90, exchange_rate=1 / 152, fee=380.0, fee_currency="JPY")
    assert round(await trader.cash(), 2) == 10_984.34  # + 986.8421 - 380 / 152 = 2.5


async def test_crypto_perpetual(client: Client) -> None:
    contract = {
        "contract_kind": FUTURE,
        "lot_size": 0.001,
        "margin_rate_long": 0.1,
        "margin_rate_short": 0.1,
        "fee_rate": 0.0005,
        "quantity_min": 0.001,
        "notional_min": 100.0,
        "quantity_max": 1.0,
    }
    trader = await Trader.opened(
        client, 20_000.0, {"leverage_max": 10.0}, price=50_000.0, **contract
    )
    decision = await trader.size()
    # 20,000 / 0.1005 = 199,004.97 would be 3.98 coins; an order is one at most.
    assert list(decision.sizes.trade_lots) == [1000]
    assert list(decision.sizes.binding) == [types_pb2.LIMIT_KIND_ORDER_MAX]
    assert decision.summary.cash_reserved == cents(5_025.0)  # 5,000 + 25
    await trader.fill(decision, 50_010.0, fee=25.01)
    await trader.market(price=51_000.0)
    # 19,974.99 + 990; 0.1 x 51,000.
    assert await trader.statement() == (cents(20_964.99), cents(5_100.0), cents(15_864.99))


async def test_the_smallest_order(client: Client) -> None:
    contract = {"lot_size": 0.001, "notional_min": 100.0}
    trader = await Trader.opened(client, 10_000.0, {"weight_max": 0.0099}, price=50.0, **contract)
    decision = await trader.size()  # 99 of the 100 that an order needs
    assert list(decision.sizes.trade_lots) == [0]
    assert list(decision.sizes.binding) == [types_pb2.LIMIT_KIND_ORDER_MIN]
    scope = portfolio_service_pb2.Scope(portfolio_id=trader.portfolio_id)
    await client.set_limits(scope, weight_max=0.01)
    decision = await trader.size()
    assert list(decision.sizes.trade_lots) == [2000]
    await trader.fill(decision, 50.0)
    # Half of it may not be sold, all of it may.
    await client.set_limits(scope, weight_max=0.005)
    assert list((await trader.size()).sizes.trade_lots) == [0]
    await client.set_limits(scope, weight_max=0.0)
    assert list((await trader.size()).sizes.trade_lots) == [-2000]


async def test_inverse_perpetual(client: Client) -> None:
    """Contracts of 100 dollars that settle in bitcoin."""
    contract = {"contract_kind": INVERSE, "multiplier": 100.0, "margin_rate_long": 0.02}
    coin = {"currency": "BTC", "exchange_rates": rates(BTCUSD=50_000.0)}
    limits = {"weight_max": 10.0}
    trader = await Trader.opened(client, 10_000.0, limits, price=50_000.0, **contract, **coin)
    decision = await trader.size()
    assert list(decision.sizes.trade_lots) == [1000]  # 10 x 10,000 in contracts of 100
    assert decision.summary.cash_reserved == cents(2_000.0)
    await trader.fill(decision, 50_000.0)
    await trader.market(price=55_000.0, exchange_rates=rates(BTCUSD=55_000.0))
    # Equity is to double: at ten times it has to be confirmed.
    assert (await refusal(trader.statement())).reason == "EQUITY_JUMP"
    confirm = portfolio_service_pb2.ConfirmEquityRequest(
        portfolio_id=trader.portfolio_id, reason="ten times"
    )
    await client.portfolio.ConfirmEquity(confirm)
    # 100,000 x (1 / 50,000 - 1 / 55,000) = 0.181818 coins at 55,000 = 10,000.
    assert await trader.statement() == (cents(20_000.0), cents(2_000.0), cents(18_000.0))


async def test_option_by_delta(client: Client) -> None:
    option = {"multiplier": 100.0, "underlying_price": 100.0, "delta": 0.5}
    trader = await Trader.opened(client, 20_000.0, {"weight_max": 1.0}, price=5.0, **option)
    decision = await trader.size()
    # A contract moves like 0.5 x 100 x 100 = 5,000 of shares and costs 500.
    assert list(decision.sizes.trade_lots) == [4]
    assert decision.sizes.weight[0] == cents(1.0)
    assert decision.summary.cash_reserved == cents(2_000.0)
    await trader.fill(decision, 5.10, fee=2.60)
    assert await trader.cash() == cents(17_957.40)  # 20,000 - 2,040 - 2.60
    assert await trader.statement() == (cents(19_957.40), cents(2_000.0), cents(17_957.40))


async def test_london_pence(client: Client) -> None:
    limits = {"fee_rate": 0.005}
    trader = await Trader.opened(client, 10_000.0, limits, base="GBP", price=75.50, currency="GBX")
    decision = await trader.size()
    # 10,000 / (0.755 x 1.005) = 13,179.1.
    assert list(decision.sizes.trade_lots) == [13_179]
    assert decision.summary.cash_reserved == cents(9_999.895725)
    # Reported in pounds: 13,179 x 0.754 = 9,936.966.
    await trader.fill(decision, 0.754, currency="GBP", fee=49.68)
    assert await trader.cash() == cents(13.354)
    assert await trader.statement() == (cents(9_963.499), cents(9_950.145), cents(13.354))


async def test_a_spread_below_zero(client: Client) -> None:
    contract = {
        "contract_kind": FUTURE,
        "multiplier": 1_000.0,
        "initial_margin_long": 900.0,
        "initial_margin_short": 900.0,
    }
    trader = await Trader.opened(client, 10_000.0, {}, price=-0.20, **contract)
    decision = await trader.size()
    # Exposure is the larger of |-200| and the margin: 900; eleven lots are 9,900.
    assert list(decision.sizes.trade_lots) == [11]
    await trader.fill(decision, -0.21)
    await trader.market(price=0.05)
    # 11 x 1,000 x 0.26 = 2,860.
    assert await trader.statement() == (cents(12_860.0), cents(9_900.0), cents(2_960.0))


async def test_halted_is_held_and_valued_but_not_traded(client: Client) -> None:
    trader = await Trader.opened(client, 1_000.0, {"weight_max": 0.5}, price=10.0)
    await trader.fill(await trader.size(), 10.0)
    await trader.market(price=4.0, halted=True)
    refused = await refusal(trader.size())
    assert refused.fields == {"signals.instrument_ids[0]": "NOT_TRADED"}


async def test_fills_are_held_against_the_market(client: Client) -> None:
    trader = await Trader.opened(client, 10_000.0, {"weight_max": 0.5}, price=10.0)
    decision = await trader.size()
    for price, given, path in (
        (100.0, {}, "fills.price[0]"),  # a slipped decimal point
        (1e308, {}, "fills.price[0]"),
        (-10.0, {}, "fills.price[0]"),
        (10.0, {"exchange_rate": 1.6}, "fills.exchange_rate[0]"),
        (10.0, {"fee": 1e300}, "fills.fee[0]"),
        (10.0, {"currency": "US"}, "fills.currency[0]"),
    ):
        assert path in (await refusal(trader.fill(decision, price, **given))).fields
    await trader.fill(decision, 16.0, confirm_prices=True)
    assert await trader.cash() == cents(2_000.0)  # 10,000 - 500 x 16


async def test_a_smallest_order_holds_at_a_price_of_nothing_too(client: Client) -> None:
    """A future at 0 with a margin of 5 a unit: 100 buy 20; an order below 25 is not sent."""
    given = {"price": 0.0, "contract_kind": FUTURE, "initial_margin_long": 5.0}
    given |= {"initial_margin_short": 5.0, "lot_size": 1.0}
    for quantity_min, lots in ((10.0, 20), (25.0, 0)):
        trader = await Trader.opened(client, 100.0, {}, quantity_min=quantity_min, **given)
        assert list((await trader.size(validate_only=True)).sizes.lots) == [lots]


@pytest.mark.parametrize("smallest", [{"quantity_min": 10.0}, {"notional_min": 500.0}])
@pytest.mark.parametrize(("held", "traded"), [(3.4, -3), (-3.4, 3), (3.0, -3), (12.4, -12)])
async def test_what_is_too_small_to_order_can_be_closed(
    client: Client, smallest: dict[str, float], held: float, traded: int
) -> None:
    """As far as whole units go: 0.4 of one is left."""
    columns: dict[str, Any] = {"volatility": [], "average_daily_volume": [], "sector": []}
    columns |= {name: [value] for name, value in smallest.items()}
    market = await client.put_market(instrument_ids=["SMALL"], price=[100.0], **columns)
    portfolio_id = await client.put_portfolio(1e5, {"SMALL": held})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=1.0, allow_short=True)
    edge = {"side": [1], "win_probability": [0.3], "payoff": [1.0]}
    request = sizing_request(
        portfolio_id, ["SMALL"], edge, market_snapshot_id=market, validate_only=True
    )
    sizes = (await client.size(request)).sizes
    assert list(sizes.trade_lots) == [traded]
    is_part_left = held + traded != 0.0
    assert sizes.binding[0] == (types_pb2.LIMIT_KIND_LOT_SIZE if is_part_left else 0)
    assert sizes.binding_bound[0] == (1.0 if is_part_left else 0.0)
