"""Files that people write (CSV, JSON, TOML) as messages of the contract.

A CSV of signals has a header with the column names of `SignalBatch`, in the singular where they
are plural there (`instrument_id`). A line says its edge in the columns it fills; the others stay
empty. What is wrong is told with the line of the file.
"""

import csv
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from positionsizing.v1 import market_service_pb2, portfolio_service_pb2, sizing_pb2
from positionsizing.v1 import sizing_service_pb2 as pb

from server.cli.errors import CommandError

M = TypeVar("M", bound=Message)
Row = dict[str, str]

_SIDES = {"long": 1, "buy": 1, "short": 2, "sell": 2}
_SOURCES = {"win_loss": 1, "return_volatility": 2, "scenarios": 3, "history": 4}
_NEUTRAL = {
    "win_probability": 0.0,
    "payoff": 0.0,
    "loss_fraction": 1.0,
    "expected_return": 0.0,
    "volatility": 0.0,
    "confidence": 1.0,
    "win_probability_error": 0.0,
    "expected_return_error": 0.0,
    "stop_price": 0.0,
}
"""Number columns of a signal, and what an empty cell means where the column is optional."""

_NEEDS = {"win_probability": "payoff", "expected_return": "volatility"}
_MARKET_NUMBERS = {"stop_price": 0.0, "lot_size": 1.0}
"""Columns of a market whose cells may be empty, with what that means."""


def read_request(path: Path) -> pb.SizePositionsRequest:
    """A sizing request from a CSV or JSON file of signals, or a whole request as JSON."""
    if path.suffix.lower() != ".json":
        return pb.SizePositionsRequest(signals=_signals(_rows(path), path))
    document = _document(path)
    if isinstance(document, list):
        if not all(isinstance(row, dict) for row in document):
            raise CommandError(f"{path} must hold a list of objects, one a signal", "see examples/")
        rows = [{k: _cell(v) for k, v in row.items()} for row in document]
        return pb.SizePositionsRequest(signals=_signals(rows, path, first_line=1))
    if "signals" in document:
        return _parsed(document, pb.SizePositionsRequest(), path)
    return pb.SizePositionsRequest(signals=_parsed(document, sizing_pb2.SignalBatch(), path))


def read_message(path: Path, message: M) -> M:
    """A message from a TOML or JSON file whose keys are its fields."""
    return _parsed(_document(path), message, path)


def read_holdings(path: Path) -> portfolio_service_pb2.Holdings:
    """Holdings from a CSV with `instrument_id,quantity`."""
    rows = _rows(path)
    _check_columns(rows, path, {"instrument_id", "quantity"}, ("instrument_id", "quantity"))
    return portfolio_service_pb2.Holdings(
        instrument_ids=[row["instrument_id"] for row in rows],
        quantity=_numbers(rows, "quantity", path, 2),
    )


def read_market(path: Path) -> market_service_pb2.MarketSnapshot:
    """A market snapshot from a CSV of its columns, or from JSON; id and time may be missing."""
    snapshot = market_service_pb2.MarketSnapshot()
    if path.suffix.lower() == ".json":
        return read_message(path, snapshot)
    rows = _rows(path)
    numbers = ("price", "volatility", "average_daily_volume", "spread", "lot_size", "stop_price")
    texts = ("currency", "sector")
    _check_columns(rows, path, {"instrument_id", *numbers, *texts}, ("instrument_id", "price"))
    snapshot.instrument_ids.extend(row["instrument_id"] for row in rows)
    for name in numbers:
        if name in rows[0]:
            empty = _MARKET_NUMBERS.get(name)
            getattr(snapshot, name).extend(_numbers(rows, name, path, 2, empty))
    for name in texts:
        if name in rows[0]:
            getattr(snapshot, name).extend(row[name] for row in rows)
    return snapshot


def read_matrix(path: Path, kind: str) -> market_service_pb2.Matrix:
    """A matrix from a CSV headed by its instruments, or from JSON; id and time may be missing."""
    value = market_service_pb2.MatrixKind.Value(f"MATRIX_KIND_{kind.upper()}")
    matrix = market_service_pb2.Matrix(kind=value)
    if path.suffix.lower() == ".json":
        return read_message(path, matrix)
    rows = _rows(path, keep_case=True)
    matrix.instrument_ids.extend(rows[0] if rows else ())
    for line, row in enumerate(rows, 2):
        matrix.dense.values.extend(_number(row, name, path, line) for name in row)
    return matrix


def read_returns(path: Path) -> market_service_pb2.Matrix:
    """Scenarios from a CSV of prices, a column an instrument: simple returns from row to row.

    A column `date` is not read.
    """
    rows = _rows(path, keep_case=True)
    names = [name for name in (rows[0] if rows else ()) if name.lower() != "date"]
    if len(rows) < 2 or not names:
        raise CommandError(f"{path} has no two rows of prices", "see examples/prices.csv")
    matrix = market_service_pb2.Matrix(kind=market_service_pb2.MATRIX_KIND_SCENARIOS)
    matrix.instrument_ids.extend(names)
    before: list[float] = []
    for line, row in enumerate(rows, 2):
        prices = [_number(row, name, path, line) for name in names]
        if min(prices) <= 0.0:
            name = names[prices.index(min(prices))]
            raise CommandError(f"{path}, line {line}: {name} is {min(prices):g}, not a price")
        if before:
            matrix.dense.values.extend(p / q - 1.0 for p, q in zip(prices, before, strict=True))
        before = prices
    return matrix


def _signals(rows: list[Row], path: Path, first_line: int = 2) -> sizing_pb2.SignalBatch:
    known = {"instrument_id", "side", "edge_source", "history_outcome", *_NEUTRAL}
    _check_columns(rows, path, known, ("instrument_id", "side"))
    batch = sizing_pb2.SignalBatch(instrument_ids=[row["instrument_id"] for row in rows])
    for line, row in enumerate(rows, first_line):
        batch.side.append(_chosen(row, "side", _SIDES, path, line))
        batch.edge_source.append(_source(row, path, line))
        if "history_outcome" in row:
            outcomes = row["history_outcome"].replace(";", " ").split()
            cells = [{"history_outcome": item} for item in outcomes]
            batch.history_outcome.extend(_number(c, "history_outcome", path, line) for c in cells)
            batch.history_length.append(len(outcomes))
    for name, neutral in _NEUTRAL.items():
        if any(row.get(name) for row in rows):
            getattr(batch, name).extend(_numbers(rows, name, path, first_line, neutral))
    return batch


def _source(row: Row, path: Path, line: int) -> Any:
    """What a line's edge comes from: as said, or by the cells it fills; 0 where by none."""
    if row.get("edge_source"):
        return _chosen(row, "edge_source", _SOURCES, path, line)
    for first, second in _NEEDS.items():
        if row.get(first) and not row.get(second):
            raise CommandError(f"{path}, line {line}: {first} is given, so {second} is needed too")
    for name, source in (("win_probability", 1), ("expected_return", 2), ("history_outcome", 4)):
        if row.get(name):
            return source
    return 0


def _chosen(row: Row, name: str, values: dict[str, int], path: Path, line: int) -> Any:
    cell = row[name].lower().removeprefix("side_").removeprefix("edge_source_")
    if cell not in values:
        text = f"{path}, line {line}: {name} is {row[name]!r}"
        raise CommandError(text, f"write one of: {', '.join(values)}")
    return values[cell]


def _rows(path: Path, *, keep_case: bool = False) -> list[Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", skipinitialspace=True)
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise CommandError(f"{path} is not a CSV file: {error}") from error
    names = reader.fieldnames or ()
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise CommandError(f"{path}: column {twice[0]!r} is there twice")
    if len(names) == 1 and ";" in names[0]:
        raise CommandError(f"{path} separates its cells by semicolons", "write commas")
    for line, row in enumerate(rows, 2):
        if "" in row or None in row.values():
            raise CommandError(f"{path}, line {line}: has not the {len(names)} cells of the header")
    named = str.strip if keep_case else _column_name
    return [{named(k): v.strip() for k, v in row.items()} for row in rows]


def _column_name(text: str) -> str:
    return text.strip().lower()


def _check_columns(rows: list[Row], path: Path, known: set[str], needed: Sequence[str]) -> None:
    if not rows:
        raise CommandError(f"{path} has no lines below its header", "see examples/")
    names = {name for row in rows for name in row}
    if wrong := sorted(names - known):
        known_list = ", ".join(sorted(known))
        raise CommandError(f"{path}: column {wrong[0]!r} is not known", f"known: {known_list}")
    for name in needed:
        if any(name not in row for row in rows):
            raise CommandError(f"{path}: column {name!r} is missing", "see examples/")


def _numbers(
    rows: list[Row], name: str, path: Path, first_line: int, empty: float | None = None
) -> list[float]:
    return [
        empty if empty is not None and not row.get(name) else _number(row, name, path, line)
        for line, row in enumerate(rows, first_line)
    ]


def _number(row: Row, name: str, path: Path, line: int) -> float:
    try:
        return float(row[name])
    except (ValueError, KeyError):
        text = f"{path}, line {line}: {name} is {row.get(name, '')!r}, not a number"
        hint = "write a fraction: 0.05, not 5%" if "%" in row.get(name, "") else ""
        raise CommandError(text, hint) from None


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def _document(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except (ValueError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} is not {path.suffix or 'JSON'}: {error}") from error


def _parsed(document: Any, message: M, path: Path) -> M:
    if not isinstance(document, dict):
        raise CommandError(f"{path} must hold one object of {message.DESCRIPTOR.name}")
    try:
        return json_format.ParseDict(document, message)
    except json_format.ParseError as error:
        name = message.DESCRIPTOR.name
        hint = f"fields of {name}: {', '.join(message.DESCRIPTOR.fields_by_name)}"
        first = str(error).splitlines()[0]
        raise CommandError(f"{path} is no {name}: {first}", hint) from error
