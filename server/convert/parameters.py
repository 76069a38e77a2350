"""Sizing parameters between the contract, the domain and the stored document.

What a parameter is, `compute.parameters` declares; here is how each form of them is read, written
and checked. Only a parameter that is a message of its own needs an entry (`MESSAGES`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from positionsizing.v1 import optimization_service_pb2
from positionsizing.v1 import parameter_service_pb2 as pb

from compute.parameters import (
    DURATION_MAX_S,
    PARAMETERS,
    DrawdownTolerance,
    EffectiveParameters,
    Form,
    Given,
    Parameter,
    Robust,
    RobustSet,
    merged,
)
from server.calls.errors import FieldViolation
from server.convert import algorithm as algorithm_convert
from server.convert import condition as condition_convert
from server.convert import objective as objective_convert
from server.convert import schedule as schedule_convert
from server.convert.names import id_violations
from server.convert.stored import read_stored

_FIELDS = pb.SizingParameters.DESCRIPTOR.fields_by_name


@dataclass(frozen=True)
class _Codec:
    """How a parameter that is a message is read, written and checked; numbers are checked before.

    `violations` gets the message and the path of its field.
    """

    read: Callable[[Any], Any]
    write: Callable[[Any], Message]
    violations: Callable[[Any, str], Iterable[FieldViolation]] = lambda message, path: ()


def _robust_violations(message: pb.RobustEdge, path: str) -> Iterator[FieldViolation]:
    if message.set not in pb.UncertaintySet.values()[1:]:
        yield FieldViolation(f"{path}.set", "UNKNOWN_VALUE", "is not known")
    has_time = message.set == pb.UNCERTAINTY_SET_UNCORRELATED
    if has_time and message.radius:
        yield FieldViolation(f"{path}.radius", "NOT_APPLICABLE", "is not read by UNCORRELATED")
    for name in ("periods", "probability"):
        given = getattr(message, name)
        if has_time and not given:
            yield FieldViolation(
                f"{path}.{name}", "MISSING", "is required with the set UNCORRELATED"
            )
        elif given and not has_time:
            text = "is read by the set UNCORRELATED alone"
            yield FieldViolation(f"{path}.{name}", "NOT_APPLICABLE", text)


def _objective_violations(
    message: optimization_service_pb2.Objective, path: str
) -> Iterator[FieldViolation]:
    yield from objective_convert.violations(message, 0, path)


MESSAGES: Mapping[str, _Codec] = {
    "drawdown_tolerance": _Codec(
        lambda message: DrawdownTolerance(message.wealth_floor, message.probability),
        lambda value: pb.DrawdownTolerance(**vars(value)),
    ),
    "robust": _Codec(
        lambda message: Robust(
            RobustSet(message.set), message.radius, message.periods, message.probability
        ),
        lambda value: pb.RobustEdge(
            set=value.kind,
            radius=value.radius,
            periods=value.periods,
            probability=value.probability,
        ),
        _robust_violations,
    ),
    "joint_objective": _Codec(
        objective_convert.objective, objective_convert.message_of, _objective_violations
    ),
    "schedule": _Codec(
        schedule_convert.schedule, schedule_convert.message_of, schedule_convert.violations
    ),
    "condition_rules": _Codec(
        condition_convert.rules, condition_convert.message_of, condition_convert.violations
    ),
    "algorithm": _Codec(
        algorithm_convert.choice, algorithm_convert.message_of, algorithm_convert.violations
    ),
}
"""Of each parameter that is a message."""


def parameters(message: pb.SizingParameters) -> Given:
    """What the message says, in the domain's form; it has been checked (`violations`)."""
    return {p.name: _read(p, getattr(message, p.contract_name)) for p in _said(message)}


def _said(message: pb.SizingParameters) -> Iterator[Parameter]:
    """The parameters that a message sets; a choice left at 0 is not set."""
    for p in PARAMETERS:
        name = p.contract_name
        field = _FIELDS[name]
        if message.HasField(name) if field.has_presence else getattr(message, name):  # type: ignore[arg-type]
            yield p


def _read(parameter: Parameter, value: Any) -> Any:
    match parameter.form:
        case Form.DURATION:
            return seconds(value)
        case Form.CHOICE:
            return parameter.type(value)
        case Form.MESSAGE:
            return MESSAGES[parameter.name].read(value)
    return value


def seconds(duration: Any) -> float:
    """A google.protobuf.Duration in seconds."""
    return float(duration.seconds + duration.nanos * 1e-9)


def message_of(effective: EffectiveParameters) -> pb.SizingParameters:
    """The contract's form of parameters with every default filled in."""
    message = pb.SizingParameters()
    effective = replace(effective, correlation_penalty=effective.penalty)
    for p in PARAMETERS:
        value = getattr(effective, p.name)
        if value is None or (p.form is Form.MESSAGE and value == p.default):
            continue
        match p.form:
            case Form.DURATION:
                getattr(message, p.contract_name).FromNanoseconds(round(value * 1e9))
            case Form.MESSAGE:
                getattr(message, p.contract_name).CopyFrom(MESSAGES[p.name].write(value))
            case _:
                setattr(message, p.contract_name, value)
    return message


def effective(documents: Iterable[Mapping[str, Any]]) -> EffectiveParameters:
    """Of stored documents, the most special first."""
    return merged(parameters(parse(dict(item))) for item in reversed(list(documents)))


def document(message: pb.SizingParameters) -> dict[str, Any]:
    """The form that is stored: proto JSON with the names of the contract."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def parse(stored: dict[str, Any]) -> pb.SizingParameters:
    """The message from its stored form."""
    return read_stored(stored, pb.SizingParameters())


def violations(message: pb.SizingParameters, path: str) -> Iterator[FieldViolation]:
    """What is wrong with parameters but their numbers, by field path below `path`."""
    for p in _said(message):
        value, where = getattr(message, p.contract_name), f"{path}.{p.contract_name}"
        match p.form:
            case Form.DURATION:
                yield from duration_violations(value, where, p.most_s)
            case Form.IDENTIFIER:
                yield from id_violations(value, where)
            case Form.MESSAGE:
                yield from MESSAGES[p.name].violations(value, where)
            case Form.CHOICE:
                yield from _choice_violations(value, _FIELDS[p.contract_name], where)


def _choice_violations(value: int, field: FieldDescriptor, path: str) -> Iterator[FieldViolation]:
    assert field.enum_type is not None
    if value not in field.enum_type.values_by_number:
        known = ", ".join(item.name for item in field.enum_type.values[1:])
        yield FieldViolation(path, "UNKNOWN_VALUE", f"is {value}; it must be one of {known}")


def model_violations(message: pb.SizingParameters, path: str) -> Iterator[FieldViolation]:
    """Models where none is asked: in variations, which have the base's, and in backtests."""
    for name in ("edge_model_id", "size_model_id"):
        if message.HasField(name):
            yield FieldViolation(f"{path}.{name}", "NOT_APPLICABLE", "no model is asked here")


def duration_violations(
    duration: Any, path: str, most_s: float = DURATION_MAX_S
) -> Iterator[FieldViolation]:
    """A duration from one second to `most_s`."""
    value = seconds(duration)
    if not (1.0 <= value <= most_s and 0 <= duration.nanos < 1_000_000_000):
        text = f"is {value:g} s; it must be from 1 s to {most_s / 86400.0:g} days"
        yield FieldViolation(path, "OUT_OF_RANGE", text)
