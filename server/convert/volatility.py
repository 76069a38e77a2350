"""Volatility models and their states between the contract, the domain and storage."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf import json_format
from positionsizing.v1 import volatility_service_pb2 as pb

from compute.adapt.bars import Bars, RangeEstimator
from compute.adapt.har import Har
from compute.adapt.regimes import REGIMES_MAX, RegimeSwitching
from compute.adapt.volatility import bucket_of
from compute.adapt.volatility_model import (
    ROWS,
    GjrGarch,
    Prices,
    RangeModel,
    Row,
    VolatilityModel,
    VolatilityState,
)
from server.calls.errors import FieldViolation
from server.convert.bars import BAR_COLUMNS, has_bars
from server.convert.columns import floats
from server.convert.market import Snapshot, universe_violations
from server.convert.names import id_violations, text_violations, timestamp
from server.convert.stored import read_stored
from storage.postgres.rows import Document
from storage.postgres.volatility import StoredState

PERIOD_MAX_S = 7 * 86400.0
_OPTIONAL_ROWS = ((Row.HAR_PERIODS, ROWS), (Row.IN_USE + 1, Row.HAR_PERIODS))
_NUMBERS = ("periods_per_year", "half_life", "band", "observations_min")


def model(message: pb.VolatilityModel) -> VolatilityModel:
    """The domain's model; the message has been checked (`violations`)."""
    given: dict[str, Any] = {n: getattr(message, n) for n in _NUMBERS if message.HasField(n)}  # type: ignore[arg-type]
    if message.HasField("sampling_period"):
        given["sampling_period_s"] = _seconds(message)
    if message.HasField("range"):
        own_range = message.range
        estimator = RangeEstimator(own_range.estimator)
        given["range"] = RangeModel(estimator, own_range.session_only, own_range.scale_to_returns)
    if message.HasField("regimes"):
        given["regimes"] = regimes(message.regimes)
    if message.HasField("har"):
        given["har"] = har(message.har)
    plain = VolatilityModel(**given)
    if not message.HasField("garch"):
        return plain
    own = message.garch
    variance = None
    if own.HasField("long_run_volatility"):
        variance = own.long_run_volatility**2 / plain.periods_per_year
    garch = GjrGarch(own.alpha, own.beta, own.gamma, variance)
    return VolatilityModel(**given, garch=garch)


def har(message: pb.HarModel) -> Har:
    """The regression of variances."""
    return Har(
        message.daily,
        message.weekly,
        message.monthly,
        message.constant if message.HasField("constant") else None,
        message.logarithmic,
        message.residual_variance,
    )


@dataclass(frozen=True)
class Told:
    """The condition that a model observes, and of which instrument."""

    condition_id: str
    instrument_id: str


def told(message: pb.VolatilityModel) -> Told | None:
    """What a model tells; None: nothing."""
    own = message.regimes
    return Told(own.condition_id, own.condition_instrument_id) if own.condition_id else None


def regimes(message: pb.RegimeSwitching) -> RegimeSwitching:
    """The regimes by rising deviation, whatever their order: labels mean the same in each fit."""
    rows = np.array(message.transition).reshape(len(message.regimes), -1)
    order = sorted(range(len(message.regimes)), key=lambda i: message.regimes[i].deviation)
    return RegimeSwitching(
        tuple(message.regimes[i].mean for i in order),
        tuple(message.regimes[i].deviation for i in order),
        tuple(map(tuple, rows[np.ix_(order, order)].tolist())),
        message.degrees_of_freedom if message.HasField("degrees_of_freedom") else None,
    )


def filled(message: pb.VolatilityModel) -> pb.VolatilityModel:
    """The message with every default filled in."""
    known = model(message)
    out = pb.VolatilityModel(
        model_id=message.model_id,
        universe_id=message.universe_id,
        **{name: getattr(known, name) for name in _NUMBERS},
    )
    out.sampling_period.FromNanoseconds(round(known.sampling_period_s * 1e9))
    if message.HasField("garch"):
        out.garch.CopyFrom(message.garch)
        out.garch.gamma = message.garch.gamma
    if message.HasField("range"):
        out.range.CopyFrom(message.range)
    if message.HasField("regimes"):
        out.regimes.CopyFrom(message.regimes)
    if message.HasField("har"):
        out.har.CopyFrom(message.har)
    return out


def document(message: pb.VolatilityModel) -> Document:
    """The form that is stored."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def parse(stored: Document) -> pb.VolatilityModel:
    """The message from its stored form."""
    return read_stored(stored, pb.VolatilityModel())


def violations(message: pb.VolatilityModel, path: str) -> Iterator[FieldViolation]:
    """What is wrong with a model but its numbers, by field path."""
    yield from id_violations(message.model_id, f"{path}.model_id")
    yield from universe_violations(message.universe_id, f"{path}.universe_id")
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
    if message.HasField("range"):
        yield from _range_violations(message, path)
    if message.HasField("har"):
        yield from _har_violations(message, path)
    if message.HasField("regimes"):
        yield from _regime_violations(message, path)


def _har_violations(message: pb.VolatilityModel, path: str) -> Iterator[FieldViolation]:
    own, where = message.har, f"{path}.har"
    for name in ("half_life", "garch"):
        if message.HasField(name):
            text = "is of another way to estimate, whose place har takes"
            yield FieldViolation(f"{path}.{name}", "NOT_APPLICABLE", text)
    barred = {pb.RANGE_ESTIMATOR_YANG_ZHANG: "is of several periods; har needs a variance of each"}
    if own.logarithmic:
        text = "is 0 of a session that only rose, which has no logarithm"
        barred[pb.RANGE_ESTIMATOR_ROGERS_SATCHELL] = text
    if not message.HasField("range"):
        yield FieldViolation(f"{path}.range", "MISSING", "must be given: har is of bars")
    elif message.range.estimator in barred:
        text = barred[message.range.estimator]
        yield FieldViolation(f"{path}.range.estimator", "NOT_APPLICABLE", text)
    if not own.logarithmic:
        for name in ("daily", "weekly", "monthly", "constant"):
            if getattr(own, name) < 0.0:
                text = "is below 0; a variance forecast could be as well"
                yield FieldViolation(f"{where}.{name}", "OUT_OF_RANGE", text)
        if own.residual_variance:
            text = "is of logarithms"
            yield FieldViolation(f"{where}.residual_variance", "NOT_APPLICABLE", text)
    weights = (own.daily, own.weekly, own.monthly)
    if np.isfinite(weights).all() and not (largest := har(own).persistence) < 1.0:
        text = f"has a root of modulus {largest:g}; below 1 the variance has a long run"
        yield FieldViolation(where, "NOT_STATIONARY", text)


def _regime_violations(message: pb.VolatilityModel, path: str) -> Iterator[FieldViolation]:
    given, where = message.regimes, f"{path}.regimes"
    for name in ("half_life", "garch", "range", "har"):
        if message.HasField(name):
            text = "is of another way to estimate, whose place regimes take"
            yield FieldViolation(f"{path}.{name}", "NOT_APPLICABLE", text)
    k = len(given.regimes)
    if not 2 <= k <= REGIMES_MAX:
        text = f"has {k} entries; from 2 to {REGIMES_MAX} are needed"
        yield FieldViolation(f"{where}.regimes", "LENGTH_MISMATCH", text)
    elif len(given.transition) != k * k:
        text = f"has {len(given.transition)} entries; {k * k} are needed for {k} regimes"
        yield FieldViolation(f"{where}.transition", "LENGTH_MISMATCH", text)
    else:
        for row, total in enumerate(np.array(given.transition).reshape(k, k).sum(axis=1)):
            if abs(total - 1.0) > 1e-9:
                text = f"row {row} sums to {total:g}; whatever comes next, it must be 1"
                yield FieldViolation(f"{where}.transition", "OUT_OF_RANGE", text)
    if bool(given.condition_id) != bool(given.condition_instrument_id):
        text = "is given with condition_instrument_id, or neither is"
        yield FieldViolation(f"{where}.condition_id", "MISSING", text)
    if given.condition_id:
        yield from id_violations(given.condition_id, f"{where}.condition_id")
        name = f"{where}.condition_instrument_id"
        yield from text_violations(given.condition_instrument_id, name)


def _range_violations(message: pb.VolatilityModel, path: str) -> Iterator[FieldViolation]:
    where = f"{path}.range"
    estimator = message.range.estimator
    if estimator == pb.RANGE_ESTIMATOR_UNSPECIFIED:
        yield FieldViolation(f"{where}.estimator", "MISSING", "must be given")
    elif estimator not in pb.RangeEstimator.values():
        yield FieldViolation(f"{where}.estimator", "UNKNOWN_VALUE", "is not known")
    if estimator != pb.RANGE_ESTIMATOR_YANG_ZHANG:
        return
    if message.HasField("garch"):
        text = "is of several periods with YANG_ZHANG; garch needs a variance of each"
        yield FieldViolation(f"{where}.estimator", "NOT_APPLICABLE", text)
    for name in ("session_only", "scale_to_returns"):
        if getattr(message.range, name):
            text = "is not of YANG_ZHANG"
            yield FieldViolation(f"{where}.{name}", "NOT_APPLICABLE", text)


def is_seen(snapshot: Snapshot, known: VolatilityModel) -> bool:
    """Whether a snapshot is an observation to a model: range models need its bars."""
    return known.range is None or has_bars(snapshot.message)


def prices(snapshot: Snapshot, known: VolatilityModel) -> Prices:
    """What a snapshot says to a model: prices as quoted; what is halted is missing."""
    message = snapshot.message
    price = floats(message.price)
    if len(message.halted):
        price = np.where(np.array(message.halted, dtype=bool), np.nan, price)
    time_s = snapshot.as_of_time.timestamp()
    bars = None
    if known.range is not None and has_bars(message):
        bars = Bars(*(floats(getattr(message, name)) for name in BAR_COLUMNS))
    return Prices(bucket_of(time_s, known), tuple(message.instrument_ids), price, bars)


def state(stored: StoredState) -> VolatilityState:
    """The domain's state."""
    columns = np.frombuffer(stored.payload) if stored.payload else np.empty(0)
    rows = np.zeros((ROWS, len(stored.instrument_id)))
    known = len(columns) // max(rows.shape[1], 1)  # fewer, of earlier releases
    rows[:known] = columns.reshape(known, rows.shape[1])
    return VolatilityState(stored.instrument_id, rows, stored.bucket, stored.periods, stored.late)


def payload(found: VolatilityState) -> bytes:
    """The columns of a state as they are stored: doubles, row by row.

    Without the rows of bars, regimes and HAR where nothing is in them: a server of a release before
    them, beside this one, then still reads the states of the models that it knows.
    """
    used = next(
        (after for first, after in _OPTIONAL_ROWS if found.rows[first:after].any()),
        Row.IN_USE + 1,
    )
    return np.ascontiguousarray(found.rows[:used], dtype=np.float64).tobytes()


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
