"""Random mutations of good requests: an answer or a typed error, never a surprise (R9)."""

import asyncio
import os
import random
from collections import Counter
from uuid import uuid4

import grpc
import pytest

from tests.server.support.mutations import EXPECTED, infinite, mutate, scrambled
from tests.server.support.seeds import keep_to, seeds, stubs
from tests.server.support.service_client import Client, refusal_of, sizing_request

FUZZ = int(os.environ.get("FUZZ", "3000"))
SEED = int(os.environ.get("FUZZ_SEED", "20260801"))
AT_ONCE = 32
OFTEN = ("SizePositions", "SizePortfolios", "WhatIf", "PutMarketSnapshot", "SetLimits")
BUSY = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE}  # fmt: skip
MAY_BE_INFINITE = {"OptimizePortfolio"}  # NaN where a weight has no single derivative


@pytest.fixture
def client(own_client: Client) -> Client:
    """A service of the test's own: mutated requests split stocks that other tests size."""
    return own_client


@pytest.mark.timeout(max(600, FUZZ // 20))
async def test_mutated_requests_get_an_answer_or_a_typed_error(client: Client) -> None:
    rng = random.Random(SEED)
    portfolio_id = await client.ready()
    decision_id = (await client.size(sizing_request(portfolio_id))).decision_id
    spare_id = await client.put_portfolio()
    calls, seen, answered = stubs(client), Counter[str](), Counter[str]()

    async def one() -> None:
        requests = seeds(portfolio_id, decision_id)
        method = rng.choice(OFTEN) if rng.random() < 0.3 else rng.choice(sorted(requests))
        request = requests[method]
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            mutate(rng, request)
        if rng.random() < 0.1:
            request = scrambled(rng, request)
        keep_to(request, portfolio_id, spare_id)
        if rng.random() < 0.5 and hasattr(request, "request_id"):
            request.request_id = str(uuid4())
        try:
            answer = await calls[method](request, timeout=300.0)
            seen["answered"] += 1
            answered[method] += 1
            if method not in MAY_BE_INFINITE:
                assert not infinite(answer), (method, infinite(answer), str(request)[:2000])
        except grpc.aio.AioRpcError as error:
            refused = refusal_of(error)
            assert refused.code in EXPECTED | BUSY, (method, refused, str(request)[:2000])
            if refused.code is grpc.StatusCode.INVALID_ARGUMENT:
                assert refused.fields, (method, refused)
            seen[refused.reason] += 1

    for start in range(0, FUZZ, AT_ONCE):
        await asyncio.gather(*(one() for _ in range(AT_ONCE)))
        if start % 512 == 0:  # a portfolio that still can be sized
            portfolio_id = await client.ready()
            decision_id = (await client.size(sizing_request(portfolio_id))).decision_id
            spare_id = await client.put_portfolio()
    print(f"{FUZZ} mutated requests of {len(calls)} methods:", dict(seen.most_common()))
    assert seen["answered"] > FUZZ // 20, seen
    assert len(seen) > 8, seen
    assert len(answered) > len(calls) // 2, answered
    fresh = await client.ready()
    assert (await client.size(sizing_request(fresh))).decision_id
