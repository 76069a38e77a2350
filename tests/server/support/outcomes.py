"""A book whose decisions have outcomes, and the look that finds them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from positionsizing.v1 import events_pb2, market_service_pb2, portfolio_service_pb2, sizing_pb2
from positionsizing.v1 import sizing_service_pb2 as sizing

from server.analytics.sizing_analytics import SizingAnalytics
from server.app import App
from server.portfolios.state import States
from storage.postgres.pool import Database
from tests.server.support.service_client import Client, new_id, sizing_request

NAMES = ["X", "Y"]
CLAIMS = [0.6, 0.52]


@dataclass
class Desk:
    """A server that does not look by itself: only the test's looks count."""

    client: Client
    app: App

    async def look(self, interval: timedelta = timedelta(0)) -> int:
        """What the maintenance of a server does; how many events."""
        database = await self._open()
        try:
            watch = SizingAnalytics(database, States(database, 60.0))
            return await watch.look(self.app.config.tenant_id, interval)
        finally:
            await database.aclose()

    async def payloads(self, topic: str, portfolio_id: str = "") -> list[bytes]:
        """Events of a topic in a portfolio's stream, "" for the tenant's, in their order."""
        database = await self._open()
        tenant_id = self.app.config.tenant_id
        async with database.connection(tenant_id, deadline_s=60.0) as connection:
            rows = await connection.fetch(
                """SELECT payload FROM outbox WHERE topic = $1 AND portfolio_id = $2
                ORDER BY portfolio_sequence""",
                topic,
                portfolio_id,
            )
        await database.aclose()
        return [row["payload"] for row in rows]

    async def told(self, portfolio_id: str) -> list[events_pb2.SizingAnalyzed]:
        """What was told of the analysis of a portfolio."""
        found = await self.payloads("sizing-analytics", portfolio_id)
        return [events_pb2.SizingAnalyzed.FromString(item) for item in found]

    async def _open(self) -> Database:
        assert self.app.config.dsn is not None
        return await Database.open(self.app.config.dsn.get_secret_value())


@dataclass
class Book:
    """A portfolio that bets on X and Y, each decision on a snapshot of its own."""

    client: Client
    id: str = ""
    claims: list[float] = field(default_factory=lambda: list(CLAIMS))
    prices: list[float] = field(default_factory=lambda: [100.0, 50.0])
    snapshots: list[str] = field(default_factory=list)

    async def open(self) -> "Book":
        """1,000,000 in cash, at most a fifth in each."""
        self.id = await self.client.put_portfolio(1e6)
        scope = portfolio_service_pb2.Scope(portfolio_id=self.id)
        await self.client.set_limits(scope, weight_max=0.2, leverage_max=1.0)
        await self.market([0, 0])
        return self

    async def market(self, moves: list[int]) -> None:
        """Each price goes up by a hundredth (1), down by one (-1), or stays."""
        self.prices = [price * 1.01**move for price, move in zip(self.prices, moves, strict=True)]
        snapshot = market_service_pb2.MarketSnapshot(
            snapshot_id=new_id("snapshot"), instrument_ids=NAMES, price=self.prices
        )
        snapshot.as_of_time.FromDatetime(datetime.now(UTC))
        request = market_service_pb2.PutMarketSnapshotRequest(
            snapshot=snapshot, confirm_prices=True
        )
        await self.client.market.PutMarketSnapshot(request)
        self.snapshots.append(snapshot.snapshot_id)

    async def decide(self, strategy_id: str = "", **given: Any) -> sizing_pb2.SizingDecision:
        """On the newest prices, filled at them."""
        columns = {"side": [1, 1], "win_probability": self.claims, "payoff": [1.0, 1.0]}
        request = sizing_request(
            self.id,
            NAMES,
            columns,
            market_snapshot_id=self.snapshots[-1],
            strategy_id=strategy_id,
            **given,
        )
        decision = await self.client.size(request)
        traded = zip(NAMES, decision.sizes.trade_lots, self.prices, strict=True)
        fills = sizing.Fills()
        for name, lots, price in traded:
            if lots:
                fills.instrument_ids.append(name)
                fills.lots.append(lots)
                fills.price.append(price)
        if fills.instrument_ids and not request.validate_only:
            settled = sizing.SettleDecisionRequest(
                request_id=str(uuid4()), decision_id=decision.decision_id, fills=fills, close=True
            )
            await self.client.sizing.SettleDecision(settled)
        return decision

    async def days(self, moves: list[list[int]], strategy_id: str = "") -> None:
        """A decision before each move of the prices."""
        for each in moves:
            await self.decide(strategy_id)
            await self.market(each)
