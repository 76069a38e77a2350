"""A client generated from the first contract works with the service of today.

Its messages come from `protos/baseline.binpb`, the contract that `buf breaking` compares with, in a
pool of descriptors of their own: no code generated since takes part.
"""

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass
from positionsizing.v1 import sizing_service_pb2

from server.app import App
from tests.server.support.service_client import Client

BASELINE = Path(__file__).parents[3] / "protos" / "baseline.binpb"
PACKAGE = "positionsizing.v1"


@dataclass(frozen=True)
class OldClient:
    """Calls methods by their names of then, with messages of then."""

    channel: grpc.aio.Channel
    pool: descriptor_pool.DescriptorPool

    async def call(self, service: str, method: str, **fields: Any) -> Any:
        """The answer, as an old client reads it."""
        described = self.pool.FindServiceByName(f"{PACKAGE}.{service}").methods_by_name[method]
        request = GetMessageClass(described.input_type)(**fields)
        answer = GetMessageClass(described.output_type)
        sent = self.channel.unary_unary(
            f"/{PACKAGE}.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return await sent(request, timeout=60)


@pytest.fixture
def old(client: Client, app: App) -> OldClient:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(BASELINE.read_bytes()).file:
        pool.Add(file)
    return OldClient(client.channel, pool)


async def sized(old: OldClient, *, portfolio_id: str) -> Any:
    """A market, a portfolio, limits and a decision, as the first contract told callers to."""
    now = {"seconds": int(time.time())}
    snapshot = {
        "snapshot_id": f"{portfolio_id}-close",
        "as_of_time": now,
        "instrument_ids": ["OLD0", "OLD1"],
        "price": [10.0, 25.0],
        "volatility": [0.2, 0.3],
    }
    await old.call("MarketService", "PutMarketSnapshot", snapshot=snapshot)
    portfolio = {"portfolio_id": portfolio_id, "base_currency": "USD", "cash": 100_000.0}
    await old.call("PortfolioService", "CreatePortfolio", portfolio=portfolio)
    await old.call(
        "PortfolioService",
        "SetLimits",
        scope={"portfolio_id": portfolio_id},
        limits={"weight_max": 0.1, "leverage_max": 1.0},
    )
    answer = await old.call(
        "SizingService",
        "SizePositions",
        request_id=str(uuid.uuid4()),
        portfolio_id=portfolio_id,
        market_snapshot_id=snapshot["snapshot_id"],
        signals={
            "instrument_ids": ["OLD0", "OLD1"],
            "side": ["SIDE_LONG", "SIDE_LONG"],
            "win_probability": [0.6, 0.51],
            "payoff": [1.0, 1.0],
            "loss_fraction": [1.0, 1.0],
        },
    )
    return answer.decision


async def test_a_client_of_the_first_contract_sizes_and_settles(
    old: OldClient, client: Client
) -> None:
    portfolio_id = f"old-{uuid.uuid4()}"
    decision = await sized(old, portfolio_id=portfolio_id)
    # Half Kelly of an even bet, c (2 p - 1): 0.1 (the limit as well) and 0.01.
    assert list(decision.sizes.weight) == pytest.approx([0.1, 0.01])
    assert list(decision.sizes.lots) == [1000, 40]
    assert sum(stage.weight[0] for stage in decision.waterfall.stages[:1]) == pytest.approx(0.2)
    read = await old.call("SizingService", "GetDecision", decision_id=decision.decision_id)
    assert read.decision == decision
    today = await client.sizing.GetDecision(
        sizing_service_pb2.GetDecisionRequest(decision_id=decision.decision_id)
    )
    assert list(today.decision.sizes.lots) == [1000, 40]
    replayed = await old.call("SizingService", "ReplayDecision", decision_id=decision.decision_id)
    assert replayed.lots_equal
    assert list(replayed.replayed.sizes.lots) == [1000, 40]
    await old.call(
        "SizingService",
        "SettleDecision",
        request_id=str(uuid.uuid4()),
        decision_id=decision.decision_id,
        fills={"instrument_ids": ["OLD0"], "lots": [1000], "price": [10.0]},
    )
    held = await old.call("PortfolioService", "GetPortfolio", portfolio_id=portfolio_id)
    assert dict(
        zip(held.portfolio.holdings.instrument_ids, held.portfolio.holdings.quantity, strict=True)
    ) == {"OLD0": 1000.0}
    assert held.portfolio.cash == pytest.approx(90_000.0)


async def test_what_an_old_client_is_refused_names_code_and_reason(old: OldClient) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await old.call("PortfolioService", "GetPortfolio", portfolio_id="not-there")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_every_method_of_the_first_contract_is_still_there(old: OldClient) -> None:
    files = descriptor_pb2.FileDescriptorSet.FromString(BASELINE.read_bytes()).file
    methods = [(s.name, m.name) for file in files for s in file.service for m in s.method]
    assert len(methods) > 20
    for service, method in methods:
        try:
            await old.call(service, method)
        except grpc.aio.AioRpcError as error:
            assert error.code() is not grpc.StatusCode.UNIMPLEMENTED, (service, method)
