"""The past that a command runs settings through: its options, and the request that they make.

    @over_the_past
    def backtest(file: Annotated[...], past: Past, ...) -> None:
        past.put_into(request, "run through")

Every command on a history takes all of them: what one can say of the past, the other can.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.errors import CommandError, Problem, ToldError, problem_of

if TYPE_CHECKING:
    from positionsizing.v1 import history_service_pb2
    from positionsizing.v1 import simulation_service_pb2 as pb

    Request = pb.RunBacktestRequest | pb.TuneParametersRequest

_CELL = re.compile(r"prices\.(close|open|dividend|split|volume)\[(\d+)\]")
_NAME = re.compile(r"prices\.instrument_ids\[(\d+)\]")
_DELISTING = re.compile(r"delistings\[(\d+)\](?:\.(\w+))?")
_HINTS = {
    "PRICE_JUMP": "announce it: --splits FILE; or run through it: --confirm-prices",
    "PRICES_END": "--delistings FILE; or for all: --delisting-return -0.3",
}


def _beside(what: str) -> Any:
    return typer.Option(exists=True, dir_okay=False, help=f"Beside --prices: {what}.")


@dataclass(frozen=True)
class Past:
    """What is said of the past; each field is an option."""

    prices: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Closes: CSV, CSV.gz or Parquet."),
    ] = None
    universe: Annotated[str, typer.Option(help="Or a universe stored before, by name.")] = ""
    opens: Annotated[Path | None, _beside("opens, which orders are filled at")] = None
    dividends: Annotated[Path | None, _beside("cash a unit, on the day it goes ex")] = None
    splits: Annotated[Path | None, _beside("units for one, before that day opens")] = None
    volumes: Annotated[Path | None, _beside("units traded")] = None
    sectors: Annotated[Path | None, _beside("instrument_id and sector, for limits on groups")] = (
        None
    )
    delistings: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Instruments that leave: date, instrument_id, and price or return.",
        ),
    ] = None
    delisting_return: Annotated[
        float | None,
        typer.Option(
            help="Return on the last close where prices end without a line in --delistings."
        ),
    ] = None
    confirm_prices: Annotated[
        bool,
        typer.Option("--confirm-prices", help="Run through prices that jump like splits as well."),
    ] = False
    experiment: Annotated[
        str, typer.Option(help="What settings are counted under; the instruments if not given.")
    ] = ""

    def put_into(self, request: "Request", purpose: str) -> None:
        """Fills it into a request. Raises `CommandError`, without prices for the `purpose` too."""
        if self.prices:
            request.prices.CopyFrom(prices_of(self.prices))
        if self.universe:
            request.universe_id = self.universe
        if request.WhichOneof("history") is None:
            hint = "give --prices FILE or --universe"
            raise CommandError(f"there are no prices to {purpose}", hint)
        for name, path in self._beside().items():
            if path:
                _add_beside(request.prices, name, path)
        if self.sectors:
            _add_sectors(request.prices, self.sectors)
        if self.delisting_return is not None:
            request.delisting_return = self.delisting_return
        if self.delistings:
            _add_delistings(request, self.delistings)
        request.confirm_prices |= self.confirm_prices
        request.experiment = self.experiment or request.experiment

    def _beside(self) -> dict[str, Path | None]:
        """Files beside the closes, by the column of the table that they fill."""
        files = (self.opens, self.dividends, self.splits, self.volumes)
        return dict(zip(("open", "dividend", "split", "volume"), files, strict=True))

    def told(self, problem: Problem) -> Problem:
        """A refusal with the file, row and column that it is about in place of a field's path."""
        ends = self._ends()

        def line(found: re.Match[str]) -> str:
            if int(found[1]) >= len(ends):
                return found[0]  # one that the request had of its own
            column = f", {found[2].removeprefix('delisting_')}" if found[2] else ""
            return f"{ends[int(found[1])]}{column}"

        problem = _with_places(problem, lambda text: _DELISTING.sub(line, text))
        if self.prices is None:
            return problem
        table = prices_of(self.prices)

        def cell(found: re.Match[str]) -> str:
            row, column = divmod(int(found[2]), len(table.instrument_ids))
            path = self._beside().get(found[1]) or self.prices
            return f"{path}, {table.dates[row]}, {table.instrument_ids[column]}"

        def column(found: re.Match[str]) -> str:
            return f"{self.prices}, column {table.instrument_ids[int(found[1])]}"

        def placed(text: str) -> str:
            return _NAME.sub(column, _CELL.sub(cell, text))

        hint = _HINTS.get(problem.reason, problem.hint)
        return replace(_with_places(problem, placed), hint=hint)

    def _ends(self) -> list[str]:
        """The file and line of each delisting that a file says; they come first in a request."""
        from server.cli.sheet import read_sheet

        if self.delistings is None:
            return []
        sheet = read_sheet(self.delistings)
        return [sheet.at(row) for row in range(len(sheet.rows))]


def _with_places(problem: Problem, placed: Callable[[str], str]) -> Problem:
    """The problem with its texts and paths as `placed` says them."""
    items = [item | {"place": placed(item.get("place", item["field"]))} for item in problem.fields]
    return replace(problem, message=placed(problem.message), fields=items)


def over_the_past(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `Past` in the place of its parameter `past`."""

    def run(**given: Any) -> None:
        past = Past(**{item.name: given.pop(item.name) for item in fields(Past)})
        try:
            command(past=past, **given)
        except Exception as error:
            problem = problem_of(error)
            if not problem.code:  # not what a call was refused with
                raise
            raise ToldError(past.told(problem)) from error

    keyword = inspect.Parameter.KEYWORD_ONLY
    told = [
        inspect.Parameter(item.name, keyword, default=item.default, annotation=item.type)
        for item in fields(Past)
    ]
    parameters = list[inspect.Parameter]()
    for parameter in inspect.signature(command).parameters.values():
        parameters += told if parameter.name == "past" else [parameter.replace(kind=keyword)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def prices_of(path: Path) -> "pb.PriceTable":
    """Closes of a file, by session."""
    from positionsizing.v1 import simulation_service_pb2 as pb

    from server.cli.history_files import read_history

    part = read_history(path, "prices")
    return pb.PriceTable(
        dates=_days(part, path), instrument_ids=part.instrument_ids, close=part.values
    )


def _days(part: "history_service_pb2.History", path: Path) -> Sequence[str]:
    """The session of each row. Raises `CommandError` where two are of one day."""
    days = [time.ToDatetime().date().isoformat() for time in part.observation_times]
    for before, day in pairwise(days):
        if day == before:
            raise CommandError(f"{path}: {day} has two rows", "a row a session, of its close")
    return days


def _needs_closes(table: "pb.PriceTable", path: Path) -> None:
    if not table.dates:
        raise CommandError(f"{path} needs closes beside it", "give --prices FILE")


def _add_beside(table: "pb.PriceTable", name: str, path: Path) -> None:
    """A column of a table of prices from a file of its own; what the file lacks is none."""
    from server.cli.history_files import read_history

    _needs_closes(table, path)
    part = read_history(path, {"open": "prices", "split": "ratios"}.get(name, "amounts"))
    days = _days(part, path)
    for kind, given, known in (
        ("day", days, table.dates),
        ("instrument", part.instrument_ids, table.instrument_ids),
    ):
        if unknown := [item for item in given if item not in set(known)]:
            raise CommandError(f"{path}: {kind} {unknown[0]!r} is not in the file of closes")
    width, missing = len(table.instrument_ids), set(part.missing)
    values = [1.0 if name == "split" else 0.0] * (len(table.dates) * width)
    row_of = {day: row for row, day in enumerate(table.dates)}
    column_of = {item: column for column, item in enumerate(table.instrument_ids)}
    for cell, value in enumerate(part.values):
        if cell not in missing:
            row, column = divmod(cell, len(part.instrument_ids))
            place = row_of[days[row]] * width + column_of[part.instrument_ids[column]]
            values[place] = value
    column_of_table = getattr(table, name)
    del column_of_table[:]
    column_of_table.extend(values)


def _add_sectors(table: "pb.PriceTable", path: Path) -> None:
    """The sector of each instrument of a table, from a file that may say more."""
    from server.cli.sheet import read_sheet

    _needs_closes(table, path)
    sheet = read_sheet(path)
    for name in ("instrument_id", "sector"):
        if name not in sheet.columns:
            raise CommandError(f"{path} has no column {name}", "instrument_id,sector")
    sector_of: dict[str, str] = {}
    pairs = zip(sheet.texts("instrument_id"), sheet.texts("sector"), strict=True)
    for row, (name, sector) in enumerate(pairs):
        if sector_of.setdefault(name, sector) != sector:
            raise CommandError(
                f"{sheet.at(row)}: {name} is in {sector_of[name]!r} above", "one each"
            )
    if missing := [name for name in table.instrument_ids if not sector_of.get(name)]:
        raise CommandError(
            f"{path} has no sector of {missing[0]!r}, which is in the file of closes"
        )
    del table.sectors[:]
    table.sectors.extend(sector_of[name] for name in table.instrument_ids)


def _add_delistings(request: "Request", path: Path) -> None:
    """The lines of a file of delistings, before those of the request."""
    from server.cli.sheet import read_sheet

    sheet = read_sheet(path)
    sheet.check_columns(("date", "instrument_id", "price", "return"), ("date", "instrument_id"))
    days, names = set(request.prices.dates), set(request.prices.instrument_ids)
    before = list(request.delistings)
    del request.delistings[:]
    pairs = zip(sheet.texts("date"), sheet.texts("instrument_id"), strict=True)
    for row, (day, name) in enumerate(pairs):
        for kind, given, known in (("day", day, days), ("instrument", name, names)):
            if known and given not in known:  # of a stored universe the service knows them
                raise CommandError(
                    f"{sheet.at(row)}: {kind} {given!r} is not in the file of closes"
                )
        cells = {key: sheet.rows[row].get(key) for key in ("price", "return")}
        said = [key for key, cell in cells.items() if cell]
        if len(said) != 1:
            raise CommandError(f"{sheet.at(row)}: give either a price or a return")
        value, least = sheet.number(row, said[0]), 0.0 if said[0] == "price" else -1.0
        if value < least:
            text = f"{said[0]} is {cells[said[0]]}; it must not be below {least:g}"
            raise CommandError(f"{sheet.at(row)}: {text}")
        item = request.delistings.add(instrument_id=name, date=day)
        setattr(item, "price" if said[0] == "price" else "delisting_return", value)
    request.delistings.extend(before)
