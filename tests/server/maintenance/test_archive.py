"""Closed days in Parquet files, held against what the service answered."""

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars
import pytest
from positionsizing.v1 import sizing_service_pb2

from server.app import App
from server.maintenance.archive import CHANGES, ArchivedDay, archive, closed_days
from storage.archive import files, report
from storage.postgres.pool import Database
from tests.server.analytics.test_analytics import decided_days
from tests.server.support.service_client import Client


def later() -> datetime:
    """A time at which today is closed."""
    return datetime.now(UTC) + timedelta(days=2)


async def archived(app: App, root: Path, *, again: bool = False) -> list[ArchivedDay]:
    """What a run two days from now writes of the tests' database."""
    assert app.config.dsn is not None
    database = await Database.open(app.config.dsn.get_secret_value())
    try:
        days = archive(database, root, app.config.tenant_id, again=again, now=later)
        return [day async for day in days]
    finally:
        await database.aclose()


def rows_of(root: Path, table: str, portfolio_id: str) -> polars.DataFrame:
    found = polars.concat([polars.read_parquet(path) for path in files.parts(root, table)])
    return found.filter(polars.col("portfolio_id") == portfolio_id)


def days_of(rows: polars.DataFrame) -> set[date]:
    return set(rows["create_time"].dt.date())


def hidden(root: Path) -> list[Path]:
    return list(root.rglob(".*"))


async def test_a_day_holds_what_was_answered_and_filled(
    app: App, client: Client, tmp_path: Path
) -> None:
    portfolio_id, _, weights = await decided_days(client)
    written = await archived(app, tmp_path)
    lines = rows_of(tmp_path, files.LINES, portfolio_id).sort("create_time", maintain_order=True)
    assert days_of(lines) <= {day.day for day in written}
    assert lines["instrument_id"].to_list() == ["X", "Y"] * 3
    assert lines["weight"].to_list() == np.concatenate(weights).tolist()
    decision_ids = lines["decision_id"].unique(maintain_order=True).to_list()
    for place, decision_id in enumerate(decision_ids):
        asked = sizing_service_pb2.GetDecisionRequest(decision_id=decision_id)
        answer = (await client.sizing.GetDecision(asked)).decision
        mine = lines[2 * place : 2 * place + 2]
        assert mine["lots"].to_list() == list(answer.sizes.lots)
        assert mine["expected_growth"].to_list() == list(answer.sizes.expected_growth)
        final = mine.select(polars.sum_horizontal(CHANGES)).to_series().to_numpy()
        np.testing.assert_allclose(final, np.abs(answer.waterfall.stages[-1].weight), atol=1e-15)
        first = mine["change_raw_kelly"].to_list()
        assert first == [abs(w) for w in answer.waterfall.stages[0].weight]
    fills = rows_of(tmp_path, files.FILLS, portfolio_id)
    traded = lines.filter(polars.col("trade_lots") != 0)
    assert sorted(fills["lots"].to_list()) == sorted(traded["trade_lots"].to_list())
    assert set(fills["decision_id"]) <= set(decision_ids)
    assert await archived(app, tmp_path) == [], "a day is written once"
    assert await archived(app, tmp_path, again=True) == written
    assert (
        rows_of(tmp_path, files.LINES, portfolio_id)
        .sort("create_time", maintain_order=True)
        .equals(lines)
    )
    assert hidden(tmp_path) == [], "nothing half written is left"


async def test_reports_are_the_sums_of_the_lines(app: App, client: Client, tmp_path: Path) -> None:
    portfolio_id, _, weights = await decided_days(client)
    await archived(app, tmp_path)
    lines = rows_of(tmp_path, files.LINES, portfolio_id)
    days = days_of(lines)  # two where the test runs into midnight
    period = report.Period(min(days), max(days))
    by_stage = report.by_stage(tmp_path, ["portfolio"], period)
    mine = {row[1]: row[2:] for row in by_stage.rows if row[0] == portfolio_id}
    assert set(mine) >= {"RAW_KELLY", "KELLY_FRACTION", "LOTS"}
    for stage, (moved, change, _) in mine.items():
        column = lines[f"change_{stage.lower()}"].to_numpy()
        assert moved == np.isfinite(column).sum()
        assert change == pytest.approx(np.nansum(column), rel=1e-12)
    final = np.abs(np.concatenate(weights))
    assert mine["LOTS"][2] == pytest.approx(final.mean(), rel=1e-12)
    grouped = report.by_dimensions(tmp_path, ["portfolio", "day"])
    rows = [dict(zip(grouped.columns, row, strict=True)) for row in grouped.rows]
    found = {row["day"]: row for row in rows if row["portfolio_id"] == portfolio_id}
    assert set(found) == days
    for day, row in found.items():
        place = (lines["create_time"].dt.date() == day).to_numpy()
        assert (row["decisions"], row["lines"]) == (place.sum() // 2, place.sum())
        assert row["decided"] == pytest.approx(final[place].mean(), rel=1e-12)
        wanted = lines["change_raw_kelly"].to_numpy()[place]
        assert row["wanted"] == pytest.approx(wanted.mean(), rel=1e-12)
    none = report.by_dimensions(tmp_path, ["portfolio"], report.Period(last=date(2020, 1, 1)))
    assert none.rows == []
    joined = report.query(
        tmp_path,
        "SELECT count(*) AS n FROM lines JOIN fills USING (decision_id, instrument_id) "
        f"WHERE lines.portfolio_id = '{portfolio_id}' AND lines.trade_lots = fills.lots",
    )
    assert joined.columns == ("n",)
    assert joined.rows == [(np.count_nonzero(lines["trade_lots"]),)]


async def test_sums_of_days_say_what_the_lines_say(
    app: App, client: Client, tmp_path: Path
) -> None:
    for _ in range(2):
        await decided_days(client)
    await archived(app, tmp_path)
    shutil.copytree(tmp_path, tmp_path / "old")
    shutil.rmtree(tmp_path / "old" / files.SUMS)  # as releases without sums left it
    for names in ([], ["strategy"], ["portfolio", "day"], ["tenant"]):
        for ask in (report.by_stage, report.by_dimensions):
            told, counted = ask(tmp_path, names), ask(tmp_path / "old", names)
            assert told.columns == counted.columns
            assert len(told.rows) == len(counted.rows) > 0
            for mine, theirs in zip(told.rows, counted.rows, strict=True):
                for value, other in zip(mine, theirs, strict=True):
                    is_number = isinstance(value, float)
                    assert value == (pytest.approx(other, rel=1e-12) if is_number else other)


async def test_a_question_reads_the_archive_and_nothing_else(
    app: App, client: Client, tmp_path: Path
) -> None:
    await decided_days(client)
    root, secret = tmp_path / "archive", tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    with pytest.raises(report.ArchiveError, match="has no archived days"):
        report.by_stage(root, ["strategy"])
    await archived(app, root)
    for sql in (
        f"SELECT * FROM '{secret}'",
        f"COPY lines TO '{tmp_path / 'out.csv'}'",
        "SET enable_external_access = true",
        "SELECT nothing FROM lines",
    ):
        with pytest.raises(report.ArchiveError):
            report.query(root, sql)
    assert not (tmp_path / "out.csv").exists()
    with pytest.raises(report.ArchiveError, match="nothing is grouped by 'colour'"):
        report.by_dimensions(root, ["colour"])


def test_a_day_is_over_an_hour_after_its_end() -> None:
    first = date(2026, 11, 27)
    assert list(closed_days(first, datetime(2026, 11, 29, 0, 59, tzinfo=UTC))) == [first]
    assert list(closed_days(first, datetime(2026, 11, 29, 1, 0, tzinfo=UTC))) == [
        first,
        date(2026, 11, 28),
    ]
    assert list(closed_days(first, datetime(2026, 12, 24, tzinfo=UTC), first)) == [first]
    assert list(closed_days(None, datetime(2026, 12, 24, tzinfo=UTC))) == []
