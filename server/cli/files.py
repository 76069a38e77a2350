"""Files that people write (CSV, CSV.gz, Parquet, JSON, TOML) as messages of the contract.

A table of signals has the column names of `SignalBatch`, in the singular where they are plural
there (`instrument_id`). A line says its edge in the columns it fills; the others stay empty. JSON
takes what CSV takes: a list of objects, one a line, and `long` as well as `SIDE_LONG`.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from positionsizing.v1 import (
    market_service_pb2,
    portfolio_service_pb2,
    risk_service_pb2,
    sizing_pb2,
)
from positionsizing.v1 import sizing_service_pb2 as pb

from server.cli.columns import SIDES, chosen, columns_of
from server.cli.errors import CommandError
from server.cli.sheet import Sheet, document, json_sheet, read_sheet
from server.cli.signal_sheet import signals_of

M = TypeVar("M", bound=Message)

_ENTRY = re.compile(
    r"\b(?:(?:signals|snapshot|holdings|rows)\.\w+|strategies\[\d+\]\.returns)\[(\d+)\]"
)
_CONTRACTS = {"cash": 1, "future": 2, "inverse_future": 3, "": 1}
_ANSWERS = {
    "yes": True,
    "no": False,
    "true": True,
    "false": False,
    "1": True,
    "0": False,
    "": False,
}
_MARKET_NUMBERS = {"stop_price": 0.0, "lot_size": 1.0}
"""Columns of a market whose cells may be empty, with what that means."""


def read_request(path: Path) -> pb.SizePositionsRequest:
    """A sizing request from a table of signals, or a batch or whole request as JSON."""
    given = _sheet_or_document(path)
    if isinstance(given, Sheet):
        return pb.SizePositionsRequest(signals=signals_of(given))
    if isinstance(given, dict) and "signals" in given:
        return _parsed(given, pb.SizePositionsRequest(), path)
    signals = _parsed(given, sizing_pb2.SignalBatch(), path)
    return pb.SizePositionsRequest(signals=signals)


def read_message(path: Path, message: M) -> M:
    """A message from a TOML or JSON file whose keys are its fields."""
    return _parsed(document(path), message, path)


def read_holdings(path: Path) -> portfolio_service_pb2.Holdings:
    """Holdings from a table of `instrument_id,quantity,average_price`, or a message as JSON.

    What a unit was bought at may be missing, of single ones too.
    """
    return _read_quantities(path, ("average_price",))


def read_quantities(path: Path) -> portfolio_service_pb2.Holdings:
    """The same of `instrument_id,quantity` alone."""
    return _read_quantities(path, ())


def _read_quantities(path: Path, more: tuple[str, ...]) -> portfolio_service_pb2.Holdings:
    given = _sheet_or_document(path)
    if not isinstance(given, Sheet):
        return _parsed(given, portfolio_service_pb2.Holdings(), path)
    columns = ("instrument_id", "quantity")
    given.check_columns((*columns, *more), columns)
    return portfolio_service_pb2.Holdings(
        instrument_ids=given.texts("instrument_id"),
        quantity=given.numbers("quantity"),
        **{name: given.numbers(name, 0.0) for name in more if name in given.columns},
    )


def read_weights(path: Path) -> risk_service_pb2.BookWeights:
    """A book from a table of `instrument_id,weight`, or a message as JSON."""
    given = _sheet_or_document(path)
    if not isinstance(given, Sheet):
        return _parsed(given, risk_service_pb2.BookWeights(), path)
    columns = ("instrument_id", "weight")
    given.check_columns(columns, columns)
    return risk_service_pb2.BookWeights(
        instrument_ids=given.texts("instrument_id"), weights=given.numbers("weight")
    )


def read_market(path: Path) -> market_service_pb2.MarketSnapshot:
    """A market snapshot from a table of its columns, or a message as JSON.

    Id and time may be missing.
    """
    snapshot = market_service_pb2.MarketSnapshot()
    given = _sheet_or_document(path)
    if not isinstance(given, Sheet):
        return _parsed(given, snapshot, path)
    kinds = columns_of(snapshot.DESCRIPTOR)
    words = ("contract_kind", "halted")
    given.check_columns(("instrument_id", *words, *kinds), ("instrument_id", "price"))
    snapshot.instrument_ids.extend(given.texts("instrument_id"))
    for name in kinds:
        if name in given.columns:
            if kinds[name] == FieldDescriptor.TYPE_STRING:
                values: list[Any] = given.texts(name, required=False)
            else:
                values = given.numbers(name, _MARKET_NUMBERS.get(name))
            getattr(snapshot, name).extend(values)
    for place, row in enumerate(given.rows):
        where = given.at(place)
        if "contract_kind" in given.columns:
            snapshot.contract_kind.append(chosen(row, "contract_kind", _CONTRACTS, where))
        if "halted" in given.columns:
            snapshot.halted.append(chosen(row, "halted", _ANSWERS, where))
    return snapshot


def read_matrix(path: Path, kind: str) -> market_service_pb2.Matrix:
    """A matrix from a table headed by its instruments, or from JSON; id and time may be missing."""
    value = market_service_pb2.MatrixKind.Value(f"MATRIX_KIND_{kind.upper()}")
    matrix = market_service_pb2.Matrix(kind=value)
    given = _sheet_or_document(path, keep_case=True)
    if not isinstance(given, Sheet):
        return _parsed(given, matrix, path)
    if not given.rows:
        raise CommandError(f"{path} has no lines below its header")
    if kind != "scenarios" and len(given.rows) != len(given.columns):
        size = f"{len(given.rows)} rows under {len(given.columns)} instruments"
        raise CommandError(f"{path}: a {kind} matrix is square; this has {size}")
    matrix.instrument_ids.extend(given.columns)
    for row in range(len(given.rows)):
        matrix.dense.values.extend(given.number(row, name) for name in given.columns)
    return matrix


@contextlib.contextmanager
def naming_lines(path: Path | None) -> Iterator[None]:
    """Where the service refuses an entry of a column, the place in the file is said too."""
    try:
        yield
    except Exception as error:
        words = str(getattr(error, "details", str)() or "")
        if path and (entry := _ENTRY.search(words)):
            error.add_note(place_of(path, int(entry[1])))
        raise


def place_of(path: Path, entry: int) -> str:
    """An entry of a column, counted from 0, by its place in the file it came from."""
    given = _sheet_or_document(path)
    if isinstance(given, Sheet) and entry < len(given.places):
        return f"{path.name} {given.places[entry]}"
    return f"{path.name} entry {entry + 1}"


def _sheet_or_document(path: Path, *, keep_case: bool = False) -> Any:
    """A sheet, or what a JSON file holds where that is no list."""
    if path.name.lower().removesuffix(".gz").endswith(".json"):
        found = document(path)
        if isinstance(found, list):
            return json_sheet(path, found, str.strip if keep_case else None)
        return found
    return read_sheet(path, keep_case=keep_case)


def _parsed(found: Any, message: M, path: Path) -> M:
    name = message.DESCRIPTOR.name
    if not isinstance(found, dict):
        what = "null" if found is None else f"{type(found).__name__} {str(found)[:40]!r}"
        raise CommandError(f"{path} must hold one object of {name}; it holds {what}")
    try:
        return json_format.ParseDict(_spelled_out(found, message.DESCRIPTOR), message)
    except json_format.ParseError as error:
        hint = f"fields of {name}: {', '.join(message.DESCRIPTOR.fields_by_name)}"
        first = _list_of_a_table(found, message.DESCRIPTOR) or str(error).splitlines()[0]
        raise CommandError(f"{path} is no {name}: {first}", hint) from error


def _list_of_a_table(found: dict[str, Any], message: Any) -> str:
    """The first list where a table with lists of its own belongs, in words; empty: there is none.

    protobuf's parser says of it that a dict is unhashable.
    """
    for name, value in found.items():
        field = message.fields_by_name.get(name)
        if field is None or field.message_type is None:
            continue
        if isinstance(value, list) and not field.is_repeated:
            lists = [item.name for item in field.message_type.fields if item.is_repeated]
            said = " or ".join(f"[[{name}.{item}]]" for item in lists)
            return f"{name} is a list; it must be one table" + (f": write {said}" if said else "")
        parts = value if isinstance(value, list) else [value]
        for part in parts:
            if isinstance(part, dict) and (text := _list_of_a_table(part, field.message_type)):
                return f"{name}: {text}"
    return ""


def _spelled_out(found: Any, message: Any) -> Any:
    """Enum values as the contract spells them, where they are written as people do: `long`."""
    if isinstance(found, list):
        return [_spelled_out(item, message) for item in found]
    if message is None or not isinstance(found, dict):
        return found
    return {name: _field(message.fields_by_name.get(name), value) for name, value in found.items()}


def _field(field: FieldDescriptor | None, value: Any) -> Any:
    if field is None:
        return value
    if field.enum_type is None:
        return _spelled_out(value, field.message_type)
    if isinstance(value, list):
        return [_field(field, item) for item in value]
    if not isinstance(value, str) or value in field.enum_type.values_by_name:
        return value
    word = value.strip().lower().replace("-", "_").replace(" ", "_")
    if field.enum_type.name == "Side" and word in SIDES:
        return SIDES[word]
    ends = [n for n in field.enum_type.values_by_name if n.lower().endswith(f"_{word}")]
    # The shortest: "long" is SIDE_LONG, not an imagined SIDE_NOT_LONG.
    return min(ends, key=len, default=value)
