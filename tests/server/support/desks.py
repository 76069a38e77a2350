"""A desk: a portfolio that is priced at market snapshots of a universe of its own."""

from typing import Any
from uuid import uuid4

from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import market_service_pb2 as market_pb
from positionsizing.v1 import portfolio_service_pb2 as pb
from positionsizing.v1 import sizing_pb2, types_pb2
from positionsizing.v1 import sizing_service_pb2 as sizing

from tests.server.support.service_client import (
    Client,
    all_that_may_be_had,
    new_id,
    snapshot_message,
)

LONG = types_pb2.SIDE_LONG


class Desk:
    """A portfolio, its universe, and the instruments that its feed has."""

    def __init__(self, client: Client, *names: str, universe_id: str | None = None) -> None:
        self.client, self.id = client, new_id("desk")
        self.universe_id = new_id("universe") if universe_id is None else universe_id
        self.names = names or (new_id("N"),)
        self.scope = pb.Scope(portfolio_id=self.id)

    @property
    def name(self) -> str:
        """Its first instrument."""
        return self.names[0]

    async def open(
        self, *price: float, cash: float = 50_000.0, held: float = 500.0, **given: Any
    ) -> "Desk":
        """At 100: half of 100,000 in cash, 500 units of its first instrument."""
        await self.tell(*(price or (100.0,)))
        portfolio = {
            name: given.pop(name)
            for name in ("group_id", "base_currency", "universe_id", "cash_balances")
            if name in given
        }
        fields = {"base_currency": "USD", "universe_id": self.universe_id, **portfolio}
        book = pb.Portfolio(portfolio_id=self.id, cash=cash, **fields)
        if held:
            holdings = pb.Holdings(
                instrument_ids=[self.name], quantity=[held], average_price=[(price or (100.0,))[0]]
            )
            book.holdings.CopyFrom(holdings)
        await self.client.portfolio.CreatePortfolio(pb.CreatePortfolioRequest(portfolio=book))
        await self.client.set_limits(self.scope, **{"weight_max": 0.9, **given})
        return self

    async def tell(
        self, *price: float, confirm: bool = True, time: Timestamp | None = None, **columns: Any
    ) -> market_pb.PutMarketSnapshotResponse:
        """A snapshot of its feed."""
        fields: dict[str, Any] = {"volatility": [], "average_daily_volume": [], "sector": []}
        fields |= {"universe_id": self.universe_id, **columns}
        if time is not None:
            fields["as_of_time"] = time
        snapshot = snapshot_message(instrument_ids=self.names, price=price, **fields)
        self.snapshot_id = snapshot.snapshot_id
        return await self.client.market.PutMarketSnapshot(
            market_pb.PutMarketSnapshotRequest(snapshot=snapshot, confirm_prices=confirm)
        )

    def request(self, name: str = "", **given: Any) -> sizing.SizePositionsRequest:
        """A request for all that may be had of an instrument, which names no snapshot."""
        signals = all_that_may_be_had(name or self.name, LONG)
        given.setdefault("request_id", str(uuid4()))
        return sizing.SizePositionsRequest(portfolio_id=self.id, signals=signals, **given)

    async def size(self, name: str = "", **given: Any) -> sizing_pb2.SizingDecision:
        """The decision on it."""
        return await self.client.size(self.request(name, **given))

    async def look(self) -> pb.GetPortfolioResponse:
        """The portfolio as it is."""
        request = pb.GetPortfolioRequest(portfolio_id=self.id)
        return await self.client.portfolio.GetPortfolio(request)

    async def trading_state(self) -> int:
        """Of the portfolio itself."""
        request = pb.GetTradingStateRequest(scope=self.scope)
        return (await self.client.portfolio.GetTradingState(request)).trading_state

    async def breaches(self, **given: Any) -> pb.GetBreachesResponse:
        """What its book is beyond."""
        request = pb.GetBreachesRequest(portfolio_id=self.id, **given)
        return await self.client.portfolio.GetBreaches(request)

    async def move(self, universe_id: str, reason: str = "another feed") -> pb.SetUniverseResponse:
        """Prices it at another universe."""
        request = pb.SetUniverseRequest(
            portfolio_id=self.id, universe_id=universe_id, reason=reason
        )
        return await self.client.portfolio.SetUniverse(request)

    async def fill(
        self, decision: sizing_pb2.SizingDecision, lots: int, price: float, **given: Any
    ) -> sizing.SettleDecisionResponse:
        """Reports a fill of its first instrument."""
        fills = sizing.Fills(instrument_ids=[self.name], lots=[lots], price=[price])
        request = sizing.SettleDecisionRequest(
            request_id=str(uuid4()), decision_id=decision.decision_id, fills=fills, **given
        )
        return await self.client.sizing.SettleDecision(request)
