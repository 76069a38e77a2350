"""Variations of recorded decisions between the contract and the domain."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from positionsizing.v1 import explanation_service_pb2 as pb
from positionsizing.v1 import limits_pb2, parameter_service_pb2

from compute.limits.policy import JointLimits, Limits
from compute.limits.tightest import SAFE
from compute.money.currency import in_base
from compute.parameters import PARAMETERS
from server.calls.errors import FieldViolation, Refusal
from server.convert import limits as limits_convert
from server.convert import parameters as parameters_convert
from server.convert.names import id_violations, optional_moment
from server.convert.ranges import number_violations
from server.convert.variation_parameters import not_applicable

VARIATIONS_MAX = 100
_LOOKED_UP = frozenset(
    {
        "market_age_max_s",
        "portfolio_age_max_s",
        "matrix_age_max_s",
        "covariance_universe",
        "schedule",
        "edge_half_life_s",
        "drawdown_floor",
        "drawdown_multiplier",
        "equity_floor",
        "condition_rules",
        "volatility_model",
        "equity_jump_max",
    }
)
"""Parameters that were read when the decision was made; what came of them is in its record."""
_CONTRACT_NAME = {p.name: p.contract_name for p in PARAMETERS}
_DOMAIN_NAME = {"restricted_instrument_ids": "restricted"}
_JOINT = "joint."
_STRANGE = frozenset({"currency", "foreign", "joint", "day_loss_max", "day_loss_resumes"})
"""Fields of limits that bound no decision by themselves."""


def violations(request: pb.WhatIfDecisionRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request before anything is read, by field path."""
    count = len(request.variations)
    if not 1 <= count <= VARIATIONS_MAX:
        text = f"has {count} entries; 1 to {VARIATIONS_MAX} are accepted"
        yield FieldViolation("variations", "OUT_OF_RANGE", text)
        return
    for place, variation in enumerate(request.variations):
        yield from _violations(variation, f"variations[{place}]")


def _violations(variation: pb.DecisionVariation, path: str) -> Iterator[FieldViolation]:
    yield from number_violations(variation, path)
    change, where = variation.change, f"{path}.change"
    wrong = list(parameters_convert.violations(change.parameters, f"{where}.parameters"))
    yield from wrong or _parameters(change.parameters, f"{where}.parameters")
    for name, message in (
        (f"{where}.limits", change.limits),
        (f"{path}.limits_instead", variation.limits_instead),
    ):
        yield from limits_convert.violations(message, name)
        yield from limits_convert.book_only_violations(message, name)
    for name in ("market_snapshot_id", "scenario_matrix_id", "covariance_matrix_id"):
        if given := getattr(variation, name):
            yield from id_violations(given, f"{path}.{name}")
    if variation.market_snapshot_id and variation.HasField("market_time"):
        text = "give market_snapshot_id or market_time, not both"
        yield FieldViolation(f"{path}.market_time", "AMBIGUOUS", text)
    try:
        optional_moment(variation, "market_time", f"{path}.market_time")
    except Refusal as refusal:
        yield from refusal.fields
    for place, name in enumerate(variation.limits_lifted):
        if not _is_liftable(name):
            text = f"{name[:60]!r} is no limit, such as 'turnover_max' or 'joint.cvar_max'"
            yield FieldViolation(f"{path}.limits_lifted[{place}]", "UNKNOWN_FIELD", text)


def _parameters(
    message: parameter_service_pb2.SizingParameters, path: str
) -> Iterator[FieldViolation]:
    yield from not_applicable(message, path)
    for name in parameters_convert.parameters(message):
        if name in _LOOKED_UP:
            text = "was looked up when the decision was made; what came of it is recorded"
            yield FieldViolation(f"{path}.{_CONTRACT_NAME[name]}", "NOT_APPLICABLE", text)


def _is_liftable(name: str) -> bool:
    if name.startswith(_JOINT):
        return name.removeprefix(_JOINT) in JointLimits.__dataclass_fields__
    own = _DOMAIN_NAME.get(name, name)
    return own in Limits.__dataclass_fields__ and own not in _STRANGE


def simulated_limits(
    limits: Limits, variation: pb.DecisionVariation, rates: Mapping[str, float]
) -> Limits:
    """The limits of a simulation: those in force, with what the variation says in their place.

    Raises `MissingInputError` where an amount is in a currency without a rate.
    """
    return _lifted(_instead(limits, variation.limits_instead, rates), variation.limits_lifted)


def _instead(limits: Limits, message: limits_pb2.Limits, rates: Mapping[str, float]) -> Limits:
    given = in_base(limits_convert.limits(message), rates)
    said = {_DOMAIN_NAME.get(item.name, item.name) for item, _ in message.ListFields()}
    own: dict[str, Any] = {name: getattr(given, name) for name in said - {"joint", "currency"}}
    joint = {item.name for item, _ in message.joint.ListFields()}
    inside: dict[str, Any] = {name: getattr(given.joint, name) for name in joint}
    return replace(limits, **own, joint=replace(limits.joint, **inside))


def _lifted(limits: Limits, names: Sequence[str]) -> Limits:
    """Without the named limits; what has a safe default has that."""
    neutral, joint = Limits(), JointLimits()
    own: dict[str, Any] = {}
    inside: dict[str, Any] = {}
    for name in names:
        if name.startswith(_JOINT):
            field = name.removeprefix(_JOINT)
            inside[field] = getattr(joint, field)
            continue
        field = _DOMAIN_NAME.get(name, name)
        safe = getattr(SAFE, field)
        own[field] = safe if _is_number(field) and safe is not None else getattr(neutral, field)
    return replace(limits, **own, joint=replace(limits.joint, **inside))


def _is_number(field: str) -> bool:
    return any(item.name == field and item.default is None for item in fields(Limits))
