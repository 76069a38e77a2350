"""Sizing parameters between the contract, the domain and the stored document."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from google.protobuf import json_format
from positionsizing.v1 import optimization_service_pb2, types_pb2
from positionsizing.v1 import parameter_service_pb2 as pb

from compute.adapt.schedule import Schedule
from compute.correlation.penalty import CorrelationPenalty
from compute.optimize.problem import Objective
from compute.parameters import (
    AlgorithmChoice,
    DrawdownTolerance,
    EffectiveParameters,
    Method,
    NoTradeRegion,
    Parameters,
    Robust,
    RobustSet,
    Shrinkage,
    merged,
)
from compute.ranges import RANGES
from server.convert import algorithm as algorithm_convert
from server.convert import condition as condition_convert
from server.convert import objective as objective_convert
from server.convert import schedule as schedule_convert
from server.convert.names import id_violations
from server.errors import FieldViolation

_DURATIONS = ("reservation_ttl", "market_age_max", "portfolio_age_max", "matrix_age_max")
_IDS = ("covariance_universe", "volatility_model", "edge_model_id", "size_model_id")
_EDGE_HALF_LIFE_MAX_S = 3650 * 86400.0
TTL_MAX_S = 30 * 86400.0

_NUMBERS = tuple(
    name.removeprefix("SizingParameters.")
    for name in RANGES
    if name.startswith("SizingParameters.")
)


def parameters(message: pb.SizingParameters) -> Parameters:
    """The domain's parameters; the message has been checked (`violations`)."""
    given = {name: getattr(message, name) for name in _NUMBERS if message.HasField(name)}  # type: ignore[arg-type]
    for name in _DURATIONS:
        if message.HasField(name):  # type: ignore[arg-type]
            given[f"{name}_s"] = seconds(getattr(message, name))
    if message.HasField("edge_half_life"):
        given["edge_half_life_s"] = seconds(message.edge_half_life)
    if message.HasField("condition_rules"):
        given["condition_rules"] = condition_convert.rules(message.condition_rules)
    if message.HasField("schedule"):
        given["schedule"] = schedule_convert.schedule(message.schedule)
    if message.HasField("drawdown_tolerance"):
        tolerance = message.drawdown_tolerance
        given["drawdown_tolerance"] = DrawdownTolerance(
            tolerance.wealth_floor, tolerance.probability
        )
    if message.HasField("joint_objective"):
        given["joint_objective"] = objective_convert.objective(message.joint_objective)
    if message.method:
        given["method"] = Method(message.method)
    if message.confidence_shrinkage:
        given["confidence_shrinkage"] = Shrinkage(message.confidence_shrinkage)
    for name in _IDS:
        if message.HasField(name):  # type: ignore[arg-type]
            given[name] = getattr(message, name)
    if message.HasField("robust"):
        given["robust"] = Robust(RobustSet(message.robust.set), message.robust.radius)
    if message.no_trade_region:
        given["no_trade_region"] = NoTradeRegion(message.no_trade_region)
    if message.correlation_penalty:
        given["correlation_penalty"] = CorrelationPenalty(message.correlation_penalty)
    if message.HasField("algorithm"):
        given["algorithm"] = algorithm_convert.choice(message.algorithm)
    return Parameters(**given)


def seconds(duration: Any) -> float:
    """A google.protobuf.Duration in seconds."""
    return float(duration.seconds + duration.nanos * 1e-9)


def message_of(effective: EffectiveParameters) -> pb.SizingParameters:
    """The contract's form of parameters with every default filled in."""
    message = pb.SizingParameters(
        method=types_pb2.SizingMethod.ValueType(effective.method),
        confidence_shrinkage=pb.ConfidenceShrinkage.ValueType(effective.confidence_shrinkage),
        correlation_penalty=pb.CorrelationPenalty.ValueType(effective.penalty),
    )
    for item in fields(effective):
        value = getattr(effective, item.name)
        if value is None:
            continue
        if item.name in _NUMBERS or item.name in _IDS:
            setattr(message, item.name, value)
        elif item.name.removesuffix("_s") in (*_DURATIONS, "edge_half_life"):
            getattr(message, item.name.removesuffix("_s")).FromNanoseconds(round(value * 1e9))
        elif isinstance(value, Robust):
            message.robust.set = pb.UncertaintySet.ValueType(value.kind)
            message.robust.radius = value.radius
        elif isinstance(value, NoTradeRegion):
            message.no_trade_region = pb.NoTradeRegion.ValueType(value)
        elif isinstance(value, DrawdownTolerance):
            message.drawdown_tolerance.wealth_floor = value.wealth_floor
            message.drawdown_tolerance.probability = value.probability
        elif item.name == "condition_rules" and value:
            message.condition_rules.CopyFrom(condition_convert.message_of(value))
        elif isinstance(value, Schedule) and value.rows:
            message.schedule.CopyFrom(schedule_convert.message_of(value))
        elif isinstance(value, AlgorithmChoice):
            message.algorithm.CopyFrom(algorithm_convert.message_of(value))
        elif isinstance(value, Objective):
            message.joint_objective.CopyFrom(objective_convert.message_of(value))
    return message


def effective(documents: Iterable[Mapping[str, Any]]) -> EffectiveParameters:
    """Of stored documents, the most special first."""
    return merged(parameters(parse(dict(item))) for item in reversed(list(documents)))


def document(message: pb.SizingParameters) -> dict[str, Any]:
    """The form that is stored: proto JSON with the names of the contract."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def parse(stored: dict[str, Any]) -> pb.SizingParameters:
    """The message from its stored form."""
    message = pb.SizingParameters()
    json_format.ParseDict(stored, message)
    return message


def violations(message: pb.SizingParameters, path: str) -> Iterator[FieldViolation]:
    """What is wrong with parameters but their numbers, by field path below `path`."""
    for name in _DURATIONS:
        if message.HasField(name):  # type: ignore[arg-type]
            yield from duration_violations(getattr(message, name), f"{path}.{name}")
    if message.HasField("edge_half_life"):
        where, most = f"{path}.edge_half_life", _EDGE_HALF_LIFE_MAX_S
        yield from duration_violations(message.edge_half_life, where, most)
    if message.HasField("condition_rules"):
        where = f"{path}.condition_rules"
        yield from condition_convert.violations(message.condition_rules, where)
    if message.HasField("schedule"):
        yield from schedule_convert.violations(message.schedule, f"{path}.schedule")
    if message.HasField("joint_objective"):
        where = f"{path}.joint_objective"
        if message.joint_objective.kind == optimization_service_pb2.OBJECTIVE_KIND_RISK_BUDGET:
            text = "risk budgets are solved by OptimizePortfolio"
            yield FieldViolation(f"{where}.kind", "NOT_APPLICABLE", text)
        yield from objective_convert.violations(message.joint_objective, 0, where)
    if message.method not in types_pb2.SizingMethod.values():
        yield FieldViolation(f"{path}.method", "UNKNOWN_VALUE", "is not a sizing method")
    if message.HasField("algorithm"):
        yield from algorithm_convert.violations(message.algorithm, f"{path}.algorithm")
    for name in _IDS:
        if message.HasField(name):  # type: ignore[arg-type]
            yield from id_violations(getattr(message, name), f"{path}.{name}")
    if message.correlation_penalty not in pb.CorrelationPenalty.values():
        yield FieldViolation(f"{path}.correlation_penalty", "UNKNOWN_VALUE", "is not known")
    if message.HasField("robust") and message.robust.set not in pb.UncertaintySet.values()[1:]:
        yield FieldViolation(f"{path}.robust.set", "UNKNOWN_VALUE", "is not known")
    if message.no_trade_region not in pb.NoTradeRegion.values():
        yield FieldViolation(f"{path}.no_trade_region", "UNKNOWN_VALUE", "is not known")
    if message.confidence_shrinkage not in pb.ConfidenceShrinkage.values():
        yield FieldViolation(f"{path}.confidence_shrinkage", "UNKNOWN_VALUE", "is not known")


def model_violations(message: pb.SizingParameters, path: str) -> Iterator[FieldViolation]:
    """Models where none is asked: in variations, which have the base's, and in backtests."""
    for name in ("edge_model_id", "size_model_id"):
        if message.HasField(name):
            yield FieldViolation(f"{path}.{name}", "NOT_APPLICABLE", "no model is asked here")


def duration_violations(
    duration: Any, path: str, most_s: float = TTL_MAX_S
) -> Iterator[FieldViolation]:
    """A duration from one second to `most_s`."""
    value = seconds(duration)
    if not (1.0 <= value <= most_s and 0 <= duration.nanos < 1_000_000_000):
        text = f"is {value:g} s; it must be from 1 s to {most_s / 86400.0:g} days"
        yield FieldViolation(path, "OUT_OF_RANGE", text)
