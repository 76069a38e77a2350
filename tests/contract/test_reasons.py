"""Every reason that code gives is in the catalogue, and every one of the catalogue is given."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from server.calls.reasons import REASONS, Place

ROOT = Path(__file__).parents[2]
REASON = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
ARGUMENT = {
    "Refusal": 1,
    "Refused": 1,
    "WrongValue": 1,
    "invalid": 1,
    "FieldViolation": 1,
    "precondition": 0,
    "MissingInputError": 0,
    "HistoryError": 0,
    "AlgorithmError": 0,
    "LineError": 2,
    "_found": 2,
    "_kept": 1,
    "FailedPrecondition": 3,
}
"""Which argument of a call is a reason that a caller is told."""
INSIDE = {
    "BACKUP",
    "BROKER_ADMIN_REFUSED",
    "BROKER_MISSING",
    "BROKER_UNAVAILABLE",
    "DUPLICATE_EVENT",
    "NO_LATER_PRICE",
    "OTHER",
    "PRODUCER_NAME_TAKEN",
    "REQUEST",
    "STORAGE",
    "SUPERSEDED",
}
"""Of commands, of the broker, of answers that are no errors, and roots of a tree of errors."""


def literals(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if REASON.fullmatch(node.value):
            yield node.value
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)


def given() -> dict[str, str]:
    """Reasons in the code, with a file that has each."""
    found: dict[str, str] = {}
    for package in ("server", "compute", "storage"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.name == "reasons.py" or "cli" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                for name in _reasons(node):
                    found.setdefault(name, str(path.relative_to(ROOT)))
    return found


def _reasons(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in ARGUMENT:
            given_as = [k.value for k in node.keywords if k.arg == "reason"]
            given_as += node.args[ARGUMENT[name] : ARGUMENT[name] + 1]
            prefix = "ALGORITHM_" if name == "AlgorithmError" else ""
            for value in given_as:
                yield from (prefix + text for text in literals(value))
    elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if getattr(target, "id", getattr(target, "attr", "")) == "reason":
            yield from literals(node.value)


def test_every_reason_is_in_the_catalogue() -> None:
    missing = {name: path for name, path in given().items() if name not in REASONS}
    assert set(missing) - INSIDE == set(), missing


def test_every_reason_of_the_catalogue_is_given_somewhere() -> None:
    text = "\n".join(
        path.read_text()
        for package in ("server", "compute", "storage")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "reasons.py"
    )
    unused = {
        name
        for name in REASONS
        if f'"{name}"' not in text and f'"{name.removeprefix("ALGORITHM_")}"' not in text
    }
    assert not unused


@pytest.mark.parametrize("name", REASONS)
def test_a_reason_says_where_it_is_told_and_what_to_do(name: str) -> None:
    reason = REASONS[name]
    assert REASON.fullmatch(name)
    assert reason.places
    assert len(set(reason.places)) == len(reason.places)
    assert reason.remedy.endswith(".")
    codes = {place.name for place in reason.places} - {"FIELD", "LINE"}
    for place in reason.places:
        if place not in (Place.FIELD, Place.LINE):
            assert place.value in grpc.StatusCode.__members__, codes
