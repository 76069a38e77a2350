"""Every number of the contract has words, and every error says what to do."""

import json

import pytest
from google.protobuf.descriptor import EnumValueDescriptor
from positionsizing.v1 import sizing_pb2, types_pb2

from server.cli import labels
from server.cli.errors import CommandError, report
from server.cli.render import summary_lines
from server.config import ConfigError
from storage.errors import Unavailable

STAGES = [value for value in types_pb2.SizingStage.DESCRIPTOR.values if value.number]
LIMITS = [value for value in types_pb2.LimitKind.DESCRIPTOR.values if value.number]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.4567, "1.4567"),
        (0.4, "0.4"),
        (-0.0, "0"),
        (12_345.678, "12,345.7"),
        (99_999.6, "99,999.6"),
        (1_085_401.9069892, "1,085,402"),
        (-250_000.4, "-250,000"),
    ],
)
def test_an_amount_has_six_digits_at_least(value: float, shown: str) -> None:
    assert labels.money(value) == shown


@pytest.mark.parametrize("stage", STAGES, ids=lambda value: value.name)
def test_every_stage_has_a_name_and_a_reason(stage: EnumValueDescriptor) -> None:
    name, why = labels.stage_label(stage.number)
    assert name, f"give {stage.name} a label in types.proto"
    assert why, f"say in the label of {stage.name} what it does"


@pytest.mark.parametrize("kind", LIMITS, ids=lambda value: value.name)
def test_every_limit_has_words(kind: EnumValueDescriptor) -> None:
    text = labels.limit_text(kind.number, 0.25, "energy")
    assert text != f"limit {kind.number}", f"give {kind.name} a label in types.proto"
    assert "{" not in text


@pytest.mark.parametrize(
    ("kind", "bound", "value", "shown"),
    [
        ("WEIGHT_MAX", 0.08, 0.08005, ("at most 8.000% of equity in one instrument", "8.005%")),
        ("WEIGHT_MAX", 0.08, 0.3, ("at most 8.00% of equity in one instrument", "30.00%")),
        ("CASH", 0.0, -2.5, ("0 of cash to spend", "-2.5")),
        ("NOTIONAL_MAX", 1e6, 1e6 + 0.25, ("at most 1,000,000.0 in one instrument", "1,000,000.2")),
    ],
)
def test_a_limit_and_what_passes_it_are_told_apart(
    kind: str, bound: float, value: float, shown: tuple[str, str]
) -> None:
    number = types_pb2.LimitKind.Value(f"LIMIT_KIND_{kind}")
    assert labels.limit_and_value(number, bound, value) == shown


def test_numbers_of_a_newer_release_are_shown_as_they_are() -> None:
    assert labels.stage_label(999) == ("999", "")
    assert labels.limit_text(999, 1.0) == "limit 999"
    assert labels.enum_words(types_pb2.LineStatus, 999, "LINE_STATUS_") == "999"


def test_percentages_have_no_negative_zero() -> None:
    assert labels.percent(-0.0) == "0.00%"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandError("no such thing", "do this"), 1),
        (ConfigError("SIZING_X is not a setting"), 2),
        (Unavailable("no database"), 1),
        (PermissionError(13, "denied"), 1),
        (ZeroDivisionError("division by zero"), 1),
    ],
)
def test_errors_are_said_in_words(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error, as_json=False) == code
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said
    assert report(error, as_json=True) == code
    shown = json.loads(capsys.readouterr().err)["error"]
    assert shown["message"] in said


def test_the_end_of_a_reservation_is_said_to_the_second() -> None:
    decision = sizing_pb2.SizingDecision(decision_id="d")
    decision.reservation_expire_time.FromJsonString("2026-11-30T20:48:12.111150Z")
    assert "decision d, reserved until 2026-11-30 20:48:12 UTC" in summary_lines(decision)
