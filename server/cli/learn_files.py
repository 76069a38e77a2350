"""Past bets in files (CSV, CSV.gz, Parquet), and bets made of closes.

A row is a bet. `start_time`, `end_time` and `won` are always there; `payoff`, `loss_fraction`,
`instrument_id` and `win_probability` may be; every other column is a feature.
"""

import csv
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from positionsizing.v1 import history_service_pb2, sizing_pb2
from positionsizing.v1 import learning_service_pb2 as pb

from compute.learn.features import (
    FEATURES,
    barrier_widths,
    bets_of_closes,
    carried_forward,
    close_features,
)
from compute.learn.rows import Rows
from compute.market import Floats
from server.cli.errors import CommandError
from server.cli.history_files import CLOSE
from server.cli.sheet import Sheet, read_sheet
from server.cli.signal_sheet import FEATURE

_NEEDED = ("start_time", "end_time", "won")
_NUMBERS = ("payoff", "loss_fraction", "win_probability")
_ANSWERS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def read_rows(path: Path, *, may_lack_features: bool = False) -> pb.TrainingRows:
    """The bets of a file. Errors name the file, the row and the column."""
    sheet = read_sheet(path)
    features = [
        name for name in sheet.columns if name not in (*_NEEDED, *_NUMBERS, "instrument_id")
    ]
    sheet.check_columns(sheet.columns, _NEEDED)
    if not features and not may_lack_features:
        raise CommandError(f"{path} has no features", "every column of another name is one")
    rows = pb.TrainingRows(
        features=[
            sizing_pb2.FeatureColumn(name=name, values=sheet.numbers(name)) for name in features
        ],
        won=list(answers(sheet)),
    )
    for name in ("start_time", "end_time"):
        for moment in times(sheet, name):
            getattr(rows, f"{name}s").add().FromDatetime(moment)
    for name in _NUMBERS:
        if name in sheet.columns:
            getattr(rows, name).extend(sheet.numbers(name))
    if "instrument_id" in sheet.columns:
        rows.instrument_ids.extend(sheet.texts("instrument_id"))
    return rows


def answers(sheet: Sheet) -> Iterator[bool]:
    """The column `won`. Errors name the file, the row and the column."""
    for place, cell in enumerate(sheet.texts("won")):
        if cell.lower() not in _ANSWERS:
            text = f"{sheet.at(place)}: won is {cell!r}"
            raise CommandError(text, f"one of: {', '.join(_ANSWERS)}")
        yield _ANSWERS[cell.lower()]


def times(sheet: Sheet, name: str) -> Iterator[datetime]:
    """Times of a column in UTC without their zone; a date alone is the close of that day."""
    for place, cell in enumerate(sheet.texts(name)):
        try:
            moment = datetime.fromisoformat(cell)
        except ValueError:
            text = f"{sheet.at(place)}: {name} is {cell!r}, not a time"
            raise CommandError(text, "write 2022-12-28 or 2022-12-28T21:00Z") from None
        if len(cell) == 10:
            moment = datetime.combine(moment.date(), CLOSE)
        yield moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def write_bets(
    history: history_service_pb2.History, path: Path, horizon: int, width: float, cost: float
) -> int:
    """Writes the long bets of every instrument of a price history; returns how many."""
    times = np.array([t.seconds * 10**9 + t.nanos for t in history.observation_times])
    count = 0
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = ("payoff", "loss_fraction", *FEATURES)
        writer.writerow(["instrument_id", "start_time", "end_time", "won", *names])
        for group, (name, closes) in enumerate(_columns(history)):
            rows = bets_of_closes(closes, times, horizon, width, cost, group)
            writer.writerows(_cells(name, rows))
            count += len(rows)
    return count


def _cells(name: str, rows: Rows) -> Iterator[Sequence[object]]:
    for i in range(len(rows)):
        start, end = (
            datetime.fromtimestamp(time / 1e9, UTC).isoformat()
            for time in (int(rows.start[i]), int(rows.end[i]))
        )
        numbers = (rows.payoff[i], rows.loss[i], *rows.features[i])
        yield [name, start, end, int(rows.won[i]), *(f"{value:.10g}" for value in numbers)]


def write_signals(
    history: history_service_pb2.History, path: Path, horizon: int, width: float, cost: float
) -> int:
    """Writes a long signal for each instrument with a close and whole features at the last bar."""
    count = 0
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        features = [FEATURE + name for name in FEATURES]
        head = ["instrument_id", "side", "edge_source", "payoff", "loss_fraction"]
        writer.writerow([*head, *features])
        for name, closes in _columns(history):
            filled = carried_forward(closes[:, None])[:, 0]
            last = close_features(filled)[-1]
            wide = float(barrier_widths(filled, horizon, width)[-1])
            if not np.isfinite([closes[-1], *last, wide]).all() or wide <= cost:
                continue
            numbers = (wide - cost, min(wide + cost, 1.0), *last)
            writer.writerow([name, "long", "model", *(f"{value:.10g}" for value in numbers)])
            count += 1
    return count


def _columns(history: history_service_pb2.History) -> Iterator[tuple[str, Floats]]:
    """Closes of each instrument, NaN where there is none."""
    values = np.array(history.values)
    values[np.array(history.missing, dtype=np.int64)] = np.nan
    table = values.reshape(len(history.observation_times), len(history.instrument_ids))
    yield from zip(history.instrument_ids, table.T, strict=True)
