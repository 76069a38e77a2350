"""Histories on the command line: CSV, CSV.gz and Parquet say the same."""

import gzip
import json
from datetime import date
from pathlib import Path

import numpy as np
import polars
import pytest

from server.cli.errors import CommandError
from server.cli.history_files import read_history
from tests.server.cli.test_commands import EXAMPLES, Sizing, sizing

__all__ = ["sizing"]


async def test_a_file_of_closes_is_loaded_listed_and_shown(sizing: Sizing) -> None:
    file = str(EXAMPLES / "prices.csv")
    loaded = await sizing("history", "load", file, "--universe", "cli-us")
    assert loaded.code == 0, loaded.err
    assert "754 observations of 20 instruments" in loaded.out
    again = await sizing("history", "load", file, "--universe", "cli-us")
    assert again.out in loaded.out, "stored once"  # the server may log meanwhile
    assert "cli-us" in (await sizing("history", "list")).out
    shown = await sizing("history", "show", "cli-us", "--as-of", "2020-12-31T21:00Z")
    assert "2020-12-31" in shown.out
    assert "AAPL" in shown.out
    found = await sizing("history", "edges", "cli-us", "--instrument", "KO", "--json")
    assert found.code == 0, found.err
    assert json.loads(found.out)["estimates"]["observation_count"] == [753.0]
    all_of_them = await sizing("history", "edges", "cli-us", "--shrink")
    assert all_of_them.code == 0, all_of_them.err
    assert "drawn" in all_of_them.out
    wrong = await sizing("history", "edges", "cli-us", "--probability", "1.5")
    assert wrong.code == 1
    assert "interval_probability" in wrong.err
    missing = await sizing("history", "show", "nowhere")
    assert missing.code == 1
    assert "nowhere" in missing.err


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet", "long.csv"])
def test_every_form_of_a_table_is_the_same_part(tmp_path: Path, form: str) -> None:
    text = "date,A,B\n2020-01-02,1.0,5.0\n2020-01-03,2.0,\n"
    path = tmp_path / f"prices.{form}"
    if form == "csv":
        path.write_text(text)
    elif form == "csv.gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif form == "parquet":
        days = [date(2020, 1, 2), date(2020, 1, 3)]
        polars.DataFrame({"date": days, "A": [1.0, 2.0], "B": [5.0, None]}).write_parquet(path)
    else:
        lines = ("date,instrument_id,close", "2020-01-02,A,1", "2020-01-03,A,2", "2020-01-02,B,5")
        path.write_text("\n".join(lines))
    part = read_history(path, "prices")
    assert list(part.instrument_ids) == ["A", "B"]
    times = [f"{item.ToDatetime():%Y-%m-%dT%H:%M}" for item in part.observation_times]
    assert times == ["2020-01-02T21:00", "2020-01-03T21:00"]
    assert list(part.values) == [1.0, 5.0, 2.0, 0.0]
    assert list(part.missing) == [3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("day,A\n2020-01-02,1\n", "no column of times"),
        ("date,A\n02.01.2020,1\n", "line 2: '02.01.2020' is not a time"),
        ("date,A\n2020-01-02,x\n", "line 2: A is 'x', not a number"),
        ("date,A\n2020-01-02,inf\n", "line 2: A is 'inf', not a number"),
        ("date,A,B\n2020-01-02,1,2\n2020-01-03,1,0\n", "line 3: B is 0, not a price"),
        ("date,A,B\n2020-01-02,1,-2.5\n", "line 2: B is -2.5, not a price"),
        ("date,A,B\n2020-01-02,1\n", "line 2: has not the 3 cells"),
        ("date,A,A\n2020-01-02,1,2\n", "'A' is there twice"),
        ("date,A\n2020-01-02,1\n2020-01-02,2\n", "line 3: date is 2020-01-02 21:00, twice"),
        ("date,A\n2020-01-03,1\n\n2020-01-02,2\n", "line 4: date is .*, after 2020-01-03"),
        ("date,instrument_id,price\n2020-01-02,A,1\n2020-01-02,A,2\n", "line 3: A is .* twice"),
        ("date,instrument_id,price\n2020-01-02,A,0\n", "line 2: price is 0, not a price"),
        ("date,instrument_id,size\n2020-01-02,A,1\n", "no column of prices"),
        ("date\n2020-01-02\n", "no observations"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(text)
    with pytest.raises(CommandError, match=words):
        read_history(path, "prices")


def test_rows_of_a_parquet_file_are_named_too(tmp_path: Path) -> None:
    path = tmp_path / "prices.parquet"
    days = [date(2020, 1, 2), date(2020, 1, 3)]
    polars.DataFrame({"date": days, "A": [1.0, -2.0]}).write_parquet(path)
    with pytest.raises(CommandError, match=r"prices.parquet, row 2: A is -2.0, not a price"):
        read_history(path, "prices")


def test_returns_may_be_zero_or_below(tmp_path: Path) -> None:
    path = tmp_path / "returns.csv"
    path.write_text("date,A,B\n2020-01-02,0,-0.5\n")
    assert list(read_history(path, "returns").values) == [0.0, -0.5]


def test_offsets_are_turned_into_utc(tmp_path: Path) -> None:
    path = tmp_path / "returns.csv"
    path.write_text("time,A\n2020-01-02T16:00:00-05:00,0.01\n2020-01-03T16:00:00-05:00,nan\n")
    part = read_history(path, "returns")
    assert part.observation_times[0].ToDatetime().hour == 21
    assert np.array(part.missing).tolist() == [1]


async def test_a_matrix_is_estimated_and_clustered(sizing: Sizing, tmp_path: Path) -> None:
    file = str(EXAMPLES / "prices.csv")
    await sizing("history", "load", file, "--universe", "cli-clusters")
    made = await sizing("correlation", "estimate", "cli-clusters", "--id", "cli-lw")
    assert made.code == 0, made.err
    assert "covariance of 20 instruments" in made.out
    assert "log likelihood, held out" in made.out
    page = tmp_path / "correlation.html"
    found = await sizing("correlation", "clusters", "cli-lw", "--report", str(page))
    assert "mean correlation within clusters" in found.out
    assert "cli-lw: 20 instruments" in page.read_text()
    kept = await sizing("market", "show-matrix", "cli-lw", "--rows", "2")
    assert "20 rows" in kept.out
    assert "the first 2 rows" in kept.out
    wrong = await sizing("correlation", "estimate", "cli-clusters", "--estimator", "magic")
    assert wrong.code == 2
    assert "ledoit-wolf" in wrong.err


async def test_the_risk_of_a_book_is_shown(sizing: Sizing, tmp_path: Path) -> None:
    file = str(EXAMPLES / "prices.csv")
    await sizing("history", "load", file, "--universe", "cli-risk")
    shock = ("risk", "stress", "cli-oil", "--shock", "XOM=-0.3", "--spread", "--about", "oil falls")
    assert "version 1" in (await sizing(*shock)).out
    book = tmp_path / "book.csv"
    book.write_text("instrument_id,weight\nXOM,0.5\nKO,0.5\n")
    shown = await sizing("risk", "report", str(book), "--universe", "cli-risk")
    assert shown.code == 0, shown.err
    for words in ("VaR / ES historical", "effective bets torsion", "cli-oil", "KO"):
        assert words in shown.out
    held = tmp_path / "held.csv"
    held.write_text("instrument_id,quantity\nXOM,10")
    await sizing("portfolio", "create", "cli-risk", "--cash", "1000", "--holdings", str(held))
    valued = ("risk", "report", "--portfolio", "cli-risk", "--universe", "cli-risk", "--json")
    shares = []
    for price in (100, 300):
        prices = tmp_path / f"{price}.csv"
        prices.write_text(f"instrument_id,price\nXOM,{price}")
        load = ("market", "load", str(prices), "--id", f"cli-risk-{price}", "--confirm-prices")
        assert (await sizing(*load)).code == 0
        told = await sizing(*valued, "--snapshot", f"cli-risk-{price}")
        assert told.code == 0, told.err
        shares.append(told.json["before"]["volatility"])
    assert shares[1] / shares[0] == pytest.approx((3000 / 4000) / (1000 / 2000))
    unknown = await sizing(*valued, "--snapshot", "cli-risk-none")
    assert unknown.code == 1
    assert "cli-risk-none" in unknown.err
    tested = await sizing("risk", "backtest", str(book), "--universe", "cli-risk")
    assert "Basel zone" in tested.out
    assert "e-value" in tested.out
