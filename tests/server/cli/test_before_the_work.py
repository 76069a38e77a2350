"""What is wrong with a command is said before its work, with the name of what is wrong."""

import ast
import re
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from server.cli import app, page
from server.cli.errors import _HINTS, problem_of
from tests.server.cli.test_commands import EXAMPLES

PRICES = str(EXAMPLES / "prices.csv")
NOWHERE = ("--address", "127.0.0.1:1")
"""Nothing answers there: what is refused beforehand never asks."""


def ran(*words: str) -> Result:
    return CliRunner().invoke(app, [*words])


@pytest.mark.parametrize(
    "words",
    [
        ("tune", str(EXAMPLES / "tune.toml"), "--prices", PRICES, "--proposal", "OUT"),
        ("tune", str(EXAMPLES / "tune.toml"), "--prices", PRICES, "--report", "OUT"),
        ("backtest", str(EXAMPLES / "backtest.toml"), "--prices", PRICES, "--report", "OUT"),
        ("performance", "demo", "--report", "OUT"),
        ("profile", str(EXAMPLES / "signals.csv"), "--portfolio", "p", "--trace-file", "OUT"),
        ("volatility", "fit", "garch", "--universe", "u", "--instrument", "i", "--out", "OUT"),
        ("learn", "bets", PRICES, "--out", "OUT"),
        ("audit", "verify", "--noted", "OUT"),
    ],
)
def test_a_file_that_can_not_be_written_is_refused_before_the_work(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    target = tmp_path / "nowhere" / "file"
    asked = [str(target) if word == "OUT" else word for word in words]
    found = ran(*asked, *(() if words[1] == "bets" else NOWHERE))
    assert found.exit_code == 2
    said = re.sub(r"[│\s]+", "", found.output)
    assert words[words.index("OUT") - 1] in said
    assert "thereisnofolder" in said
    assert str(target.parent).replace(" ", "") in said


def test_a_page_that_nothing_draws_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    words = ("tune", str(EXAMPLES / "tune.toml"), "--prices", PRICES)
    found = ran(*words, "--report", str(tmp_path / "tune.html"), *NOWHERE)
    assert found.exit_code == 1
    assert "plotly" in str(found.exception)


def test_bars_of_har_are_asked_for_by_the_option() -> None:
    asked = ("volatility", "fit", "log-har", "--universe", "u", "--instrument", "i", *NOWHERE)
    found = ran(*asked)
    assert found.exit_code == 2
    assert "--bars" in found.output


def test_a_market_is_named_in_one_way() -> None:
    found = ran("whatif-decision", "--snapshot", "s", "--as-of", "2022-12-28", *NOWHERE)
    assert found.exit_code == 2
    assert "--snapshot or --as-of" in found.output


def test_files_that_the_system_refuses_are_said_in_words() -> None:
    found = problem_of(FileNotFoundError(2, "No such file or directory", "/nowhere/x.json"))
    assert found.message == "/nowhere/x.json: no such file or directory"
    assert problem_of(OSError("just so")).message == "just so"


def test_whatever_is_missing_has_a_hint() -> None:
    """Every kind that the code says does not exist, but for those that no command names."""
    unnamed = {"TENANT", "REQUEST"}
    kinds = set()
    for folder in ("server", "storage"):
        for path in Path(__file__).parents[3].joinpath(folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in ("NotFound", "not_found")
                    and isinstance(node.args[0], ast.Constant)
                ):
                    kinds.add(str(node.args[0].value).upper().replace(" ", "_"))
    assert len(kinds) > 15
    assert {f"{kind}_NOT_FOUND" for kind in kinds - unnamed} <= set(_HINTS)
    assert not [reason for reason in _HINTS if " " in reason]


def test_help_is_wrapped_by_the_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = ran("tune", "--help").output
    assert "the last part" in shown
    below = shown[shown.index("the last part") :].splitlines()[1]
    assert below.strip().startswith("of the history is looked at once")
