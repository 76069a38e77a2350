"""`sizing watch`: files in, decisions out, bad files put aside and why, nothing twice."""

import csv
import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import pytest_asyncio

from compute.shapes import KernelRegistry
from server.app import App
from storage import embedded
from tests.server.cli.test_commands import EXAMPLES, Sizing, book, sizing
from tests.server.support.service_client import Client, new_id, started

__all__ = ["sizing"]
LONG_AGO = 60.0


@pytest_asyncio.fixture
async def app(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[App]:
    """A service of the test's own: prices are as old as their file, others' would be newer."""
    async with started(postgres_server, kernels, tmp_path_factory.mktemp("watch")) as running:
        yield running


def put(source: Path | str, target: Path) -> Path:
    """A file, as written a while ago."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, Path):
        shutil.copy(source, target)
    else:
        target.write_text(source)
    before = time.time() - LONG_AGO
    os.utime(target, (before, before))
    return target


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def left(folder: Path) -> list[str]:
    """Files that wait."""
    return sorted(
        str(file.relative_to(folder))
        for kind in ("prices", "fills", "signals")
        for file in (folder / kind).rglob("*")
        if file.is_file()
    )


@pytest.fixture
def name() -> str:
    return new_id("watched")


async def prepared(sizing: Sizing, name: str) -> None:
    await book(sizing, name)
    limits = ("portfolio", "limits", name, "--set", str(EXAMPLES / "limits.toml"))
    assert (await sizing(*limits, "--reason", "test")).code == 0


async def n_decisions(client: Client, name: str) -> int:
    return (await client.counts(name))[0]


async def test_files_go_through_and_come_out_as_decisions(
    app: App, sizing: Sizing, tmp_path: Path, name: str
) -> None:
    await prepared(sizing, name)
    put(EXAMPLES / "market.csv", tmp_path / "prices" / "close.csv")
    signals = put(EXAMPLES / "signals.csv", tmp_path / "signals" / name / "today.csv")
    typed = pl.read_csv(EXAMPLES / "signals.csv")
    parquet = tmp_path / "signals" / name / "momentum" / "today.parquet"
    parquet.parent.mkdir(parents=True)
    typed.write_parquet(parquet)
    os.utime(parquet, (time.time() - LONG_AGO,) * 2)
    put("half", tmp_path / "signals" / name / "next.csv.part")
    stored = signals.stat().st_mtime_ns
    content = signals.read_text()
    ran = await sizing("watch", str(tmp_path), "--once")
    assert ran.code == 0, ran.out + ran.err
    assert left(tmp_path) == [f"signals/{name}/next.csv.part"]
    rows = table(tmp_path / "decisions" / name / "today.csv")
    assert [row["instrument_id"] for row in rows] == typed["instrument_id"].to_list()
    frame = pl.read_parquet(tmp_path / "decisions" / name / "momentum" / "today.parquet")
    assert frame["strategy_id"].unique().to_list() == ["momentum"]
    assert (tmp_path / "done" / "prices" / "close.csv").exists()

    async with Client.connected(app.port) as client:
        assert await n_decisions(client, name) == 2
        # The watcher died after the decision and before the file was moved: the same again.
        put(content, signals)
        os.utime(signals, ns=(stored, stored))
        assert (await sizing("watch", str(tmp_path), "--once")).code == 0
        assert await n_decisions(client, name) == 2
        assert table(tmp_path / "decisions" / name / "today.csv") == rows
        # The same signals another day are another request.
        put(content, signals)
        os.utime(signals, ns=(stored + 10**9, stored + 10**9))
        assert (await sizing("watch", str(tmp_path), "--once")).code == 0
        assert await n_decisions(client, name) == 3
        assert len(list((tmp_path / "done" / "signals" / name).glob("*today.csv"))) == 3

    decided = next(row for row in frame.iter_rows(named=True) if row["trade_lots"])
    lots, size = decided["trade_lots"], decided["lot_size"]
    fill = f"E1,{decided['decision_id']},{decided['instrument_id']},{lots * size},"
    head = "execution_id,decision_id,instrument_id,quantity,price\n"
    for file in ("a.csv", "b.csv"):
        put(f"{head}{fill}{decided['price']}\n", tmp_path / "fills" / file)
    ran = await sizing("watch", str(tmp_path), "--once")
    assert ran.code == 0, ran.out
    async with Client.connected(app.port) as client:
        from positionsizing.v1 import portfolio_service_pb2

        request = portfolio_service_pb2.GetPortfolioRequest(portfolio_id=name)
        held = (await client.portfolio.GetPortfolio(request)).portfolio.holdings
    before = dict(
        pl.read_csv(EXAMPLES / "holdings.csv").select("instrument_id", "quantity").iter_rows()
    )
    quantity = dict(zip(held.instrument_ids, held.quantity, strict=True))
    moved = quantity.get(decided["instrument_id"], 0.0) - before.get(decided["instrument_id"], 0.0)
    assert moved == lots * size, "booked once"


BETS = "instrument_id,side,win_probability,payoff\n"
BAD: dict[str, tuple[str, str, str, str]] = {
    "cell": (BETS + "KO,long,0.55,0.03\nXOM,long,half,0.03\n", "line 3", "win_probability", ""),
    "range": (BETS + "KO,long,0.55,0.03\nXOM,long,1.5,0.03\n", "line 3", "win_probability", ""),
    "column": ("instrument,side\nKO,long\n", "", "", "'instrument' is not known"),
    "empty": (" ", "", "", "is empty"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_file_is_put_aside_with_its_row_and_column(
    app: App, sizing: Sizing, tmp_path: Path, name: str, case: str
) -> None:
    await prepared(sizing, name)
    text, where, column, message = BAD[case]
    put(text, tmp_path / "signals" / name / "a.csv")
    put(EXAMPLES / "bets.csv", tmp_path / "signals" / name / "b.csv")
    ran = await sizing("watch", str(tmp_path), "--once")
    assert ran.code == 1, ran.out
    failed = tmp_path / "failed" / "signals" / name
    [fault] = table(failed / "a.csv.error.csv")
    assert (fault["where"], fault["column"]) == (where, column)
    assert message in fault["message"]
    assert (failed / "a.csv").read_text() == text
    assert left(tmp_path) == [], ran.out
    assert not (tmp_path / "decisions" / name / "a.csv").exists()
    assert table(tmp_path / "decisions" / name / "b.csv"), "the others are taken in"
    async with Client.connected(app.port) as client:
        assert await n_decisions(client, name) == 1


async def test_what_belongs_to_nobody_and_fills_that_do_not_fit(
    sizing: Sizing, tmp_path: Path, name: str
) -> None:
    await prepared(sizing, name)
    put(EXAMPLES / "bets.csv", tmp_path / "signals" / "a.csv")
    put(EXAMPLES / "bets.csv", tmp_path / "signals" / "nobody" / "b.csv")
    head = "execution_id,decision_id,instrument_id,quantity,price\n"
    put(head + f"E1,{name},KO,5,60\n", tmp_path / "fills" / "c.csv")
    put("instrument_id,price\nKO,0x\n", tmp_path / "prices" / "d.csv")
    assert (await sizing("watch", str(tmp_path), "--once")).code == 1
    found: dict[str, Any] = {
        file.name[0]: table(file)[0] for file in (tmp_path / "failed").rglob("*.error.csv")
    }
    assert found["a"]["reason"] == "NO_PORTFOLIO"
    assert found["b"]["reason"] == "PORTFOLIO_NOT_FOUND"
    assert found["c"]["where"].endswith("line 2")
    assert "E1" in found["c"]["message"]
    assert (found["d"]["where"], found["d"]["column"]) == ("line 2", "price")


async def test_a_service_that_is_away_leaves_files_where_they_are(
    sizing: Sizing, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIZING_ADDRESS", "127.0.0.1:1")
    put(EXAMPLES / "market.csv", tmp_path / "prices" / "a.csv")
    ran = await sizing("watch", str(tmp_path), "--once")
    assert ran.code == 0
    assert "tried again" in ran.out
    assert left(tmp_path) == ["prices/a.csv"]
    young = tmp_path / "prices" / "b.csv"
    young.write_text("written just now")
    ran = await sizing("watch", str(tmp_path), "--once", "--settle-s", "3600")
    assert "b.csv" not in ran.out
