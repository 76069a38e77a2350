"""The table of tolerances: its values are those of the code, and each leads to the next."""

import importlib
import re
from pathlib import Path

import pytest

OPTIMIZE = Path(__file__).resolve().parents[3] / "compute" / "optimize"
ROW = re.compile(r"^\| `([\w/]+)\.py` `(\w+)` \| (\S+) \|", re.MULTILINE)
ROWS = ROW.findall((OPTIMIZE / "README.md").read_text())
NAMED = re.compile(r"^(\w*TOLERANCE|ACCEPTED|ACCEPTABLE|STALLED|_CONFLICT) *=", re.MULTILINE)
# Of a decrement that the last step squares, and so of no error.
ELSEWHERE = {("interior_point/risk_budget", "TOLERANCE")}


def value(module: str, name: str) -> float:
    found = importlib.import_module(f"compute.optimize.{module.replace('/', '.')}")
    return float(getattr(found, name))


@pytest.mark.parametrize(("module", "name", "told"), ROWS)
def test_a_row_says_what_the_code_has(module: str, name: str, told: str) -> None:
    assert value(module, name) == float(told)


def test_every_tolerance_is_in_the_table() -> None:
    found = {
        (str(path.relative_to(OPTIMIZE).with_suffix("")), name)
        for path in OPTIMIZE.rglob("*.py")
        for name in NAMED.findall(path.read_text())
    }
    assert found - ELSEWHERE <= {(module, name) for module, name, _ in ROWS}


def test_what_a_solver_stops_at_is_accepted_and_what_is_accepted_can_be_proven() -> None:
    assert [float(told) for _, _, told in ROWS] == sorted(float(told) for _, _, told in ROWS)
    stops = [value("interior_point/kernel", n) for n in ("TOLERANCE", "MU_TOLERANCE")]
    stops += [value("interior_point/kernel", "DUAL_TOLERANCE"), value("tail_lp/solve", "TOLERANCE")]
    accepted = value("interior_point/recover", "ACCEPTED")
    highs, slack = (
        value("linear_program", "TOLERANCE"),
        value("infeasibility/conflict", "TOLERANCE"),
    )
    assert max(stops) < accepted < value("proof/certificate", "TOLERANCE")
    assert highs < slack < value("tail_lp/solve", "_CONFLICT")
    assert max(float(told) for _, _, told in ROWS) == value("proof/certificate", "TOLERANCE")
