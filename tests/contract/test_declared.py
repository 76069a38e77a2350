"""What is declared once is all that the contract has, and the other way round."""

import subprocess
import sys
from dataclasses import fields
from enum import Enum

import pytest
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from positionsizing.v1 import (
    limits_pb2,
    optimization_service_pb2,
    parameter_service_pb2,
    sizing_pb2,
    types_pb2,
)

from compute.layout import Source, Stage
from compute.limits.policy import (
    GroupLimit,
    Holder,
    InstrumentLimit,
    JointLimits,
    LimitKind,
    Limits,
    SaleProceeds,
    SharedLimits,
)
from compute.optimize.problem import ObjectiveKind
from compute.parameters import PARAMETERS, EffectiveParameters, Form, Parameter, RobustSet
from compute.stake_rules import RULES
from server.convert.parameters import MESSAGES

CONTRACT = parameter_service_pb2.SizingParameters.DESCRIPTOR.fields_by_name
NUMBERS = {
    float: FieldDescriptor.CPPTYPE_DOUBLE,
    int: FieldDescriptor.CPPTYPE_INT32,
}


def test_every_parameter_of_the_contract_is_declared_and_the_reverse() -> None:
    names = {p.contract_name for p in PARAMETERS}
    missing = set(CONTRACT) - names
    assert not missing, f"add to EffectiveParameters of compute/parameters.py: {sorted(missing)}"
    unknown = names - set(CONTRACT)
    assert not unknown, f"add to SizingParameters of parameter_service.proto: {sorted(unknown)}"


@pytest.mark.parametrize("p", PARAMETERS, ids=lambda p: p.name)
def test_a_parameter_has_in_the_contract_the_type_that_it_is_declared_with(p: Parameter) -> None:
    field = CONTRACT[p.contract_name]
    match p.form:
        case Form.NUMBER:
            assert field.cpp_type == NUMBERS[p.type], "declare it as the contract has it"
            assert field.has_presence, "make it `optional`: 0 is a number too"
        case Form.DURATION:
            assert field.message_type is not None
            assert field.message_type.full_name == "google.protobuf.Duration"
        case Form.IDENTIFIER:
            assert field.cpp_type == FieldDescriptor.CPPTYPE_STRING
            assert field.has_presence, "make it `optional`: the general scope's is kept if unset"
        case Form.CHOICE:
            assert field.enum_type is not None
            same_members(p.type, field.enum_type)
        case Form.MESSAGE:
            assert field.message_type is not None, (
                f"{p.name} is a plain {p.type}: declare it with `ranged` or `duration`"
            )
            assert p.name in MESSAGES, "say in server/convert/parameters.py how it is read"


def same_members(kind: type[Enum], contract: EnumDescriptor) -> None:
    """Names and numbers are those of the contract, which has one more for what is not said."""
    zero = contract.values[0].name
    prefix = zero.removesuffix("UNSPECIFIED")
    assert zero != prefix
    ours = {item.name: item.value for item in kind}
    theirs = {item.name.removeprefix(prefix): item.number for item in contract.values[1:]}
    assert ours == theirs, f"make {kind.__module__}.{kind.__name__} as the contract has it"


@pytest.mark.parametrize(
    ("kind", "contract"),
    [
        (RobustSet, parameter_service_pb2.UncertaintySet.DESCRIPTOR),
        (SaleProceeds, limits_pb2.SaleProceeds.DESCRIPTOR),
        (Source, sizing_pb2.EdgeSource.DESCRIPTOR),
    ],
)
def test_enumerations_are_those_of_the_contract(kind: type[Enum], contract: EnumDescriptor) -> None:
    same_members(kind, contract)


def test_limits_are_those_of_the_contract() -> None:
    known = LimitKind.__members__.items()
    ours = {name: int(kind) for name, kind in known if kind is not LimitKind.NONE}
    values = types_pb2.LimitKind.DESCRIPTOR.values[1:]
    theirs = {item.name.removeprefix("LIMIT_KIND_"): item.number for item in values}
    assert ours == theirs, "make LimitKind of compute/limits/policy.py as the contract has it"


HOLDERS = {
    Holder.INSTRUMENT: (InstrumentLimit,),
    Holder.GROUP: (GroupLimit,),
    Holder.LIMITS: (Limits,),
    Holder.JOINT: (JointLimits,),
    Holder.SHARED: (SharedLimits,),
    Holder.PARAMETERS: (EffectiveParameters,),
}


@pytest.mark.parametrize("kind", [k for k in LimitKind if k.holder], ids=lambda kind: kind.name)
def test_the_fields_that_state_a_limit_are_there(kind: LimitKind) -> None:
    assert kind.holder is not None
    (record,) = HOLDERS[kind.holder]
    unknown = set(kind.fields) - {item.name for item in fields(record)}
    assert not unknown, f"declare them in {record.__name__}: {sorted(unknown)}"


# What a bound is read with, and is no bound by itself.
WITHOUT_A_KIND = {"var_level", "cvar_level", "cdar_level", "fee_rate", "short_margin_rate"}
WITHOUT_A_KIND |= {"participation_rate"}


@pytest.mark.parametrize("record", [Limits, InstrumentLimit, GroupLimit, JointLimits, SharedLimits])
def test_every_number_that_bounds_has_a_kind_to_be_told_by(record: type) -> None:
    stated = {name for kind in LimitKind for name in kind.fields}
    numbers = {item.name for item in fields(record) if item.metadata.get("range") is not None}
    missing = numbers - stated - WITHOUT_A_KIND
    assert not missing, f"name them in LimitKind of compute/limits/policy.py: {sorted(missing)}"


def test_stages_are_those_of_the_contract_in_its_order() -> None:
    values = types_pb2.SizingStage.DESCRIPTOR.values[1:]
    theirs = [item.name.removeprefix("SIZING_STAGE_") for item in values]
    of_the_host = {"ALGORITHM", "LOTS"}  # in the place of the optimum, and the last row
    assert [stage.name for stage in Stage] == [name for name in theirs if name not in of_the_host]


def test_the_stages_of_a_stake_have_a_rule_each() -> None:
    first, last = Stage.COST + 1, Stage.JOINT_OPTIMUM
    wanted = [stage for stage in Stage if first <= stage < last]
    assert [rule.stage for rule in RULES] == wanted, "add a StakeRule to compute/stake_rules.py"


def test_objectives_are_those_of_the_contract() -> None:
    values = optimization_service_pb2.ObjectiveKind.DESCRIPTOR.values[1:]
    theirs = {item.name.removeprefix("OBJECTIVE_KIND_") for item in values}
    assert set(ObjectiveKind.__members__) == theirs


def test_the_tables_of_the_documentation_are_up_to_date() -> None:
    command = [sys.executable, "-m", "protos.reference", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
