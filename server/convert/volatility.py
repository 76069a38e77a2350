"""Volatility models and their states between the contract, the domain and storage."""

from collections.abc import Iterator
from datetime import UTC
from typing import Any

import numpy as np
from google.protobuf import json_format
from positionsizing.v1 import market_service_pb2
from positionsizing.v1 import volatility_service_pb2 as pb

from compute.adapt.volatility import (
    GjrGarch,
    Prices,
    Row,
    VolatilityModel,
    VolatilityState,
    bucket_of,
)
from server.convert.columns import floats
from server.convert.names import id_violations, timestamp
from server.errors import FieldViolation
from storage.postgres.rows import Document
from storage.postgres.volatility import StoredState

PERIOD_MAX_S = 7 * 86400.0
_NUMBERS = ("periods_per_year", "half_life", "band", "observations_min")


def model(message: pb.VolatilityModel) -> VolatilityModel:
    """The domain's model; the message has been checked (`violations`)."""
    given: dict[str, Any] = {n: getattr(message, n) for n in _NUMBERS if message.HasField(n)}  # type: ignore[arg-type]
    if message.HasField("sampling_period"):
        given["sampling_period_s"] = _seconds(message)
    plain = VolatilityModel(**given)
    if not message.HasField("garch"):
        return plain
    own = message.garch
    variance = None
    if own.HasField("long_run_volatility"):
        variance = own.long_run_volatility**2 / plain.periods_per_year
    garch = GjrGarch(own.alpha, own.beta, own.gamma, variance)
    return VolatilityModel(**given, garch=garch)


def filled(message: pb.VolatilityModel) -> pb.VolatilityModel:
    """The message with every default filled in."""
    known = model(message)
    out = pb.VolatilityModel(
        model_id=message.model_id, **{name: getattr(known, name) for name in _NUMBERS}
    )
    out.sampling_period.FromNanoseconds(round(known.sampling_period_s * 1e9))
    if message.HasField("garch"):
        out.garch.CopyFrom(message.garch)
        out.garch.gamma = message.garch.gamma
    return out


def document(message: pb.VolatilityModel) -> Document:
    """The form that is stored."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def parse(stored: Document) -> pb.VolatilityModel:
    """The message from its stored form."""
    return json_format.ParseDict(dict(stored), pb.VolatilityModel())


def violations(message: pb.VolatilityModel, path: str) -> Iterator[FieldViolation]:
    """What is wrong with a model but its numbers, by field path."""
    yield from id_violations(message.model_id, f"{path}.model_id")
    if message.HasField("sampling_period") and not 1.0 <= _seconds(message) <= PERIOD_MAX_S:
        text = f"is {_seconds(message):g} s; it must be from 1 s to 7 days"
        yield FieldViolation(f"{path}.sampling_period", "OUT_OF_RANGE", text)
    if message.HasField("garch"):
        garch = message.garch
        total = GjrGarch(garch.alpha, garch.beta, garch.gamma).persistence
        if not total < 1.0:
            text = f"alpha + gamma / 2 + beta is {total:g}; below 1 the variance has a long run"
            yield FieldViolation(f"{path}.garch", "NOT_STATIONARY", text)
        if message.HasField("half_life"):
            text = "is of exponential weights, whose place garch takes"
            yield FieldViolation(f"{path}.half_life", "NOT_APPLICABLE", text)


def prices(snapshot: market_service_pb2.MarketSnapshot, known: VolatilityModel) -> Prices:
    """What a snapshot says to a model: prices as quoted; what is halted is missing."""
    price = floats(snapshot.price)
    if len(snapshot.halted):
        price = np.where(np.array(snapshot.halted, dtype=bool), np.nan, price)
    time_s = snapshot.as_of_time.ToDatetime(tzinfo=UTC).timestamp()
    return Prices(bucket_of(time_s, known), tuple(snapshot.instrument_ids), price)


def state(stored: StoredState) -> VolatilityState:
    """The domain's state."""
    columns = np.frombuffer(stored.payload) if stored.payload else np.empty(0)
    rows = columns.reshape(len(Row), len(stored.instrument_id))
    return VolatilityState(stored.instrument_id, rows, stored.bucket, stored.periods, stored.late)


def payload(found: VolatilityState) -> bytes:
    """The columns of a state as they are stored: doubles, row by row."""
    return np.ascontiguousarray(found.rows, dtype=np.float64).tobytes()


def summary(stored: StoredState) -> pb.VolatilitySummary:
    """What a state was made of."""
    out = pb.VolatilitySummary(
        version=stored.version,
        market_snapshot_id=stored.snapshot_id,
        period_count=stored.periods,
        late_count=stored.late,
        instrument_count=len(stored.instrument_id),
    )
    if stored.as_of_time is not None:
        out.as_of_time.CopyFrom(timestamp(stored.as_of_time))
    if stored.start_time is not None:
        out.start_time.CopyFrom(timestamp(stored.start_time))
    return out


def _seconds(message: pb.VolatilityModel) -> float:
    return float(message.sampling_period.seconds + message.sampling_period.nanos * 1e-9)
