"""Every number that a caller may give has a range, or a reason to have none, and says it."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from compute.ranges import RANGES
from compute.value_range import Range
from protos.reference import comments
from server.convert.ranges import NUMBERS

PROTOS = Path(__file__).parents[2] / "protos" / "positionsizing" / "v1"
OWN_CHECKS = {"correlation_service", "risk_service"}
"""Services whose numbers are checked by their own conversion alone, not by the table yet."""
SERVICES = [
    importlib.import_module(f"positionsizing.v1.{path.stem}_pb2")
    for path in sorted(PROTOS.glob("*_service.proto"))
    if path.stem not in OWN_CHECKS
]
EXEMPT = {
    "Portfolio.version": "set by the service; what a caller sends is not read",
    "Webhook.pending_count": "set by the service; what a caller sends is not read",
}


def messages() -> dict[str, Descriptor]:
    """All message types that requests are made of, but times and durations."""
    found: dict[str, Descriptor] = {}

    def walk(descriptor: Descriptor) -> None:
        if descriptor.name in found or descriptor.full_name.startswith("google."):
            return
        found[descriptor.name] = descriptor
        for field in descriptor.fields:
            if field.message_type is not None:
                walk(field.message_type)

    for module in SERVICES:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                walk(method.input_type)
    return found


def numbers() -> Iterator[tuple[str, FieldDescriptor]]:
    for name, descriptor in messages().items():
        for field in descriptor.fields:
            if field.cpp_type in NUMBERS:
                yield f"{name}.{field.name}", field


def test_every_number_has_a_range_or_a_reason_to_have_none() -> None:
    fields = dict(numbers())
    missing = sorted(fields.keys() - RANGES.keys() - EXEMPT.keys())
    assert not missing, f"add these to compute/ranges.py: {missing}"
    assert not RANGES.keys() - fields.keys(), "ranges of fields that no request has"
    assert not RANGES.keys() & EXEMPT.keys()


@pytest.mark.parametrize("name", RANGES)
def test_the_contract_names_the_range(name: str) -> None:
    assert RANGES[name].text in comments()[name].replace("From ", "from "), comments()[name]


@pytest.mark.parametrize("name", RANGES)
def test_what_is_no_number_is_in_no_range(name: str) -> None:
    allowed = RANGES[name]
    wrong = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324])
    assert allowed.wrong(wrong).all()
    assert not allowed.holds(wrong[:1])
    assert allowed.holds(np.array([allowed.least, allowed.most], dtype=np.float64))
    assert allowed.holds(np.array([]))
    assert allowed.holds(np.zeros(1)) == (allowed.or_zero or allowed.least <= 0 <= allowed.most)


def test_ranges_are_told_as_people_write_them() -> None:
    assert Range(1e-9, 1e9).text == "from 1e-9 to 1e9"
    assert Range(-0.5, 0.99999).text == "from -0.5 to 0.99999"
    assert Range(2, 200, or_zero=True).text == "0 or from 2 to 200"
    assert Range(0, 2**31 - 1).text == "from 0 to 2147483647"
    hinted = RANGES["SignalBatch.expected_return"]
    assert "12 % is 0.12" in hinted.advice(12.0)
    assert "percent" not in hinted.advice(-2.0)
