"""Random requests on portfolios whose limits, parameters and prices go on changing."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.random import Generator
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_service_pb2,
)

from tests.server.support.service_client import Client, new_id, sizing_request

NAMES = [f"R{i}" for i in range(12)]
OPEN = 8
SECTORS = ("A", "B", "C")


@dataclass
class World:
    """What the requests of one run are made against."""

    client: Client
    rng: Generator
    market: str = ""
    scenarios: str = ""
    price: dict[str, float] = field(default_factory=dict)
    portfolios: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    traded: int = 0

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    async def new_market(self) -> None:
        """Prices move; lots, volumes and stops change with them."""
        rng, n = self.rng, len(NAMES)
        price = 50.0 * np.exp(rng.normal(0.0, 0.3, n))
        snapshot = market_service_pb2.MarketSnapshot(
            snapshot_id=new_id("snapshot"),
            instrument_ids=NAMES,
            price=price,
            lot_size=rng.choice([1.0, 1.0, 100.0, 0.1, 1e-6], n),
            volatility=rng.uniform(0.05, 0.8, n),
            average_daily_volume=np.round(10.0 ** rng.uniform(2.0, 6.0, n)),
            sector=rng.choice(SECTORS, n),
            stop_price=np.where(rng.random(n) < 0.3, 0.9 * price, 0.0),
        )
        snapshot.as_of_time.FromDatetime(datetime.now(UTC))
        request = market_service_pb2.PutMarketSnapshotRequest(
            snapshot=snapshot, confirm_prices=True
        )
        await self.client.market.PutMarketSnapshot(request)
        self.market = snapshot.snapshot_id
        self.price = dict(zip(NAMES, price.tolist(), strict=True))

    async def new_scenarios(self) -> None:
        values = 0.02 * self.rng.standard_t(4, (60, len(NAMES))) + 0.003
        matrix = market_service_pb2.Matrix(
            matrix_id=new_id("scenarios"),
            kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
            instrument_ids=NAMES,
            dense=market_service_pb2.DenseMatrix(values=np.maximum(values, -0.9).ravel()),
        )
        matrix.as_of_time.FromDatetime(datetime.now(UTC))
        await self.client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
        self.scenarios = matrix.matrix_id

    async def new_portfolio(self, group: str) -> None:
        held = {
            name: round(float(self.rng.normal(0.0, 1000.0)), 2)
            for name in self.rng.choice(NAMES, 3, replace=False)
        }
        portfolio_id = await self.client.put_portfolio(1e6, held, group_id=group)
        self.portfolios.append(portfolio_id)
        await self.new_limits(portfolio_id)

    async def new_limits(self, portfolio_id: str) -> None:
        scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
        await self.client.set_limits(scope, **self.limits())

    def limits(self) -> dict[str, Any]:
        rng = self.rng
        given: dict[str, Any] = {
            "weight_max": rng.uniform(0.05, 0.5),
            "leverage_max": rng.uniform(0.5, 3.0),
            "allow_short": self.chance(0.7),
            "allow_flip": self.chance(0.5),
            "fee_rate": rng.uniform(0.0, 0.002),
        }
        maybe: dict[str, Any] = {
            "turnover_max": rng.uniform(0.1, 1.0),
            "adv_trade_max": rng.uniform(0.01, 0.5),
            "trade_notional_min": rng.uniform(1.0, 5_000.0),
            "cash_buffer": rng.uniform(0.0, 0.3),
            "net_weight_max": rng.uniform(0.1, 1.0),
            "restricted_instrument_ids": [str(rng.choice(NAMES))],
            "groups": [
                limits_pb2.GroupLimit(name="g", sector="A", gross_weight_max=rng.uniform(0.1, 1.0))
            ],
        }
        return given | {name: value for name, value in maybe.items() if self.chance(0.3)}

    async def new_parameters(self, portfolio_id: str) -> None:
        rng = self.rng
        parameters = parameter_service_pb2.SizingParameters(
            kelly_fraction=rng.uniform(0.1, 1.0),
            confidence_shrinkage=int(rng.integers(1, 4)),  # type: ignore[arg-type]
            cost_rate=rng.uniform(0.0, 0.002),
            risk_free_rate=rng.uniform(0.0, 0.0005),
            volatility_target=rng.uniform(0.05, 0.5) if self.chance(0.3) else None,
            stop_risk_max=rng.uniform(0.001, 0.02) if self.chance(0.3) else None,
            risk_budget=rng.uniform(0.05, 0.5) if self.chance(0.3) else None,
        )
        request = parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id, parameters=parameters
        )
        await self.client.parameter.SetParameters(request)

    def request(self, portfolio_id: str) -> sizing_service_pb2.SizePositionsRequest:
        rng, n = self.rng, int(self.rng.integers(1, len(NAMES) + 1))
        length = rng.integers(5, 40, n)
        won = rng.random(length.sum()) < 0.55
        outcome = np.where(won, 0.03, -0.025) * rng.uniform(0.5, 1.5, length.sum())
        outcome[np.cumsum(length) - 1], outcome[np.cumsum(length) - 2] = 0.03, -0.03
        error = {
            "win_probability_error": rng.uniform(0.0, 0.1, n),
            "expected_return_error": rng.uniform(0.0, 0.01, n),
        }
        sure = {"confidence": rng.uniform(0.05, 1.0, n)}
        side = rng.integers(1, 3, n)
        signals = {
            "side": side,
            "edge_source": rng.integers(1, 5, n),
            "win_probability": rng.uniform(0.45, 0.7, n),
            "payoff": rng.uniform(0.8, 1.5, n),
            "loss_fraction": rng.uniform(0.2, 1.0, n),
            "expected_return": rng.normal(0.01, 0.02, n),
            "volatility": rng.uniform(0.05, 0.3, n),
            "history_outcome": outcome,
            "history_length": length,
        } | (error if self.chance(0.5) else sure if self.chance(0.5) else {})
        given: dict[str, Any] = {}
        if self.chance(0.2):
            given["limits"] = limits_pb2.Limits(weight_max=rng.uniform(0.01, 0.2))
        names = rng.choice(NAMES, n, replace=False).tolist()
        # The stops of the market are below the price: a short signal has its own, above it.
        price = np.array([self.price[name] for name in names])
        signals["stop_price"] = np.where(side == 2, 1.1 * price, 0.0)
        return sizing_request(
            portfolio_id,
            names,
            signals,
            market_snapshot_id=self.market,
            scenario_matrix_id=self.scenarios,
            include_sensitivities=self.chance(0.2),
            **given,
        )

    async def change_something(self) -> None:
        """One thing that the next decision depends on."""
        portfolio_id = str(self.rng.choice(self.portfolios))
        match int(self.rng.integers(0, 8)):
            case 0:
                await self.new_market()
            case 1:
                await self.new_scenarios()
            case 2:
                await self.new_limits(portfolio_id)
            case 3:
                await self.new_parameters(portfolio_id)

    async def decide(self) -> str:
        """The id of one more decision; of those that traded, the last few stay reserved."""
        decision = await self.client.size(self.request(str(self.rng.choice(self.portfolios))))
        if any(decision.sizes.trade_lots):
            self.traded += 1
            self.open.append(decision.decision_id)
        while len(self.open) > OPEN:
            settle = sizing_service_pb2.SettleDecisionRequest(
                request_id=str(uuid4()), decision_id=self.open.pop(0), close=True
            )
            await self.client.sizing.SettleDecision(settle)
        return decision.decision_id
