"""Files of prices and returns (CSV, CSV.gz, Parquet) as parts of a history.

A file is wide: a column of times, named `date`, `time` or `timestamp`, and a column an instrument.
Or it is long: `date`, `instrument_id` and `price` or `return`. Empty cells, NaN and null are
missing. A date without a time of day is taken as the close of that day in UTC (`CLOSE`).
"""

import itertools
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from positionsizing.v1 import history_service_pb2 as pb

from server.cli.errors import CommandError

if TYPE_CHECKING:
    import polars

CLOSE = time(21, 0, tzinfo=UTC)
_TIMES = ("date", "time", "timestamp", "observation_time")
_LONG = {"price": "price", "close": "price", "return": "return", "value": "value"}


def read_history(path: Path, kind: str) -> pb.History:
    """A part from a file; universe and known time are for the caller to set."""
    frame = _frame(path)
    time_column = next((name for name in frame.columns if name.lower() in _TIMES), None)
    if time_column is None:
        hint = f"name it one of: {', '.join(_TIMES)}"
        raise CommandError(f"{path} has no column of times", hint)
    lower = {name.lower(): name for name in frame.columns}
    if "instrument_id" in lower:
        frame = _wide(frame, path, time_column, lower)
    if frame.height == 0 or frame.width < 2:
        raise CommandError(f"{path} has no observations of instruments", "see examples/prices.csv")
    times = [_moment(value, path, row) for row, value in enumerate(frame[time_column], 2)]
    order = sorted(range(len(times)), key=times.__getitem__)
    for left, right in itertools.pairwise(order):
        if times[left] == times[right]:
            raise CommandError(f"{path} has {times[left]:%Y-%m-%d %H:%M} twice")
    names = [name for name in frame.columns if name != time_column]
    values = np.column_stack([_numbers(frame[name], path) for name in names])[order]
    return _part(names, [times[i] for i in order], values, kind)


def _part(names: list[str], times: list[datetime], values: Any, kind: str) -> pb.History:
    part = pb.History(
        kind=pb.HistoryKind.Value(f"HISTORY_KIND_{kind.upper()}"),
        instrument_ids=[name.strip() for name in names],
    )
    for moment in times:
        part.observation_times.add().FromDatetime(moment)
    flat = values.ravel()
    part.missing.extend(np.flatnonzero(np.isnan(flat)).tolist())
    part.values.extend(np.nan_to_num(flat, nan=0.0, posinf=np.inf, neginf=-np.inf).tolist())
    return part


def _frame(path: Path) -> "polars.DataFrame":
    import polars

    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return polars.read_parquet(path)
        return polars.read_csv(path, infer_schema_length=None, null_values=["", "NaN", "nan", "NA"])
    except (polars.exceptions.PolarsError, OSError) as error:
        raise CommandError(f"{path} can't be read: {str(error).splitlines()[0]}") from error


def _wide(
    frame: "polars.DataFrame", path: Path, time_column: str, lower: dict[str, str]
) -> "polars.DataFrame":
    """A long table as a wide one. A pair of time and instrument may be there only once."""
    value = next((lower[name] for name in _LONG if name in lower), None)
    if value is None:
        hint = f"name it one of: {', '.join(_LONG)}"
        raise CommandError(f"{path} has no column of prices or returns", hint)
    name = lower["instrument_id"]
    if frame.select(time_column, name).is_duplicated().any():
        raise CommandError(f"{path} has an instrument twice at one time")
    return frame.pivot(on=name, index=time_column, values=value).sort(time_column)


def _moment(value: Any, path: Path, row: int) -> datetime:
    """A time in UTC without its zone, as protobuf takes it."""
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
        except ValueError:
            text = f"{path}, row {row}: {value!r} is not a time"
            raise CommandError(text, "write 2022-12-28 or 2022-12-28T21:00Z") from None
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, date):
        return datetime.combine(value, CLOSE).replace(tzinfo=None)
    raise CommandError(f"{path}, row {row}: {value!r} is not a time", "write 2022-12-28")


def _numbers(column: "polars.Series", path: Path) -> Any:
    import polars

    try:
        return column.cast(polars.Float64).fill_null(np.nan).to_numpy()
    except polars.exceptions.PolarsError:
        text = f"{path}: column {column.name!r} has a cell that is not a number"
        raise CommandError(text) from None
