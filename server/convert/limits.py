"""Limits and shared limits between the contract, the domain and the stored document."""

from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from positionsizing.v1 import limits_pb2, portfolio_service_pb2

from compute.correlation.linkage import Linkage
from compute.limits.policy import (
    ClusterLimit,
    GroupLimit,
    InstrumentLimit,
    JointLimits,
    Limits,
    LinearLimit,
    SaleProceeds,
    SharedLimits,
    StressLimit,
    TailLimit,
)
from compute.risk.tail_method import PARETO_FRACTION, TailKind, TailMethod
from compute.shapes import GROUPS_MAX
from server.calls.errors import FieldViolation
from server.convert.currencies import currency_violations
from server.convert.names import id_violations, text_violations
from server.convert.stored import read_stored

TAILS_MAX = CLUSTERS_MAX = 8
STRESS_MAX = 32
_TAIL_METHODS = tuple(int(method) for method in TailMethod)


def document(message: Message) -> dict[str, Any]:
    """The form that is stored: proto JSON with the names of the contract."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def limits_of_document(stored: dict[str, Any]) -> Limits:
    """Limits from their stored form."""
    return limits(parse_limits(stored))


def parse_limits(stored: dict[str, Any]) -> limits_pb2.Limits:
    """The message from its stored form."""
    return read_stored(stored, limits_pb2.Limits())


def parse_shared(stored: dict[str, Any]) -> portfolio_service_pb2.SharedLimits:
    """The message of shared limits from its stored form."""
    return read_stored(stored, portfolio_service_pb2.SharedLimits())


def shared_of_document(stored: dict[str, Any]) -> SharedLimits:
    """Shared limits from their stored form."""
    return shared(parse_shared(stored))


def shared(message: portfolio_service_pb2.SharedLimits) -> SharedLimits:
    """The domain's shared limits."""
    return SharedLimits(**_given(message), currency=message.currency or None)


def limits(message: limits_pb2.Limits) -> Limits:
    """The domain's limits; the message has been checked (`violations`)."""
    given = _given(message)
    if "day_loss_max" in given:  # what a wider scope says nothing of no narrower one can grant
        given.setdefault("day_loss_resumes", False)
    return Limits(
        **given,
        instruments={
            item.instrument_id: InstrumentLimit(**_given(item)) for item in message.instruments
        },
        groups=tuple(
            GroupLimit(
                name=item.name,
                instrument_ids=frozenset(item.instrument_ids),
                sector=item.sector,
                **_given(item),
            )
            for item in message.groups
        ),
        clusters=tuple(
            ClusterLimit(
                name=item.name,
                linkage=Linkage(item.linkage),
                opposites_are_alike=item.opposites_are_alike,
                **_given(item),
            )
            for item in message.clusters
        ),
        restricted=frozenset(message.restricted_instrument_ids),
        currency=message.currency or None,
        sale_proceeds=SaleProceeds(message.sale_proceeds) if message.sale_proceeds else None,
        joint=JointLimits(
            **_given(message.joint),
            linear=linear(message.joint),
            tails=tails(message.joint),
            stress=stress(message.joint),
        ),
    )


def linear(message: limits_pb2.JointLimits) -> tuple[LinearLimit, ...]:
    """Linear limits by name."""
    return tuple(
        LinearLimit(
            name=item.name,
            coefficients=dict(zip(item.instrument_ids, item.coefficients, strict=True)),
            **_given(item),
        )
        for item in message.linear
    )


def stress(message: limits_pb2.JointLimits) -> tuple[StressLimit, ...]:
    """Limits on losses in stored stress scenarios."""
    return tuple(StressLimit(item.scenario_id, item.loss_max) for item in message.stress)


def tails(message: limits_pb2.JointLimits) -> tuple[TailLimit, ...]:
    """Limits on tails by named methods."""
    return tuple(
        TailLimit(TailKind(item.measure), TailMethod(item.method), item.bound, **_given(item))
        for item in message.tails
    )


def _given(message: Message) -> dict[str, Any]:
    """The optional scalar fields that are set."""
    return {
        field.name: getattr(message, field.name)
        for field in message.DESCRIPTOR.fields
        if field.has_presence and field.message_type is None and message.HasField(field.name)
    }


def book_only_violations(message: limits_pb2.Limits, path: str) -> Iterator[FieldViolation]:
    """Limits that belong to books, in those of a strategy, a request or a variation."""
    for name in ("day_loss_max", "day_loss_resumes"):
        if message.HasField(name):
            text = "is for the firm, a group or a portfolio: it moves a portfolio's trading state"
            yield FieldViolation(f"{path}.{name}", "NOT_APPLICABLE", text)


def violations(message: limits_pb2.Limits, path: str) -> Iterator[FieldViolation]:
    """What is wrong with limits but their numbers, by field path below `path`."""
    yield from _names(message, path)
    for position, item in enumerate(message.instruments):
        where = f"{path}.instruments[{position}]"
        if not item.instrument_id:
            yield FieldViolation(f"{where}.instrument_id", "MISSING", "must be given")
    yield from _unique([i.instrument_id for i in message.instruments], f"{path}.instruments")
    restricted = list(message.restricted_instrument_ids)
    yield from _unique(restricted, f"{path}.restricted_instrument_ids")
    for position, group in enumerate(message.groups):
        yield from _group(group, f"{path}.groups[{position}]")
    yield from _unique([group.name for group in message.groups], f"{path}.groups")
    yield from _cluster_violations(message, f"{path}.clusters")
    yield from joint_violations(message.joint, f"{path}.joint")
    if message.currency:
        yield from currency_violations(message.currency, f"{path}.currency")
    if message.sale_proceeds not in limits_pb2.SaleProceeds.values():
        text = f"is {message.sale_proceeds}; it must be WHEN_FILLED or AT_ONCE"
        yield FieldViolation(f"{path}.sale_proceeds", "OUT_OF_RANGE", text)
    if _empty_range(message, "net_weight_min", "net_weight_max"):
        yield FieldViolation(f"{path}.net_weight_min", "EMPTY_RANGE", "is above net_weight_max")


def _names(message: limits_pb2.Limits, path: str) -> Iterator[FieldViolation]:
    """Names that can be stored, and no more groups than the kernels have room for."""
    for position, name in enumerate(message.restricted_instrument_ids):
        yield from text_violations(name, f"{path}.restricted_instrument_ids[{position}]")
    for position, item in enumerate(message.instruments):
        yield from text_violations(
            item.instrument_id, f"{path}.instruments[{position}].instrument_id"
        )
    for position, group in enumerate(message.groups):
        where = f"{path}.groups[{position}]"
        yield from text_violations(group.name, f"{where}.name")
        yield from text_violations(group.sector, f"{where}.sector")
        for place, name in enumerate(group.instrument_ids):
            yield from text_violations(name, f"{where}.instrument_ids[{place}]")
    if len(message.groups) > GROUPS_MAX:
        text = f"has {len(message.groups)} entries; at most {GROUPS_MAX} are accepted"
        yield FieldViolation(f"{path}.groups", "TOO_MANY", text)


def _group(group: limits_pb2.GroupLimit, path: str) -> Iterator[FieldViolation]:
    yield from _unique(list(group.instrument_ids), f"{path}.instrument_ids")
    if not group.name:
        yield FieldViolation(f"{path}.name", "MISSING", "must be given")
    if bool(group.sector) == bool(len(group.instrument_ids)):
        text = "give exactly one of instrument_ids and sector"
        yield FieldViolation(f"{path}.instrument_ids", "AMBIGUOUS", text)


def _cluster_violations(message: limits_pb2.Limits, path: str) -> Iterator[FieldViolation]:
    if len(message.clusters) > CLUSTERS_MAX:
        text = f"has {len(message.clusters)} entries; at most {CLUSTERS_MAX} are accepted"
        yield FieldViolation(path, "TOO_MANY", text)
    yield from _unique([item.name for item in message.clusters], path)
    for position, item in enumerate(message.clusters):
        where = f"{path}[{position}]"
        yield from text_violations(item.name, f"{where}.name")
        if not item.name:
            yield FieldViolation(f"{where}.name", "MISSING", "must be given")
        if int(item.linkage) not in tuple(Linkage):
            text = f"must be one of {', '.join(Linkage.__members__)}"
            yield FieldViolation(f"{where}.linkage", "MISSING", text)
        if item.HasField("distance_max") == item.HasField("cluster_count"):
            text = "give exactly one of distance_max and cluster_count"
            yield FieldViolation(f"{where}.distance_max", "AMBIGUOUS", text)
        net = [name for name in ("net_weight_min", "net_weight_max") if item.HasField(name)]
        if not net and not item.HasField("gross_weight_max"):
            text = "must be given, or a net bound: the limit bounds nothing"
            yield FieldViolation(f"{where}.gross_weight_max", "MISSING", text)
        if item.opposites_are_alike and net:
            text = "says nothing of instruments that move against each other"
            yield FieldViolation(f"{where}.{net[0]}", "NOT_APPLICABLE", text)


def joint_violations(joint: limits_pb2.JointLimits, path: str) -> Iterator[FieldViolation]:
    """What is wrong with joint limits but their numbers, by field path below `path`."""
    pair = ("wealth_floor", "wealth_floor_probability")
    for name, other in (pair, pair[::-1]):
        if not joint.HasField(name) and joint.HasField(other):  # type: ignore[arg-type]
            text = f"must be given with {other}: one without the other limits nothing"
            yield FieldViolation(f"{path}.{name}", "MISSING", text)
    for position, row in enumerate(joint.linear):
        where = f"{path}.linear[{position}]"
        for name in (row.name, *row.instrument_ids):
            yield from text_violations(name, where)
        if not row.name:
            yield FieldViolation(f"{where}.name", "MISSING", "must be given")
        if len(row.coefficients) != len(row.instrument_ids):
            text = f"has {len(row.coefficients)} entries for {len(row.instrument_ids)} instruments"
            yield FieldViolation(f"{where}.coefficients", "LENGTH_MISMATCH", text)
        yield from _unique(list(row.instrument_ids), f"{where}.instrument_ids")
        if _empty_range(row, "lower", "upper"):
            yield FieldViolation(f"{where}.lower", "EMPTY_RANGE", "is above upper")
    yield from _unique([row.name for row in joint.linear], f"{path}.linear")
    yield from _tail_violations(joint, f"{path}.tails")
    yield from _stress_violations(joint, f"{path}.stress")


def _stress_violations(joint: limits_pb2.JointLimits, path: str) -> Iterator[FieldViolation]:
    if len(joint.stress) > STRESS_MAX:
        text = f"has {len(joint.stress)} entries; at most {STRESS_MAX} are accepted"
        yield FieldViolation(path, "TOO_MANY", text)
    for position, item in enumerate(joint.stress):
        yield from id_violations(item.scenario_id, f"{path}[{position}].scenario_id")
    yield from _unique([item.scenario_id for item in joint.stress], path)


def _tail_violations(joint: limits_pb2.JointLimits, path: str) -> Iterator[FieldViolation]:
    if len(joint.tails) > TAILS_MAX:
        text = f"has {len(joint.tails)} entries; at most {TAILS_MAX} are accepted"
        yield FieldViolation(path, "TOO_MANY", text)
    for position, tail in enumerate(joint.tails):
        where, method = f"{path}[{position}]", tail.method
        if tail.measure not in limits_pb2.TailMeasure.values()[1:]:
            text = "must be VALUE_AT_RISK or EXPECTED_SHORTFALL"
            yield FieldViolation(f"{where}.measure", "MISSING", text)
        if method not in _TAIL_METHODS:
            names = ", ".join(TailMethod(value).name for value in _TAIL_METHODS)
            yield FieldViolation(f"{where}.method", "MISSING", f"must be one of {names}")
        least = 1.0 - PARETO_FRACTION
        is_fitted = int(method) == int(TailMethod.EXTREME_VALUE)
        if is_fitted and tail.HasField("level") and tail.level < least:
            text = f"is {tail.level:g}; the tail that EXTREME_VALUE fits begins at {least:g}"
            yield FieldViolation(f"{where}.level", "OUT_OF_RANGE", text)


def _empty_range(message: Message, low: str, high: str) -> bool:
    given = _given(message)
    return low in given and high in given and given[low] > given[high]


def _unique(names: list[str], path: str) -> Iterator[FieldViolation]:
    seen: set[str] = set()
    for position, name in enumerate(names):
        if name in seen:
            yield FieldViolation(f"{path}[{position}]", "DUPLICATE", f"{name!r} is given twice")
        seen.add(name)
