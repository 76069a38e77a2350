"""`sizing optimize` and `sizing frontier` on real prices, against a real service."""

import asyncio
import csv
import json
from pathlib import Path

import numpy as np
import pytest
from positionsizing.v1.optimization_service_pb2 import OptimizationProblem

from server.app import App
from server.cli import app as cli
from server.cli import files
from server.cli import prices as price_files
from server.cli.errors import CommandError

EXAMPLES = Path(__file__).parents[3] / "examples"
N_NAMES, N_DAYS = 12, 64
BOOK = """
weight_max = [0.3]
[objective]
kind = "OBJECTIVE_KIND_MEAN_VARIANCE"
[[limits.linear]]
name = "tech"
instrument_ids = ["AAPL", "AMD"]
coefficients = [1.0, 1.0]
"""


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """The first names and days of the example's closes."""
    with (EXAMPLES / "prices.csv").open(newline="") as file:
        rows = [row[: N_NAMES + 1] for row in csv.reader(file)][: N_DAYS + 2]
    with (tmp_path / "prices.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return tmp_path / "prices.csv"


async def said(
    app: App, capsys: pytest.CaptureFixture[str], *words: str | Path
) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""

    def call() -> int:
        try:
            cli([*map(str, words), "--address", f"127.0.0.1:{app.port}"])
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return (await asyncio.to_thread(call), *capsys.readouterr())


async def test_a_book_is_shown_with_what_binds_and_its_proof(
    joint_app: App, prices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "book.toml"
    file.write_text(BOOK + "upper = 0.05\n")
    code, out, _ = await said(joint_app, capsys, "optimize", file, "--prices", prices)
    assert code == 0
    assert "no other book within the limits is better by more than" in out
    assert "its largest weight" in out
    code, out, _ = await said(joint_app, capsys, "optimize", file, "--prices", prices, "--json")
    answer = json.loads(out)
    weight = dict(zip(answer["instrument_ids"], answer["weights"], strict=True))
    assert weight["AAPL"] + weight["AMD"] <= 0.05 + 1e-9
    bounds = {p["limit"]: p.get("bound", 0.0) for p in answer["certificate"]["shadow_prices"]}
    known = {"upper": 0.3, "lower": 0.0, "budget_max": 1.0, "tech max": 0.05}
    assert bounds == {name: known[name.partition("[")[0]] for name in bounds}
    assert any(name.startswith("upper") for name in bounds)


async def test_a_conflict_is_named_with_the_way_out(
    joint_app: App, prices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "book.toml"
    file.write_text(BOOK + "lower = 0.7\n")
    code, out, _ = await said(joint_app, capsys, "optimize", file, "--prices", prices)
    assert code == 1
    assert "the limits contradict each other" in out
    assert "in conflict: upper[AAPL], upper[AMD], tech min" in out
    assert "by 0.1" in out


async def test_a_frontier_rises(
    joint_app: App, prices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "risk.toml"
    file.write_text('budget_min = 1.0\n[objective]\nkind = "OBJECTIVE_KIND_MIN_VARIANCE"\n')
    words = ("frontier", file, "--prices", prices, "--points", "5", "--timeout", "600")
    code, out, err = await said(joint_app, capsys, *words)
    assert code == 0, err
    assert "volatility" in out
    assert out.count("█") > 5
    page = tmp_path / "frontier.html"
    code, out, err = await said(joint_app, capsys, *words, "--report", page)
    assert (code, f"report: {page}" in out) == (0, True), err
    assert "5 books of least risk" in page.read_text()
    code, out, _ = await said(joint_app, capsys, *words, "--json")
    points = json.loads(out)["points"]
    assert len(points) == 5
    assert np.all(np.diff([point["risk"] for point in points]) > 0.0)
    kept = ("--guarantee-periods", "500", "--guarantee-probability", "0.3")
    code, out, _ = await said(joint_app, capsys, *words, *kept)
    assert code == 0
    assert "growth kept" in out
    code, _, err = await said(joint_app, capsys, *words, *kept[:2])
    assert (code, "go together" in err) == (1, True)


async def test_a_book_without_instruments_says_what_to_add(
    joint_app: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "book.toml"
    file.write_text(BOOK)
    code, _, err = await said(joint_app, capsys, "optimize", file)
    assert code == 1
    assert "names no instruments" in err
    assert "--prices" in err


def test_prices_become_returns(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text("Date,A,b\n2020-01-01,100,10\n2020-01-02,110,9\n2020-01-03,99,9\n")
    matrix = price_files.matrix_of(file, "scenarios")
    assert list(matrix.instrument_ids) == ["A", "b"]
    np.testing.assert_allclose(matrix.dense.values, [0.1, -0.1, -0.1, 0.0], atol=1e-15)
    assert list(price_files.matrix_of(file, "scenarios", last=1).dense.values) == pytest.approx(
        [-0.1, 0.0]
    )
    covariance = price_files.matrix_of(file, "covariance")
    # A is 0.1 and -0.1 from its mean when b is -0.05 and 0.05 from its own, over n - 1 = 1.
    np.testing.assert_allclose(covariance.dense.values, [0.02, -0.01, -0.01, 0.005], atol=1e-15)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("date,A\n2020-01-01,1\n", "no two rows"),
        ("date\n2020-01-01\n2020-01-02\n", "no two rows"),
        ("A\n1\n0\n", "line 3: A is 0, not a price"),
        ("A\n1\nx\n", "line 3: A is 'x', not a number"),
        ("date,A\n2020-01-02,1\n2020-01-01,2\n", "line 3: date is 2020-01-01, after 2020-01-02"),
        ("date,A\n2020-01-01,1\n2020-01-01,2\n", "line 3: date is 2020-01-01"),
    ],
)
def test_wrong_prices_are_named_by_their_line(tmp_path: Path, text: str, wrong: str) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(text)
    with pytest.raises(CommandError, match=wrong):
        price_files.read_returns(file)


def test_the_examples_are_problems() -> None:
    for name in ("book", "frontier"):
        problem = files.read_message(EXAMPLES / f"{name}.toml", OptimizationProblem())
        assert problem.objective.kind
