"""Every number of every request at its worst: refused by path, with the range, never a surprise."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import (
    learning_service_pb2,
    parameter_service_pb2,
    simulation_service_pb2,
    sizing_service_pb2,
)

from compute.ranges import RANGES
from server.convert.ranges import NUMBERS
from tests.server.support.mutations import EXPECTED, infinite
from tests.server.support.seeds import batch, seeds, stubs
from tests.server.support.service_client import (
    INSTRUMENTS,
    Client,
    refusal,
    refusal_of,
    sizing_request,
)

NAN, INF = math.nan, math.inf
DOUBLES = (1e308, -1e308, 5e-324, NAN, INF, -INF)
METHODS = sorted(seeds("p", "d"))
TIMES = (
    Timestamp(seconds=-62135596800),
    Timestamp(seconds=-62135596800, nanos=1),
    Timestamp(seconds=253402300799),
    Timestamp(seconds=253402300799, nanos=999_999_999),
    *(NO_TIMES := (Timestamp(seconds=-62135596801), Timestamp(seconds=253402300800))),
)
"""The first and the last that a message can say, and what is before and after."""
LOSES = {"history_length"}
"""Fields of which another rule speaks first."""


def paths(
    descriptor: Descriptor,
    is_wanted: Callable[[FieldDescriptor], bool],
    above: tuple[str, ...] = (),
) -> Iterator[tuple[str, ...]]:
    """Paths of field names to all fields that are wanted below a message, none through the same
    field twice."""
    for field in descriptor.fields:
        path = (*above, field.name)
        if is_wanted(field):
            yield path
        elif (
            field.message_type is not None
            and field.name not in above
            and not field.message_type.full_name.startswith("google.")
        ):
            yield from paths(field.message_type, is_wanted, path)


def is_number(field: FieldDescriptor) -> bool:
    name = f"{field.containing_type.name}.{field.name}"
    return field.cpp_type in NUMBERS and name in RANGES


def is_time(field: FieldDescriptor) -> bool:
    return field.message_type is Timestamp.DESCRIPTOR


def message_at(message: Any, way: Iterable[str]) -> Any:
    """The message at a path; what is missing on the way is made."""
    for name in way:
        field, child = message.DESCRIPTOR.fields_by_name[name], getattr(message, name)
        if field.is_repeated:
            message = child[0] if len(child) else child.add()
        else:
            child.SetInParent()
            message = child
    return message


def put(message: Any, path: tuple[str, ...], value: float) -> tuple[Message, FieldDescriptor]:
    """Sets the number at a path, in all entries of a column; what is missing on the way is made."""
    *way, last = path
    message = message_at(message, way)
    field = message.DESCRIPTOR.fields_by_name[last]
    number = value if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE else int(value)
    if not field.is_repeated:
        setattr(message, last, number)
    else:
        column = getattr(message, last)
        names = getattr(message, "instrument_ids", ())
        size = len(column) or len(names) or 1
        del column[:]
        column.extend([number] * size)
    return message, field


def integers(field: FieldDescriptor) -> tuple[float, ...]:
    wide = field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
    bits = 63 if wide else 31
    return (2**bits - 1024 if wide else 2**bits - 1, -(2**bits), 0, -1)


def field_at(descriptor: Descriptor, path: tuple[str, ...]) -> FieldDescriptor:
    *way, last = path
    for name in way:
        descriptor = descriptor.fields_by_name[name].message_type
    return descriptor.fields_by_name[last]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", METHODS)
async def test_numbers_out_of_range_are_refused_by_path(client: Client, method: str) -> None:
    portfolio_id = await client.ready()
    decision = await client.size(sizing_request(portfolio_id))
    call: Any = stubs(client)[method]
    good = seeds(portfolio_id, decision.decision_id)[method]
    for path in paths(good.DESCRIPTOR, is_number):
        field = field_at(good.DESCRIPTOR, path)
        allowed = RANGES[f"{field.containing_type.name}.{field.name}"]
        is_double = field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE
        for value in DOUBLES if is_double else integers(field):
            request = copy.deepcopy(good)
            put(request, path, value)
            if "request_id" in request.DESCRIPTOR.fields_by_name:
                request.request_id = str(uuid4())
            inside = allowed.least <= value <= allowed.most or (allowed.or_zero and value == 0)
            inside &= value != 5e-324
            try:
                answer = await call(request)
            except grpc.aio.AioRpcError as error:
                refused = refusal_of(error)
                assert refused.code in EXPECTED, (path, value, refused)
                if not inside:
                    names = {p.rpartition(".")[2].partition("[")[0] for p in refused.fields}
                    assert field.name in names, (path, value, refused)
                    reasons = set(refused.fields.values()) & {"OUT_OF_RANGE", "NOT_FINITE"}
                    told = allowed.text in refused.message or "finite" in refused.message
                    assert reasons or told or field.name in LOSES, (path, value, refused)
            else:
                assert inside, (path, value, str(answer)[:500])
                assert not infinite(answer), (path, value, infinite(answer))


WORK = sorted(
    (service.full_name, method.name)
    for module in (learning_service_pb2, simulation_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if not method.server_streaming
)
"""Methods whose work is done in a process of its own, which no wrong number may reach."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("service", "method"), WORK)
async def test_no_work_begins_with_numbers_out_of_range(
    client: Client, service: str, method: str
) -> None:
    stub: Any = client.simulation if "Simulation" in service else client.learning
    empty = GetMessageClass(
        Default().FindServiceByName(service).methods_by_name[method].input_type
    )()
    for path in paths(empty.DESCRIPTOR, is_number):
        if "signals" in path:
            continue  # those refuse their line, once work has begun
        field = field_at(empty.DESCRIPTOR, path)
        allowed = RANGES[f"{field.containing_type.name}.{field.name}"]
        is_double = field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE
        for value in DOUBLES if is_double else integers(field):
            if allowed.least <= value <= allowed.most or (allowed.or_zero and value == 0):
                continue
            request: Any = copy.deepcopy(empty)
            put(request, path, value)
            for name, given in (("request_id", str(uuid4())), ("model_id", "m")):
                if name in request.DESCRIPTOR.fields_by_name:
                    setattr(request, name, given)
            refused = await refusal(getattr(stub, method)(request))
            assert refused.code in EXPECTED, (path, value, refused)
            names = {p.rpartition(".")[2].partition("[")[0] for p in refused.fields}
            assert field.name in names, (path, value, refused)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", METHODS)
async def test_times_at_the_ends_of_time_never_surprise(client: Client, method: str) -> None:
    portfolio_id = await client.ready()
    decision = await client.size(sizing_request(portfolio_id))
    call: Any = stubs(client)[method]
    good = seeds(portfolio_id, decision.decision_id)[method]
    for path in paths(good.DESCRIPTOR, is_time):
        for value in TIMES:
            request: Any = copy.deepcopy(good)
            message_at(request, path).CopyFrom(value)
            if "request_id" in request.DESCRIPTOR.fields_by_name:
                request.request_id = str(uuid4())
            try:
                await call(request)
            except grpc.aio.AioRpcError as error:
                refused = refusal_of(error)
                assert refused.code in EXPECTED, (path, value, refused)
            else:
                assert value not in NO_TIMES, (path, value)


async def test_percent_for_a_fraction_is_asked_about(client: Client) -> None:
    """12 % a year with a volatility of 25 %: as numbers 12 and 25 nobody means what they say."""
    portfolio_id = await client.ready()
    for column, value in (("expected_return", 12.0), ("volatility", 25.0),
                          ("win_probability", 60.0), ("loss_fraction", 5.0),
                          ("confidence", 80.0)):  # fmt: skip
        request = batch(portfolio_id)
        del getattr(request.signals, column)[:]
        getattr(request.signals, column).extend([value] * 4)
        refused = await refusal(client.sizing.SizePositions(request))
        assert "percent?" in refused.message, refused
        assert any(f"signals.{column}[" in path for path in refused.fields), refused
    request = parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id)
    request.parameters.volatility_target = 15.0
    refused = await refusal(client.parameter.SetParameters(request))
    assert "from 1e-6 to 5" in refused.message
    assert "percent?" in refused.message


async def test_hardly_any_confidence_is_hardly_any_stake(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=1.0, leverage_max=10.0)
    stakes = []
    for confidence in (1.0, 0.5, 1e-3, 1e-6):
        signals = {"confidence": [confidence] * 4}
        request = sizing_request(portfolio_id, signals=signals, validate_only=True)
        decision = await client.size(request)
        stage = decision.waterfall.stages[-2]
        stakes.append(max(stage.weight))
        assert stakes[-1] <= 0.1 * confidence + 1e-12, (confidence, stakes)
    assert stakes == sorted(stakes, reverse=True)
    request = sizing_request(portfolio_id, signals={"confidence": [1e-308] * 4})
    refused = await refusal(client.sizing.SizePositions(request))
    assert "from 1e-6 to 1" in refused.message


async def test_a_fill_at_a_price_nobody_pays_leaves_the_book_alone(client: Client) -> None:
    portfolio_id = await client.ready()
    decision = await client.size(sizing_request(portfolio_id))
    request: Any = seeds(portfolio_id, decision.decision_id)["SettleDecision"]
    assert isinstance(request, sizing_service_pb2.SettleDecisionRequest)
    for price in (1e308, 1e13, 5e-324):
        request.fills.price[0] = price
        refused = await refusal(client.sizing.SettleDecision(request))
        assert refused.fields == {"fills.price[0]": "OUT_OF_RANGE"}
        assert "from -1e12 to 1e12" in refused.message  # some futures trade at 0 and below
    assert INSTRUMENTS[0] == "I0"
