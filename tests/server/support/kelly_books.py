"""Books whose full Kelly stakes a test says, on instruments of its own."""

from typing import Any
from uuid import uuid4

import numpy as np
from positionsizing.v1 import (
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.support.service_client import Client, new_id, sizing_request

METHODS = {"closed": types_pb2.SIZING_METHOD_CLOSED_FORM, "joint": types_pb2.SIZING_METHOD_JOINT}
VARIANCE = 0.0025
WIDE = {"weight_max": 100.0, "leverage_max": 100.0, "allow_short": True, "allow_flip": True}
"""Limits of a group that bind no book: its members' own do."""


class KellyBook:
    """A portfolio at full Kelly on instruments of its own, which are not correlated."""

    def __init__(self, client: Client, method: str, size: int = 3) -> None:
        self.client, self.method = client, METHODS[method]
        self.names = tuple(new_id(f"X{i}") for i in range(size))
        self.portfolio_id = self.snapshot_id = self.matrix_id = ""
        self.group_id = new_id("group")

    async def opened(self, cash: float, held: list[float], **market: Any) -> "KellyBook":
        """A market at prices of 100, and holdings in units."""
        given = {"price": [100.0] * len(self.names), "volatility": [], "sector": []}
        given = {"average_daily_volume": [], **given, **market}
        self.snapshot_id = await self.client.put_market(instrument_ids=self.names, **given)
        covariance = market_service_pb2.Matrix(
            matrix_id=new_id("matrix"),
            kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
            instrument_ids=self.names,
        )
        covariance.as_of_time.GetCurrentTime()
        covariance.dense.values.extend((VARIANCE * np.eye(len(self.names))).ravel().tolist())
        await self.client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=covariance))
        self.matrix_id = covariance.matrix_id
        holdings = {
            name: units for name, units in zip(self.names, held, strict=False) if units != 0.0
        }
        self.portfolio_id = await self.client.put_portfolio(cash, holdings, group_id=self.group_id)
        return await self.parametrised()

    async def parametrised(self, **given: Any) -> "KellyBook":
        parameters = parameter_service_pb2.SizingParameters(kelly_fraction=1.0, **given)
        await self.client.parameter.SetParameters(
            parameter_service_pb2.SetParametersRequest(
                portfolio_id=self.portfolio_id, parameters=parameters
            )
        )
        return self

    async def limited(self, **limits: Any) -> "KellyBook":
        scope = portfolio_service_pb2.Scope(portfolio_id=self.portfolio_id)
        await self.client.set_limits(scope, **limits)
        return self

    async def shared(self, **bounds: Any) -> "KellyBook":
        """Bounds on all members of its group together, of which it is the only one."""
        scope = portfolio_service_pb2.Scope(group_id=self.group_id)
        shared = portfolio_service_pb2.SharedLimits(**bounds)
        await self.client.set_limits(scope, shared=shared, **WIDE)
        return self

    async def size(self, *stakes: float, first: int = 0, **given: Any) -> sizing_pb2.SizingDecision:
        """Signals whose full Kelly stakes are these, signed, of the instruments from `first` on."""
        edges = {
            "side": [1 if stake >= 0.0 else 2 for stake in stakes],
            "win_probability": [],
            "payoff": [],
            "expected_return": [VARIANCE * abs(stake) for stake in stakes],
            "volatility": [VARIANCE**0.5] * len(stakes),
        }
        request = sizing_request(
            self.portfolio_id,
            self.names[first : first + len(stakes)],
            edges,
            method=self.method,
            market_snapshot_id=self.snapshot_id,
            covariance_matrix_id=self.matrix_id,
            **given,
        )
        return await self.client.size(request)

    async def fill(self, decision: sizing_pb2.SizingDecision, **given: Any) -> None:
        """All trades, at the market's price."""
        traded = [i for i, lots in enumerate(decision.sizes.trade_lots) if lots]
        fills = sizing_service_pb2.Fills(
            instrument_ids=[decision.sizes.instrument_ids[i] for i in traded],
            lots=[decision.sizes.trade_lots[i] for i in traded],
            price=[100.0] * len(traded),
            **given,
        )
        await self.client.sizing.SettleDecision(
            sizing_service_pb2.SettleDecisionRequest(
                request_id=str(uuid4()), decision_id=decision.decision_id, fills=fills
            )
        )

    async def breaches(self) -> list[tuple[int, str, float, float]]:
        """As GetBreaches tells them."""
        found = await self.client.portfolio.GetBreaches(
            portfolio_service_pb2.GetBreachesRequest(portfolio_id=self.portfolio_id)
        )
        return sorted((b.kind, b.limit, b.bound, b.value) for b in found.breaches)
