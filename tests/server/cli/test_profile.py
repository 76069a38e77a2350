"""`sizing profile` against a real service: spans that nest, medians, a trace that tools read."""

import json
from pathlib import Path

from tests.server.cli.test_commands import EXAMPLES, Sizing, book, signals, sizing

__all__ = ["sizing"]


async def test_the_time_of_a_request_is_divided_and_traced(sizing: Sizing, tmp_path: Path) -> None:
    await book(sizing, "profile")
    await sizing("portfolio", "limits", "profile", "--set", str(EXAMPLES / "limits.toml"))
    trace = tmp_path / "trace.json"
    words = ("profile", *signals("profile")[1:], "--repeat", "3")
    shown = await sizing(*words, "--record", "--trace-file", str(trace))
    assert shown.code == 0, shown.err
    for span in ("round trip", "gather: portfolio state", "gather: arrays", "compute: sizes",
                 "commit: transaction", "padding"):  # fmt: skip
        assert span in shown.out
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X"]
    assert {event["args"]["request"] for event in events} == {0, 1, 2, 3}
    for number in range(4):
        mine = [event for event in events if event["args"]["request"] == number]
        (whole,) = (event for event in mine if event["name"] == "round trip")
        for event in mine:
            assert event["ts"] >= whole["ts"] - 5
            assert event["ts"] + event["dur"] <= whole["ts"] + whole["dur"] + 5
        parts = [event["dur"] for event in mine if event["name"].startswith("commit")]
        assert len(parts) == 2
        assert sum(parts) < whole["dur"]
    listed = (await sizing("decisions", "--portfolio", "profile", "--ids")).out.split()
    assert len(listed) == 4


async def test_nothing_is_recorded_unless_asked(sizing: Sizing) -> None:
    await book(sizing, "profile-dry")
    await sizing("portfolio", "limits", "profile-dry", "--set", str(EXAMPLES / "limits.toml"))
    words = ("profile", *signals("profile-dry")[1:], "--repeat", "1", "--json")
    runs = (await sizing(*words)).json["runs"]
    assert len(runs) == 2
    names = [span["name"] for span in runs[1]]
    assert "compute: sizes, limits, lots, guard" in names
    assert not [name for name in names if name.startswith("commit")]
    assert not (await sizing("decisions", "--portfolio", "profile-dry", "--ids")).out
