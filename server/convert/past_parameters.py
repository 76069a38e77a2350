"""SimulateParameters between the contract and the domain."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from positionsizing.v1 import parameter_service_pb2 as pb
from positionsizing.v1 import sizing_pb2

from compute.adapt.adjustment import Adjustment, fraction_multiplier
from compute.market import Floats
from server.calls.errors import FieldViolation, invalid, invalid_fields
from server.convert import parameters as parameters_convert
from server.convert.columns import set_floats
from server.convert.names import (
    checked_id,
    moment,
    optional_id,
    past_moment,
    some_instruments_violations,
    timestamp,
)
from server.convert.parameters import seconds
from server.convert.ranges import number_violations
from server.parameters.past_parameters import PastRequest, Simulated, Then

TIMES_MAX = 2000
INSTRUMENTS_MAX = 100
EQUITY_MAX = 10_000
_STEP_MAX_S = 31 * 86400.0
_LONG_AGO = timedelta(days=30)


def past_request(request: pb.SimulateParametersRequest) -> PastRequest:
    """The request, checked by itself. Raises `Refusal`."""
    portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
    strategy_id = optional_id(request.strategy_id, "strategy_id")
    if found := list(_violations(request)):
        raise invalid_fields(found)
    return PastRequest(
        portfolio_id,
        strategy_id,
        parameters_convert.document(request.parameters) if request.HasField("parameters") else None,
        _times(request),
        tuple(request.instrument_ids),
        _equity(request),
        request.as_told,
    )


def _violations(request: pb.SimulateParametersRequest) -> Iterator[FieldViolation]:
    yield from number_violations(request)
    if request.HasField("parameters"):
        yield from parameters_convert.violations(request.parameters, "parameters")
    if request.HasField("step") and not 1.0 <= seconds(request.step) <= _STEP_MAX_S:
        text = f"is {seconds(request.step):g} s; it must be from 1 s to 31 days"
        yield FieldViolation("step", "OUT_OF_RANGE", text)
    most = (("instrument_ids", INSTRUMENTS_MAX), ("equity", EQUITY_MAX))
    for name, at_most in most:
        if (count := len(getattr(request, name))) > at_most:
            text = f"has {count} entries; at most {at_most} are accepted"
            yield FieldViolation(name, "TOO_MANY", text)
            return
    yield from some_instruments_violations(request.instrument_ids, "instrument_ids")


def _times(request: pb.SimulateParametersRequest) -> list[datetime]:
    end = datetime.now(UTC)
    if request.HasField("end_time"):
        end = past_moment(request.end_time, "end_time")
    start = end - _LONG_AGO
    if request.HasField("start_time"):
        start = past_moment(request.start_time, "start_time")
    if start > end:
        raise invalid("start_time", "OUT_OF_RANGE", "is after end_time")
    step_s = seconds(request.step) if request.HasField("step") else 86400.0
    count = int((end - start).total_seconds() // step_s) + 1
    if count > TIMES_MAX:
        text = f"gives {count} times from start_time to end_time; at most {TIMES_MAX} are accepted"
        raise invalid("step", "TOO_MANY", text)
    return [start + timedelta(seconds=place * step_s) for place in range(count)]


def _equity(request: pb.SimulateParametersRequest) -> list[tuple[datetime, float]]:
    out: list[tuple[datetime, float]] = []
    for place, point in enumerate(request.equity):
        path = f"equity[{place}].time"
        if not point.HasField("time"):
            raise invalid(path, "MISSING", "must be given")
        time = moment(point.time, path)
        if out and time <= out[-1][0]:
            raise invalid(path, "OUT_OF_ORDER", "is not after the one before")
        out.append((time, point.equity))
    return out


def answer(asked: PastRequest, simulated: Simulated) -> pb.SimulateParametersResponse:
    """The answer in columns by time."""
    found = simulated.found
    response = pb.SimulateParametersResponse(times=[timestamp(time) for time in asked.times])
    set_floats(response, "kelly_fraction", np.array([item.fraction for item in found]))
    stored = np.array([item.fraction_stored for item in found])
    set_floats(response, "kelly_fraction_stored", stored)
    if simulated.has_floor:
        set_floats(response, "equity", np.array([item.equity or 0.0 for item in found]))
    response.rules.extend(_rules(found))
    for place, name in enumerate(asked.instrument_ids):
        line = response.lines.add(instrument_id=name)
        for column in ("edge_multiplier", "volatility", "weight_max"):
            if column != "weight_max" or simulated.has_target:
                values = np.array([getattr(item, column)[place] for item in found])
                set_floats(line, column, values)
    return response


def _rules(found: Sequence[Then]) -> list[pb.SimulatedRule]:
    """By source and name, in the order of their first say."""
    columns: dict[tuple[int, str], Floats] = {}
    counts: dict[tuple[int, str], int] = {}
    least: dict[tuple[int, str], Adjustment] = {}
    for place, then in enumerate(found):
        smallest = fraction_multiplier(then.adjustments)
        for item in then.adjustments:
            key = int(item.source), item.name
            column = columns.setdefault(key, np.ones(len(found)))
            column[place] = min(column[place], item.multiplier)
            counts.setdefault(key, 0)
            if item.multiplier < 1.0 and (item.is_on_edge or item.multiplier == smallest):
                counts[key] += 1
            if key not in least or item.multiplier < least[key].multiplier:
                least[key] = item
    out = []
    for key, column in columns.items():
        rule = pb.SimulatedRule(
            source=sizing_pb2.AdjustmentSource.ValueType(key[0]),
            name=key[1],
            binding_count=counts[key],
            explanation=least[key].explanation,
        )
        set_floats(rule, "multiplier", column)
        out.append(rule)
    return out
