"""The example book: no look-ahead, and what is printed in the guide is what is in the files."""

import csv
import runpy
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"


def made(folder: Path, script: Path, as_of: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(sys, "argv", [str(script), "--as-of", as_of, "--out", str(folder)])
    runpy.run_path(str(script), run_name="__main__")
    return [(folder / name).read_text() for name in ("signals.csv", "market.csv")]


def test_the_committed_files_are_what_the_script_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals, market = made(tmp_path, EXAMPLES / "momentum.py", "2022-12-28", monkeypatch)
    assert signals == (EXAMPLES / "signals.csv").read_text()
    assert market == (EXAMPLES / "market.csv").read_text()


def test_signals_know_nothing_of_their_day_or_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_of = "2022-06-30"
    before = made(tmp_path, EXAMPLES / "momentum.py", as_of, monkeypatch)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("momentum.py", "instruments.csv"):
        shutil.copy(EXAMPLES / name, other / name)
    with (EXAMPLES / "prices.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    changed = [
        row if row[0] < as_of else [row[0], *(f"{2 * float(price):.3f}" for price in row[1:])]
        for row in rows
    ]
    with (other / "prices.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *changed])
    after = made(other, other / "momentum.py", as_of, monkeypatch)
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_the_client_of_the_guide_is_the_one_in_examples() -> None:
    code = (EXAMPLES / "client.py").read_text().split('"""\n\n', 1)[1]
    assert f"```python\n{code}```" in (ROOT / "docs" / "user-guide.md").read_text()
