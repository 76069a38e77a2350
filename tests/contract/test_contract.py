"""The contract: linted, compatible with the baseline, commented, and in step with the code."""

import shutil
import subprocess
import sys
from enum import IntEnum
from pathlib import Path

import pytest
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message
from positionsizing.v1 import (
    parameter_service_pb2,
    sizing_algorithm_pb2,
    sizing_pb2,
    types_pb2,
)

from compute.algorithm import COLUMNS, AlgorithmTier
from compute.limits.policy import LimitKind
from compute.methods import Method
from compute.parameters import Shrinkage
from compute.waterfall.kernels import SENSITIVE
from compute.waterfall.layout import Source, Stage
from compute.waterfall.pipeline import LineStatus
from server.convert.decision import ALGORITHM_STAGE_NUMBERS, STAGE_NUMBERS

ROOT = Path(__file__).resolve().parents[2]
BUF = Path(sys.executable).parent / "buf"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments",
    [("lint", "protos"), ("breaking", "protos", "--against", "protos/baseline.binpb")],
    ids=["lint", "breaking"],
)
def test_buf_agrees(arguments: tuple[str, ...]) -> None:
    assert BUF.exists() or shutil.which("buf"), "buf is a development dependency"
    done = run(str(BUF if BUF.exists() else "buf"), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_field_without_a_comment_is_found(tmp_path: Path) -> None:
    """Every field is commented because the linter, with the configuration in use, asks for it."""
    shutil.copytree(ROOT / "protos", tmp_path / "protos", ignore=shutil.ignore_patterns("python"))
    source = tmp_path / "protos/positionsizing/v1/limits.proto"
    text = source.read_text()
    comment = "  // Largest absolute notional of one instrument, base currency. From 0 to 1e18.\n"
    assert comment in text
    source.write_text(text.replace(comment, ""))
    done = run(str(BUF), "lint", str(tmp_path / "protos"))
    assert done.returncode != 0
    assert "COMMENT" in done.stdout.upper()


def test_generated_code_is_what_the_contract_gives() -> None:
    done = run(sys.executable, "-m", "protos.generate", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (LimitKind, types_pb2.LimitKind.DESCRIPTOR),
        (LineStatus, types_pb2.LineStatus.DESCRIPTOR),
        (Method, types_pb2.SizingMethod.DESCRIPTOR),
        (Source, sizing_pb2.EdgeSource.DESCRIPTOR),
        (AlgorithmTier, sizing_pb2.AlgorithmTier.DESCRIPTOR),
        (Shrinkage, parameter_service_pb2.ConfidenceShrinkage.DESCRIPTOR),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_numbers_mean_the_same_on_both_sides(ours: type[IntEnum], theirs: EnumDescriptor) -> None:
    common = theirs.values[0].name.removesuffix("UNSPECIFIED")
    contract = {value.name.removeprefix(common): value.number for value in theirs.values}
    contract.pop("UNSPECIFIED")
    mine = {item.name: int(item) for item in ours if item.name != "NONE" or int(item) != 0}
    assert mine == contract


def test_every_stage_has_its_number() -> None:
    names = [types_pb2.SizingStage.Name(number) for number in STAGE_NUMBERS]
    assert names == [*(f"SIZING_STAGE_{stage.name}" for stage in Stage), "SIZING_STAGE_LOTS"]
    values = set(types_pb2.SizingStage.values()) - {0}
    assert sorted({*STAGE_NUMBERS, *ALGORITHM_STAGE_NUMBERS}) == sorted(values)


def test_algorithms_are_told_every_column() -> None:
    columns: type[Message] = sizing_algorithm_pb2.LineColumns
    assert [field.name for field in columns.DESCRIPTOR.fields] == list(COLUMNS)


def test_sensitivities_have_a_column_for_each_input() -> None:
    fields: type[Message] = sizing_pb2.Sensitivities
    assert [line.name.lower() for line in SENSITIVE] == [f.name for f in fields.DESCRIPTOR.fields]
