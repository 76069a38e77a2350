"""Portfolios that share limits and are sized in one call: never beyond, and nothing withheld."""

from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from positionsizing.v1 import market_service_pb2, portfolio_service_pb2, sizing_service_pb2

from tests.server.support.service_client import (
    INSTRUMENTS,
    PRICES,
    Client,
    new_id,
    sizing_request,
    snapshot_message,
)

PRICE = dict(zip(INSTRUMENTS, PRICES, strict=True))


def scope(**given: str) -> portfolio_service_pb2.Scope:
    return portfolio_service_pb2.Scope(**given)


@dataclass
class Book:
    """Lots expected of each instrument, and how many are reserved to be bought and sold."""

    expected: dict[str, float]
    buys: dict[str, float]
    sells: dict[str, float]

    @classmethod
    async def read(cls, client: Client, portfolio_id: str, held: dict[str, float]) -> "Book":
        answer = await client.portfolio.ListReservations(
            portfolio_service_pb2.ListReservationsRequest(portfolio_id=portfolio_id, page_size=1000)
        )
        book = cls(
            {name: held.get(name, 0.0) for name in INSTRUMENTS},
            dict.fromkeys(INSTRUMENTS, 0.0),
            dict.fromkeys(INSTRUMENTS, 0.0),
        )
        for item in answer.reservations:
            for name, lots in zip(item.instrument_ids, item.trade_lots_open, strict=True):
                (book.buys if lots > 0 else book.sells)[name] += abs(lots)
                book.expected[name] += lots
        return book

    def worst(self, name: str) -> float:
        """Largest absolute notional, whichever reserved trades fill."""
        expected = self.expected[name]
        return PRICE[name] * max(abs(expected + self.sells[name]), abs(expected - self.buys[name]))

    def gross(self) -> float:
        return sum(self.worst(name) for name in INSTRUMENTS)

    def filled(self, decision: Any) -> "Book":
        """The book once the decision is filled, the trades reserved before still open."""
        sizes = decision.sizes
        return replace(
            self,
            expected=self.expected | dict(zip(sizes.instrument_ids, sizes.quantity, strict=True)),
        )


async def size_all(client: Client, requests: list[Any]) -> list[Any]:
    request = sizing_service_pb2.SizePortfoliosRequest(request_id=str(uuid4()), requests=requests)
    return list((await client.sizing.SizePortfolios(request)).decisions)


@pytest.mark.parametrize("seed", range(4))
async def test_portfolios_together_never_use_more_than_they_share(
    client: Client, seed: int
) -> None:
    rng = np.random.default_rng([61, seed])
    await client.put_market()
    group = new_id("group")
    books: dict[str, dict[str, float]] = {}
    for _ in range(3):
        names = rng.choice(INSTRUMENTS, 3, replace=False).tolist()
        held = {name: float(np.round(rng.normal(0.0, 60_000.0) / PRICE[name])) for name in names}
        books[await client.put_portfolio(1e6, held, group_id=group)] = held
    gross_max, instrument_max = rng.uniform(2e5, 1e6), rng.uniform(5e4, 2e5)
    shared = portfolio_service_pb2.SharedLimits(
        gross_notional_max=gross_max, instrument_notional_max=instrument_max
    )
    await client.set_limits(
        scope(group_id=group), weight_max=0.3, allow_short=True, allow_flip=True, shared=shared
    )

    traded = 0
    for _ in range(5):
        requests = []
        before = [await Book.read(client, name, held) for name, held in books.items()]
        for name in books:
            chosen = rng.choice(INSTRUMENTS, 4, replace=False).tolist()
            lines = {
                "side": rng.integers(1, 3, 4),
                "win_probability": rng.uniform(0.5, 0.65, 4),
                "payoff": [1.0] * 4,
            }
            requests.append(sizing_request(name, chosen, lines, request_id=""))
        decisions = await size_all(client, requests)
        after = [book.filled(one) for book, one in zip(before, decisions, strict=True)]
        pairs = list(zip(before, after, strict=True))
        # What one of them sells is room for it, and for the others once it is filled.
        used = sum(max(old.gross(), new.gross()) for old, new in pairs)
        assert used <= max(gross_max, sum(old.gross() for old, _ in pairs)) * (1.0 + 1e-9)
        for name in INSTRUMENTS:
            used = sum(max(old.worst(name), new.worst(name)) for old, new in pairs)
            least = sum(old.worst(name) for old, _ in pairs)
            assert used <= max(instrument_max, least) * (1.0 + 1e-9), name
        traded += any(any(one.sizes.trade_lots) for one in decisions)
    assert traded


@pytest.mark.parametrize("bounds", [{"gross_notional_max": 3e7}, {"instrument_notional_max": 3e7}])
async def test_a_bound_that_is_far_away_changes_and_explains_nothing(
    client: Client, bounds: dict[str, float]
) -> None:
    """One call for two portfolios has what a call for each has: sizes, what bound them, status."""
    await client.put_market()
    group = new_id("group")
    names = [await client.put_portfolio(cash, group_id=group) for cash in (1_000_777.0, 999_003.0)]
    shared = portfolio_service_pb2.SharedLimits(**bounds)
    await client.set_limits(scope(group_id=group), weight_max=0.3, leverage_max=0.5, shared=shared)
    signals = {"win_probability": [0.7, 0.517], "payoff": [1.0, 1.0]}
    requests = [sizing_request(name, ["I0", "I3"], signals, request_id="") for name in names]
    alone = [
        await client.size(sizing_request(name, ["I0", "I3"], signals, validate_only=True))
        for name in names
    ]
    together = await size_all(client, requests)
    for by_itself, one in zip(alone, together, strict=True):
        assert one.sizes == by_itself.sizes
        assert one.waterfall == by_itself.waterfall
        assert one.status == by_itself.status


async def test_a_sale_that_is_reserved_takes_nothing_away_where_there_is_room(
    client: Client,
) -> None:
    """Far below what is shared, a portfolio gets in one call for two what it gets by itself."""
    await client.put_market()
    group = new_id("group")
    first, second = [
        await client.put_portfolio(9e5, {"I3": 1000.0}, group_id=group) for _ in range(2)
    ]
    shared = portfolio_service_pb2.SharedLimits(gross_notional_max=5e6)
    await client.set_limits(scope(group_id=group), weight_max=0.5, shared=shared)
    smaller = {"win_probability": [0.525], "payoff": [1.0]}  # half of 5 %: 250 of 1,000
    sold = await client.size(sizing_request(first, ["I3"], smaller))
    assert sold.sizes.trade_lots[0] == -750
    larger = {"win_probability": [0.7], "payoff": [1.0]}
    alone = await client.size(sizing_request(first, ["I3"], larger, validate_only=True))
    assert alone.sizes.trade_lots[0] == 1750
    requests = [sizing_request(name, ["I3"], larger, request_id="") for name in (first, second)]
    together = await size_all(client, requests)
    assert [decision.sizes.trade_lots[0] for decision in together] == [1750, 1000]


async def test_portfolios_in_dollars_and_euros_share_what_is_stated_in_euros(
    client: Client,
) -> None:
    """1 EUR = 1.25 USD: 100,000 and 60,000 euros of what both may have of each instrument."""
    names, group = ["A", "B"], new_id("group")
    rate = market_service_pb2.ExchangeRate(from_currency="EUR", to_currency="USD", rate=1.25)
    columns: dict[str, Any] = {"volatility": [], "average_daily_volume": [], "sector": []}
    snapshot = snapshot_message(
        instrument_ids=names,
        price=[100.0, 50.0],
        currency=["USD", "EUR"],
        exchange_rates=[rate],
        **columns,
    )
    await client.market.PutMarketSnapshot(
        market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot, confirm_prices=True)
    )
    members = {new_id("shared"): base for base in ("USD", "EUR")}
    for portfolio_id, base in members.items():
        portfolio = portfolio_service_pb2.Portfolio(
            portfolio_id=portfolio_id, base_currency=base, cash=2e5, group_id=group
        )
        await client.portfolio.CreatePortfolio(
            portfolio_service_pb2.CreatePortfolioRequest(portfolio=portfolio)
        )
    shared = portfolio_service_pb2.SharedLimits(
        gross_notional_max=1e5, instrument_notional_max=6e4, currency="EUR"
    )
    await client.set_limits(scope(group_id=group), weight_max=1.0, shared=shared)
    wanted = {"side": [1, 1], "win_probability": [0.9, 0.9], "payoff": [1.0, 1.0]}
    decisions = await size_all(
        client,
        [
            sizing_request(
                name, names, wanted, request_id="", market_snapshot_id=snapshot.snapshot_id
            )
            for name in members
        ],
    )
    euros = np.array([1.0 / 1.25, 1.0])[:, None] * [one.sizes.notional for one in decisions]
    assert euros.sum() == pytest.approx(1e5, abs=300.0)  # but for lots of up to 80 euros
    assert (euros.sum(axis=0) <= 6e4 * (1.0 + 1e-9)).all()
    assert euros.sum() <= 1e5 * (1.0 + 1e-9)
    assert (euros > 0.0).all()
    for decision in decisions:
        request = sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
        assert (await client.sizing.ReplayDecision(request)).lots_equal
