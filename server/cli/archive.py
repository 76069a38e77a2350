"""Closed days as Parquet files, and sums over them: `sizing archive`, `sizing report`."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.common import AsJson, console, print_json, say
from server.cli.errors import CommandError
from server.cli.service import DataDir, database, load_config

if TYPE_CHECKING:
    from storage.archive.report import Answer, Period

First = Annotated[str, typer.Option("--from", help="First day, YYYY-MM-DD; default: all.")]
Last = Annotated[str, typer.Option("--to", help="Last day, YYYY-MM-DD; default: all.")]


def archive(
    folder: Annotated[Path, typer.Argument(help="Where the files go; made where it isn't there.")],
    first: First = "",
    last: Last = "",
    tenant: Annotated[str, typer.Option(help="Tenant; default: that of the settings.")] = "",
    again: Annotated[
        bool, typer.Option("--again", help="Write days that are archived already once more.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Writes decisions and fills of days that are over as Parquet files, each day once.

    Whole records are among them, read back and held against the database: `sizing retention` may
    then remove those days there.
    """
    import asyncio

    from server.maintenance.archive import ArchivedDay
    from server.maintenance.archive import archive as run
    from storage.archive.records import RecordError
    from storage.postgres.pool import Database

    config, written = load_config(data_dir=data_dir), list[ArchivedDay]()
    begin, end = _day(first, "--from"), _day(last, "--to")
    if begin and end and begin > end:
        raise CommandError(f"--from {first} is after --to {last}")
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"{folder} is no folder")
    folder.mkdir(parents=True, exist_ok=True)

    async def work(dsn: str) -> None:
        pool = await Database.open(dsn)
        try:
            async for day in run(
                pool,
                folder,
                tenant or config.tenant_id,
                first=begin,
                last=end,
                again=again,
            ):
                written.append(day)
                if not as_json:
                    say(f"{day.day}  {day.decisions:,} decisions, {day.lines:,} lines")
        finally:
            await pool.aclose()

    with database(config) as dsn:
        try:
            asyncio.run(work(dsn))
        except RecordError as error:
            raise CommandError(str(error), "the day is not in the archive; try again") from error
    if as_json:
        print_json(
            [
                {
                    "day": day.day.isoformat(),
                    "decisions": day.decisions,
                    "lines": day.lines,
                    "fills": day.fills,
                    "records": day.records,
                }
                for day in written
            ]
        )
    elif not written:
        say(
            "nothing to write: no day with decisions is over that is not archived; today's can be "
            "archived from 1 a.m. UTC tomorrow; sizing decisions and sizing performance have it now"
        )


def report(
    folder: Annotated[Path, typer.Argument(help="The archive.")],
    by: Annotated[
        str,
        typer.Option(
            help="Comma-separated: stage, strategy, portfolio, instrument, day, method, status, "
            "line-status, binding, tenant."
        ),
    ] = "strategy,stage",
    first: First = "",
    last: Last = "",
    sql: Annotated[
        str, typer.Option(help="A question of your own, of the views `lines` and `fills`.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Sums over archived days: what each stage did to the sizes, by strategy or anything else."""
    if not folder.is_dir():
        hint = f"sizing archive {folder} writes the days that are over"
        raise CommandError(f"there is no archive in {folder}", hint)
    from storage.archive.report import ArchiveError, Period

    period = Period(_day(first, "--from"), _day(last, "--to"))
    try:
        answer = _answer(folder, by, sql, period)
    except ArchiveError as error:
        raise CommandError(str(error)) from error
    if as_json:
        rows = ([_plain(cell) for cell in row] for row in answer.rows)
        print_json([dict(zip(answer.columns, row, strict=True)) for row in rows])
        return
    from server.cli.render import table

    out = table(f"{folder}, {len(answer.rows):,} rows", *answer.columns)
    for row in answer.rows:
        out.add_row(*map(_text, row))
    console().print(out)


def _answer(folder: Path, by: str, sql: str, period: "Period") -> "Answer":
    from storage.archive import report as archived

    if sql:
        return archived.query(folder, sql)
    names = [name.strip() for name in by.split(",") if name.strip()]
    if "stage" in names:
        return archived.by_stage(folder, [n for n in names if n != "stage"], period)
    return archived.by_dimensions(folder, names, period)


def _day(text: str, option: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise CommandError(f"{option} {text!r} is no day", "write it as 2026-11-27") from error


def _plain(cell: Any) -> Any:
    return cell if isinstance(cell, int | float | str | bool | None) else str(cell)


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return str(cell)
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:,.6g}"
