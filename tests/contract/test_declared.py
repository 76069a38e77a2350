"""What is declared once is all that the contract has, and the other way round."""

from enum import Enum

import pytest
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from positionsizing.v1 import limits_pb2, parameter_service_pb2

from compute.limits.policy import SaleProceeds
from compute.parameters import PARAMETERS, Form, Parameter, RobustSet
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
    ],
)
def test_enumerations_inside_messages_are_those_of_the_contract(
    kind: type[Enum], contract: EnumDescriptor
) -> None:
    same_members(kind, contract)
