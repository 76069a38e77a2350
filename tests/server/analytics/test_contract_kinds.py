"""Decisions on contracts of every kind, in five currencies, against what the books came to.

Equity of the portfolio, which fills and snapshots make, is the oracle: what decided weights are
told to have earned is what equity grew by where all is filled at the prices decided on, and less
the implementation shortfall where it is not.
"""

from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pytest
from positionsizing.v1 import analytics_service_pb2 as pb
from positionsizing.v1 import (
    corporate_action_pb2,
    market_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
)

from tests.server.support.service_client import Client, new_id, sizing_request

CASH, FUTURE, INVERSE = 1, 2, 3
BEFORE = {"EUR": 1.10, "GBP": 1.30, "BTC": 60_000.0, "JPY": 1 / 150}
AFTER = {"EUR": 1.12, "GBP": 1.27, "BTC": 63_000.0, "JPY": 1 / 147}
ROWS = {
    # name: currency, kind, multiplier, price, later price, price of the underlying, later
    "share": ("USD", CASH, 1.0, 100.0, 103.0, 0.0, 0.0),
    "euro share": ("EUR", CASH, 1.0, 50.0, 49.0, 0.0, 0.0),
    "pence share": ("GBX", CASH, 1.0, 200.0, 207.0, 0.0, 0.0),
    "index": ("USD", FUTURE, 5.0, 5_000.0, 4_950.0, 0.0, 0.0),
    "bund": ("EUR", FUTURE, 100.0, 130.0, 131.0, 0.0, 0.0),
    "yen": ("JPY", FUTURE, 1_000.0, 150.0, 147.5, 0.0, 0.0),
    "inverse": ("BTC", INVERSE, 10.0, 60_000.0, 63_300.0, 0.0, 0.0),
    "call": ("USD", CASH, 100.0, 5.0, 6.3, 100.0, 102.0),
}
NAMES = list(ROWS)
SIDES = [1, 1, 2, 1, 2, 1, 1, 1]
DELTA = 0.4


class Book:
    """A portfolio of its own universe, whose instruments have names of their own."""

    def __init__(self, client: Client) -> None:
        self.client, self.universe = client, new_id("universe")
        self.ids = [f"{name.replace(' ', '-')}-{self.universe}" for name in NAMES]

    async def put_market(self, later: bool, **changed: dict[str, float]) -> str:
        """Stores a snapshot; changed: columns by name of instrument."""
        rates = AFTER if later else BEFORE
        rows = [ROWS[name] for name in NAMES]
        is_option = [row[5] > 0.0 for row in rows]
        columns = {
            "price": [row[4 if later else 3] for row in rows],
            "multiplier": [row[2] for row in rows],
            "underlying_price": [row[6 if later else 5] for row in rows],
            "delta": [DELTA if option else 1.0 for option in is_option],
        }
        for column, values in changed.items():
            for name, value in values.items():
                columns[column][NAMES.index(name)] = value
        snapshot = market_service_pb2.MarketSnapshot(
            snapshot_id=new_id("snapshot"),
            universe_id=self.universe,
            instrument_ids=self.ids,
            currency=[row[0] for row in rows],
            contract_kind=[row[1] for row in rows],
            margin_rate_long=[1.0 if row[1] == CASH else 0.1 for row in rows],
            margin_rate_short=[1.0 if row[1] == CASH else 0.1 for row in rows],
            exchange_rates=[
                market_service_pb2.ExchangeRate(from_currency=code, to_currency="USD", rate=rate)
                for code, rate in rates.items()
            ],
            **columns,
        )
        snapshot.as_of_time.FromDatetime(datetime.now(UTC))
        await self.client.market.PutMarketSnapshot(
            market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot, confirm_prices=True)
        )
        return snapshot.snapshot_id

    async def open(self) -> None:
        """Makes the portfolio, with the first snapshot."""
        await self.put_market(later=False)
        self.portfolio_id = await self.client.put_portfolio(1e6, universe_id=self.universe)
        scope = portfolio_service_pb2.Scope(portfolio_id=self.portfolio_id)
        await self.client.set_limits(scope, weight_max=0.1, allow_short=True)

    async def decide(self) -> sizing_pb2.SizingDecision:
        """A decision at the newest snapshot."""
        edge = {"win_probability": [0.8] * 8, "payoff": [0.05] * 8, "loss_fraction": [0.05] * 8}
        return await self.client.size(
            sizing_request(self.portfolio_id, self.ids, {"side": SIDES, **edge})
        )

    async def settle(self, decision: sizing_pb2.SizingDecision, **given: list[float]) -> None:
        """Books fills of all instruments; what is not filled is released."""
        fills = sizing_service_pb2.Fills(instrument_ids=self.ids, **given)
        await self.client.sizing.SettleDecision(
            sizing_service_pb2.SettleDecisionRequest(
                request_id=str(uuid4()), decision_id=decision.decision_id, fills=fills, close=True
            )
        )

    async def analyze(self, **given: object) -> pb.AnalyzeDecisionsResponse:
        """The decisions so far."""
        request = pb.AnalyzeDecisionsRequest(portfolio_id=self.portfolio_id, **given)
        return await self.client.analytics.AnalyzeDecisions(request)


def told_growth(answer: pb.AnalyzeDecisionsResponse) -> float:
    """Log growth at the final lots."""
    return answer.stage_growth.start + sum(answer.stage_growth.steps)


PRICES = [ROWS[name][3] for name in NAMES]


async def test_decided_weights_have_earned_what_equity_grew_by(client: Client) -> None:
    book = Book(client)
    await book.open()
    first = await book.decide()
    await book.settle(first, lots=first.sizes.trade_lots, price=PRICES)
    await book.put_market(later=True)
    second = await book.decide()
    grew = second.summary.equity / first.summary.equity
    answer = await book.analyze(
        benchmark=pb.BenchmarkWeights(instrument_ids=book.ids, weights=[0.1] * 8),
        factors=pb.FactorExposures(
            factor_ids=book.ids[:1], instrument_ids=book.ids, exposures=[1.0] * 8
        ),
    )
    assert told_growth(answer) == pytest.approx(np.log(grew), abs=1e-12)
    assert answer.attribution.portfolio_return == pytest.approx(grew - 1.0, abs=1e-12)
    assert answer.factor_attribution.portfolio_return == pytest.approx(grew - 1.0, abs=1e-12)


async def test_what_fills_lose_is_what_equity_falls_short_of(client: Client) -> None:
    book = Book(client)
    await book.open()
    first = await book.decide()
    lots = [int(0.8 * count) for count in first.sizes.trade_lots]
    slip = [0.5, -0.2, 1.0, 2.0, 0.1, 0.5, 100.0, 0.1]
    price = [quote + more for quote, more in zip(PRICES, slip, strict=True)]
    await book.settle(first, lots=lots, price=price, fee=[10.0 + i for i in range(8)])
    last = await book.put_market(later=True)
    found = (await book.analyze(end_market_snapshot_id=last)).shortfall
    second = await book.decide()
    paper = first.summary.equity * np.expm1(told_growth(await book.analyze()))
    real = second.summary.equity - first.summary.equity
    slipped = {
        name: count * row[2] * (1 / 60_000 - 1 / 60_100 if row[1] == INVERSE else more)
        for (name, row), count, more in zip(ROWS.items(), lots, slip, strict=True)
    }
    before, after = ({"USD": 1.0, "GBX": r["GBP"] / 100, **r} for r in (BEFORE, AFTER))
    execution = sum(points * before[ROWS[name][0]] for name, points in slipped.items())
    # What a future gains since its fill is worth the later rate; its slippage counts at the fill's.
    moved = sum(
        points * (after[ROWS[name][0]] - before[ROWS[name][0]])
        for name, points in slipped.items()
        if ROWS[name][1] != CASH
    )
    assert found.execution == pytest.approx(execution, abs=1e-6)
    assert found.fees == pytest.approx(108.0)
    total = found.execution + found.opportunity + found.fees
    assert total + moved == pytest.approx(paper - real, abs=1e-6)
    assert found.notional == pytest.approx(sum(map(abs, first.sizes.notional)))


async def apply_actions(book: Book) -> None:
    """A split of the share 4 for 1, and multipliers of 1 of index and inverse future."""
    for name, change in (
        ("share", {"split": corporate_action_pb2.Split(new_units=4, old_units=1)}),
        ("index", {"multiplier_change": corporate_action_pb2.MultiplierChange(multiplier=1)}),
        ("inverse", {"multiplier_change": corporate_action_pb2.MultiplierChange(multiplier=1)}),
    ):
        action = corporate_action_pb2.CorporateAction(
            instrument_id=book.ids[NAMES.index(name)], **change
        )
        await book.client.market.ApplyCorporateAction(
            market_service_pb2.ApplyCorporateActionRequest(
                request_id=str(uuid4()), action=action, reason="test"
            )
        )


async def test_a_split_and_another_multiplier_between_them_change_nothing(client: Client) -> None:
    book = Book(client)
    await book.open()
    first = await book.decide()
    await book.settle(first, lots=first.sizes.trade_lots, price=PRICES)
    await apply_actions(book)
    await book.put_market(
        later=True, price={"share": 103.0 / 4}, multiplier={"index": 1.0, "inverse": 1.0}
    )
    second = await book.decide()
    grew = second.summary.equity / first.summary.equity
    assert told_growth(await book.analyze()) == pytest.approx(np.log(grew), abs=1e-12)


async def test_fills_after_a_split_and_another_multiplier_are_in_new_units(client: Client) -> None:
    """A share bought at a quarter of 102, an index at 5,001, an inverse future at 60,100."""
    book = Book(client)
    await book.open()
    first = await book.decide()
    await apply_actions(book)
    open_lots = first.sizes.trade_lots
    lots = [
        count * {"share": 4, "index": 5, "inverse": 10}.get(name, 1)
        for name, count in zip(NAMES, open_lots, strict=True)
    ]
    dearer = {"share": 102.0 / 4, "index": 5_001.0, "inverse": 60_100.0}
    price = [dearer.get(name, quote) for name, quote in zip(NAMES, PRICES, strict=True)]
    await book.settle(first, lots=lots, price=price)
    last = await book.put_market(
        later=True, price={"share": 103.0 / 4}, multiplier={"index": 1.0, "inverse": 1.0}
    )
    found = (await book.analyze(end_market_snapshot_id=last)).shortfall
    by_hand = 2.0 * open_lots[0] + 5.0 * open_lots[3]
    by_hand += open_lots[6] * 10.0 * (1 / 60_000 - 1 / 60_100) * 60_000
    assert found.execution == pytest.approx(by_hand, abs=1e-6)
    assert found.opportunity == pytest.approx(0.0, abs=1e-6)
