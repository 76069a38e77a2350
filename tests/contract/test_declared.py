"""What is declared once is all that the contract has, and the other way round."""

import re
import subprocess
import sys
from dataclasses import fields
from enum import Enum
from pathlib import Path

import pytest
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from positionsizing.v1 import (
    events_pb2,
    limits_pb2,
    optimization_service_pb2,
    parameter_service_pb2,
    sizing_pb2,
    types_pb2,
)

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
from compute.methods import Engine, Method
from compute.optimize.problem import ObjectiveKind
from compute.parameters import PARAMETERS, EffectiveParameters, Form, Parameter, RobustSet
from compute.waterfall.layout import Source, Stage
from compute.waterfall.stake_rules import RULES
from server.convert.parameters import MESSAGES
from server.convert.portfolio_changed import PortfolioChange

CONTRACT = parameter_service_pb2.SizingParameters.DESCRIPTOR.fields_by_name
NUMBERS = {
    float: FieldDescriptor.CPPTYPE_DOUBLE,
    int: FieldDescriptor.CPPTYPE_INT32,
}


def check_parameters(contract: set[str], declared: set[str]) -> None:
    missing = contract - declared
    assert not missing, f"add to EffectiveParameters of compute/parameters.py: {sorted(missing)}"
    unknown = declared - contract
    assert not unknown, f"add to SizingParameters of parameter_service.proto: {sorted(unknown)}"


def test_every_parameter_of_the_contract_is_declared_and_the_reverse() -> None:
    check_parameters(set(CONTRACT), {p.contract_name for p in PARAMETERS})


def test_a_parameter_without_its_other_half_says_where_that_goes() -> None:
    with pytest.raises(AssertionError, match=r"compute/parameters.py: \['new'\]"):
        check_parameters({"new"}, set())
    with pytest.raises(AssertionError, match=r"parameter_service.proto: \['new'\]"):
        check_parameters(set(), {"new"})


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
WITHOUT_A_KIND |= {"day_loss_max"}  # moves the trading state, which REDUCING_ONLY tells


@pytest.mark.parametrize("record", [Limits, InstrumentLimit, GroupLimit, JointLimits, SharedLimits])
def test_every_number_that_bounds_has_a_kind_to_be_told_by(record: type) -> None:
    stated = {name for kind in LimitKind for name in kind.fields}
    numbers = {item.name for item in fields(record) if item.metadata.get("range") is not None}
    missing = numbers - stated - WITHOUT_A_KIND
    assert not missing, f"name them in LimitKind of compute/limits/policy.py: {sorted(missing)}"


def check_stages(contract: list[str], declared: list[str]) -> None:
    missing, unknown = set(contract) - set(declared), set(declared) - set(contract)
    assert not missing, f"add to Stage of compute/waterfall/layout.py: {sorted(missing)}"
    assert not unknown, f"add to SizingStage of types.proto: {sorted(unknown)}"
    assert declared == contract, (
        "make their order the same in compute/waterfall/layout.py and types.proto"
    )


def test_stages_are_those_of_the_contract_in_its_order() -> None:
    values = types_pb2.SizingStage.DESCRIPTOR.values[1:]
    theirs = [item.name.removeprefix("SIZING_STAGE_") for item in values]
    of_the_host = {"ALGORITHM", "LOTS"}  # in the place of the optimum, and the last row
    check_stages([name for name in theirs if name not in of_the_host], [s.name for s in Stage])


def check_rules(stages: list[Stage], rules: list[Stage]) -> None:
    missing = [stage.name for stage in stages if stage not in rules]
    assert not missing, f"add a StakeRule to RULES of compute/waterfall/stake_rules.py: {missing}"
    assert rules == stages, (
        "make the order of RULES in compute/waterfall/stake_rules.py that of Stage"
    )


def test_the_stages_of_a_stake_have_a_rule_each() -> None:
    between = [stage for stage in Stage if Stage.COST < stage < Stage.JOINT_OPTIMUM]
    check_rules(between, [rule.stage for rule in RULES])


def test_a_stage_without_its_parts_says_what_to_add() -> None:
    with pytest.raises(AssertionError, match=r"compute/waterfall/layout.py: \['NEW'\]"):
        check_stages(["OLD", "NEW"], ["OLD"])
    with pytest.raises(AssertionError, match=r"types.proto: \['NEW'\]"):
        check_stages(["OLD"], ["OLD", "NEW"])
    with pytest.raises(AssertionError, match=r"their order the same"):
        check_stages(["A", "B"], ["B", "A"])
    with pytest.raises(AssertionError, match=r"compute/waterfall/stake_rules.py: \['ROBUST'\]"):
        check_rules([Stage.CONFIDENCE, Stage.ROBUST], [Stage.CONFIDENCE])


def test_objectives_are_those_of_the_contract() -> None:
    values = optimization_service_pb2.ObjectiveKind.DESCRIPTOR.values[1:]
    theirs = {item.name.removeprefix("OBJECTIVE_KIND_") for item in values}
    missing, unknown = (
        theirs - set(ObjectiveKind.__members__),
        set(ObjectiveKind.__members__) - theirs,
    )
    assert not missing, f"add to ObjectiveKind of compute/optimize/problem.py: {sorted(missing)}"
    assert not unknown, f"add to ObjectiveKind of optimization_service.proto: {sorted(unknown)}"


@pytest.mark.parametrize("method", Method, ids=lambda method: method.name)
def test_a_method_has_what_its_engine_needs(method: Method) -> None:
    text = f"give {method.name} its function in compute/methods.py, or another engine"
    assert (method.target is not None) == (method.engine is Engine.TARGET), text


def test_changes_of_portfolios_are_those_of_the_contract() -> None:
    values = events_pb2.PortfolioChangeKind.DESCRIPTOR.values[1:]
    theirs = {item.name.removeprefix("PORTFOLIO_CHANGE_KIND_") for item in values}
    assert {kind.value for kind in PortfolioChange} == theirs


def test_the_tables_of_the_documentation_are_up_to_date() -> None:
    command = [sys.executable, "-m", "protos.reference", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_files_that_contributors_are_sent_to_are_there() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:protos|compute|server|tests|docs)/[\w./]+)`", page))
    assert len(named) > 20
    absent = [path for path in sorted(named) if not (root / path).exists()]
    assert not absent
