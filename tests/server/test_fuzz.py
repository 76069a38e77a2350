"""Random mutations of good requests: an answer or a typed error, never a surprise (R9)."""

import asyncio
import os
import random
import struct
from collections import Counter
from uuid import uuid4

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_service_pb2,
)
from service_client import INSTRUMENTS, Client, new_id, refusal_of, sizing_request, snapshot_message

FUZZ = int(os.environ.get("FUZZ", "3000"))
AT_ONCE = 32
DOUBLES = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-308, 5e-324, 1e308, -1e308, 1e-9, 1e9, 1e15,
           float("nan"), float("inf"), float("-inf"))  # fmt: skip
INTEGERS = (0, 1, 2, 3, 4, 5, 7, 99, -1, -(2**31), 2**31 - 1)
WIDE = (*INTEGERS, 2**53, 2**62, -(2**63), 2**63 - 1)
TEXTS = (
    "",
    "I0",
    "I1",
    "x",
    "a b",
    "é",
    "\x00",
    "%s",
    "'; --",
    "y" * 300,
    "A",
    "USD",
    str(uuid4()),
)
EXPECTED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.ALREADY_EXISTS,
}


def any_value(rng: random.Random, field: FieldDescriptor) -> object:
    """A value of the field's type, from the edges of what it can hold."""
    kinds = {
        FieldDescriptor.CPPTYPE_DOUBLE: DOUBLES,
        FieldDescriptor.CPPTYPE_INT32: INTEGERS,
        FieldDescriptor.CPPTYPE_INT64: WIDE,
        FieldDescriptor.CPPTYPE_ENUM: INTEGERS,
        FieldDescriptor.CPPTYPE_BOOL: (True, False),
        FieldDescriptor.CPPTYPE_STRING: TEXTS,
    }
    return rng.choice(kinds[field.cpp_type])


def mutate(rng: random.Random, message: Message) -> None:
    """Changes one field, somewhere in the message."""
    field = rng.choice(message.DESCRIPTOR.fields)
    if field.message_type is not None:
        child = getattr(message, field.name)
        if not field.is_repeated:
            child.SetInParent()
            mutate(rng, child)
        elif len(child) and rng.random() < 0.7:
            mutate(rng, rng.choice(child))
        else:
            mutate(rng, child.add())
        return
    if not field.is_repeated:
        if rng.random() < 0.2:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, any_value(rng, field))
        return
    column = getattr(message, field.name)
    match rng.randrange(4):
        case 0 if len(column):
            column[rng.randrange(len(column))] = any_value(rng, field)
        case 1 if len(column):
            del column[rng.randrange(len(column))]
        case 2:
            column.append(any_value(rng, field))
        case _:
            size = rng.choice((0, 1, len(INSTRUMENTS[:4])))
            message.ClearField(field.name)
            getattr(message, field.name).extend(any_value(rng, field) for _ in range(size))


def scrambled(rng: random.Random, message: Message) -> Message:
    """The message with bytes changed on the wire, if it still is one."""
    data = bytearray(message.SerializeToString())
    for _ in range(rng.randrange(1, 4) if data else 0):
        place = rng.randrange(len(data))
        data[place : place + 1] = struct.pack("B", rng.randrange(256)) * rng.randrange(3)
    try:
        return type(message).FromString(bytes(data))
    except DecodeError:
        return message


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
