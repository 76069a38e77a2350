"""Random mutations of good requests: an answer or a typed error, never a surprise (R9)."""

import asyncio
import os
import random
from collections import Counter
from uuid import uuid4

import grpc
import pytest
from google.protobuf.message import Message
from mutations import EXPECTED, mutate, scrambled
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_service_pb2,
)
from service_client import Client, new_id, refusal_of, sizing_request, snapshot_message

FUZZ = int(os.environ.get("FUZZ", "3000"))
AT_ONCE = 32


def seeds(portfolio_id: str) -> list[tuple[str, Message]]:
    """Requests that work, by method."""
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    base = sizing_request(portfolio_id)
    base.limits.CopyFrom(
        limits_pb2.Limits(
            weight_max=0.05, groups=[limits_pb2.GroupLimit(name="g", sector="A")],
            instruments=[limits_pb2.InstrumentLimit(instrument_id="I0", quantity_max=10.0)],
        )
    )  # fmt: skip
    parts = [sizing_request(portfolio_id, request_id="")]
    variation = sizing_service_pb2.Variation(price_multiplier=1.1)
    return [
        ("SizePositions", base),
        ("SizePositions", base),
        ("SizePortfolios", sizing_service_pb2.SizePortfoliosRequest(requests=parts)),
        ("WhatIf", sizing_service_pb2.WhatIfRequest(base=base, variations=[variation])),
        ("ListDecisions", sizing_service_pb2.ListDecisionsRequest(portfolio_id=portfolio_id)),
        ("SetLimits", portfolio_service_pb2.SetLimitsRequest(scope=scope, limits=base.limits)),
        ("SetHoldings", portfolio_service_pb2.SetHoldingsRequest(
            portfolio_id=portfolio_id, cash=1e6,
            holdings=portfolio_service_pb2.Holdings(instrument_ids=["I0"], quantity=[5.0]))),
        ("SetParameters", parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id)),
        ("GetParameters", parameter_service_pb2.GetParametersRequest(portfolio_id=portfolio_id)),
        ("PutMarketSnapshot", market_service_pb2.PutMarketSnapshotRequest(
            snapshot=snapshot_message(snapshot_id=new_id("fuzzed")))),
    ]  # fmt: skip


def keep_to(request: Message, portfolio_id: str) -> None:
    """Changes that would count for the whole firm stay with this portfolio."""
    if isinstance(request, portfolio_service_pb2.SetLimitsRequest):
        request.scope.portfolio_id = portfolio_id
    if isinstance(request, parameter_service_pb2.SetParametersRequest):
        request.portfolio_id = portfolio_id
    if isinstance(request, market_service_pb2.PutMarketSnapshotRequest):
        request.snapshot.as_of_time.seconds = min(request.snapshot.as_of_time.seconds, 1)


@pytest.mark.timeout(max(600, FUZZ // 20))
async def test_mutated_requests_get_an_answer_or_a_typed_error(client: Client) -> None:
    rng = random.Random(20260801)
    portfolio_id = await client.ready()
    stubs = {
        name: getattr(service, name)
        for service in (client.sizing, client.portfolio, client.market, client.parameter)
        for name in vars(service)
    }
    seen: Counter[str] = Counter()

    async def one() -> None:
        method, request = rng.choice(seeds(portfolio_id))
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            mutate(rng, request)
        if rng.random() < 0.1:
            request = scrambled(rng, request)
        keep_to(request, portfolio_id)
        if rng.random() < 0.5 and hasattr(request, "request_id"):
            request.request_id = str(uuid4())
        try:
            await stubs[method](request, timeout=30.0)
            seen["answered"] += 1
        except grpc.aio.AioRpcError as error:
            refused = refusal_of(error)
            assert refused.code in EXPECTED, (method, refused, str(request)[:2000])
            if refused.code is grpc.StatusCode.INVALID_ARGUMENT:
                assert refused.fields, (method, refused)
            seen[refused.reason] += 1

    for start in range(0, FUZZ, AT_ONCE):
        await asyncio.gather(*(one() for _ in range(AT_ONCE)))
        if start % 512 == 0:  # a portfolio that still can be sized
            portfolio_id = await client.ready()
    assert seen["answered"] > FUZZ // 20, seen
    assert len(seen) > 8, seen
    fresh = await client.ready()
    assert (await client.size(sizing_request(fresh))).decision_id
