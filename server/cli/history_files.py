"""Files of prices and returns (CSV, CSV.gz, Parquet) as parts of a history.

A file is wide: a column of times, named `date`, `time` or `timestamp`, and a column an instrument.
Or it is long: `date`, `instrument_id` and `price` or `return`. Empty cells, NaN and null are
missing. A date without a time of day is taken as the close of that day in UTC (`CLOSE`).
"""

import itertools
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
from positionsizing.v1 import history_service_pb2 as pb

from server.cli.errors import CommandError
from server.cli.sheet import Sheet, parse_number, read_sheet

CLOSE = time(21, 0, tzinfo=UTC)
_TIMES = ("date", "time", "timestamp", "observation_time")
_LONG = ("price", "close", "return", "value")
_MISSING = frozenset({"", "nan", "na", "null", "none"})


def read_history(path: Path, kind: str) -> pb.History:
    """A part from a file; universe and known time are for the caller to set.

    kind: "prices", "returns", "amounts" such as volumes and dividends, or "ratios" of splits. What
    is wrong with a cell is told with its row and column: a price that is none, a time that is no
    time, is there twice or comes before the one above it.
    """
    sheet = read_sheet(path, keep_case=True)
    lower = {name.lower(): name for name in sheet.columns}
    time_column = next((lower[name] for name in _TIMES if name in lower), None)
    if time_column is None:
        hint = f"name it one of: {', '.join(_TIMES)}"
        raise CommandError(f"{path} has no column of times", hint)
    if not sheet.rows or len(sheet.columns) < 2:
        raise CommandError(f"{path} has no observations of instruments", "see examples/prices.csv")
    times = [_moment(cell, sheet.at(row)) for row, cell in enumerate(sheet.texts(time_column))]
    if "instrument_id" in lower:
        return _long(sheet, times, lower, kind)
    for row, (before, after) in enumerate(itertools.pairwise(times), 1):
        if after <= before:
            words = "twice" if after == before else f"after {before:%Y-%m-%d %H:%M}"
            text = f"{sheet.at(row)}: {time_column} is {after:%Y-%m-%d %H:%M}, {words}"
            raise CommandError(text, "sort the rows, oldest first, each time once")
    names = [name for name in sheet.columns if name != time_column]
    values = [
        [_number(cells[name], name, sheet, row, kind) for name in names]
        for row, cells in enumerate(sheet.rows)
    ]
    return _part(names, times, np.array(values), kind)


def _long(sheet: Sheet, times: list[datetime], lower: dict[str, str], kind: str) -> pb.History:
    """A row a time and an instrument, in any order; each pair once."""
    value = next((lower[name] for name in _LONG if name in lower), None)
    if value is None:
        hint = f"name it one of: {', '.join(_LONG)}"
        raise CommandError(f"{sheet.path} has no column of prices or returns", hint)
    ids = sheet.texts(lower["instrument_id"])
    names, moments = sorted(set(ids)), sorted(set(times))
    column_of = {name: place for place, name in enumerate(names)}
    row_of = {moment: place for place, moment in enumerate(moments)}
    values, seen = np.full((len(moments), len(names)), np.nan), set[tuple[int, int]]()
    for row, (moment, name) in enumerate(zip(times, ids, strict=True)):
        cell = (row_of[moment], column_of[name])
        if cell in seen:
            text = f"{sheet.at(row)}: {name} is there twice at {moment:%Y-%m-%d %H:%M}"
            raise CommandError(text, "each instrument once at each time")
        seen.add(cell)
        values[cell] = _number(sheet.rows[row][value], value, sheet, row, kind)
    return _part(names, moments, values, kind)


def _part(names: list[str], times: list[datetime], values: Any, kind: str) -> pb.History:
    part = pb.History(instrument_ids=names)
    if kind in ("prices", "returns"):
        part.kind = pb.HistoryKind.Value(f"HISTORY_KIND_{kind.upper()}")
    for moment in times:
        part.observation_times.add().FromDatetime(moment)
    flat = values.ravel()
    part.missing.extend(np.flatnonzero(np.isnan(flat)).tolist())
    part.values.extend(np.nan_to_num(flat, nan=0.0).tolist())
    return part


def _moment(cell: str, where: str) -> datetime:
    """A time in UTC without its zone, as protobuf takes it."""
    try:
        if len(cell) == 10:
            return datetime.combine(date.fromisoformat(cell), CLOSE).replace(tzinfo=None)
        value = datetime.fromisoformat(cell)
    except ValueError:
        hint = "write 2022-12-28 or 2022-12-28T21:00Z"
        raise CommandError(f"{where}: {cell!r} is not a time", hint) from None
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value


def _number(cell: str, name: str, sheet: Sheet, row: int, kind: str) -> float:
    """The number in a cell; NaN where it is missing."""
    if cell.lower() in _MISSING:
        return np.nan
    value = parse_number(cell, name, sheet.at(row))
    if kind == "prices" and value <= 0.0:
        hint = "leave the cell empty where nothing was traded"
        raise CommandError(f"{sheet.at(row)}: {name} is {cell}, not a price", hint)
    if kind == "ratios" and value <= 0.0:
        hint = "units for one: 2 where one becomes two, an empty cell where none is split"
        raise CommandError(f"{sheet.at(row)}: {name} is {cell}; it must be above 0", hint)
    if kind == "amounts" and value < 0.0:
        raise CommandError(f"{sheet.at(row)}: {name} is {cell}; it must not be below 0")
    return value
