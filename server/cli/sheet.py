"""Tables in files (CSV, gzipped CSV, Parquet, Arrow, lists of JSON objects) as rows of text.

What a file is is seen from its content, not from its name. What is wrong is told in one line, with
the file, the row and the column.
"""

import csv
import gzip
import io
import json
import math
import tomllib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.cli.errors import CommandError

Row = dict[str, str]
BYTES_MAX = 1 << 30
"""Most bytes that are read of a file, unpacked."""

_FOREIGN = {
    b"PK\x03\x04": "a workbook or zip archive: save it as CSV",
    b"%PDF": "a PDF: save the table as CSV",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
}

_FRAMES = {"Parquet": (b"PAR1", "read_parquet"), "Arrow": (b"ARROW1", "read_ipc")}
"""What files of a kind begin with, and what reads them: Arrow's file form, also called Feather."""


@dataclass(frozen=True)
class Sheet:
    """The rows of a file; `places` say where each is, e.g. "line 3"."""

    path: Path
    columns: tuple[str, ...]
    rows: list[Row]
    places: list[str]

    def at(self, row: int) -> str:
        """File and place of a row, for messages."""
        return f"{self.path}, {self.places[row]}"

    def check_columns(self, known: Sequence[str], needed: Sequence[str]) -> None:
        """Refuses a sheet without rows, with an unknown column, or without a needed one."""
        if not self.rows:
            raise CommandError(f"{self.path} has no lines below its header", "see examples/")
        if wrong := sorted(set(self.columns) - set(known)):
            hint = f"known: {', '.join(sorted(known))}"
            raise CommandError(f"{self.path}: column {wrong[0]!r} is not known", hint)
        for name in needed:
            if name not in self.columns:
                hint = f"it needs: {', '.join(needed)}"
                raise CommandError(f"{self.path}: column {name!r} is missing", hint)

    def texts(self, name: str, *, required: bool = True) -> list[str]:
        """A column of texts."""
        cells = [row.get(name, "") for row in self.rows]
        if required and "" in cells:
            raise CommandError(f"{self.at(cells.index(''))}: {name} is empty")
        return cells

    def numbers(self, name: str, empty: float | None = None) -> list[float]:
        """A column of numbers; `empty` is what an empty cell means, None: it is an error."""
        return [
            empty if empty is not None and not row.get(name) else self.number(place, name)
            for place, row in enumerate(self.rows)
        ]

    def number(self, row: int, name: str) -> float:
        """The number in a cell."""
        return parse_number(self.rows[row].get(name, ""), name, self.at(row))


def parse_number(cell: str, name: str, where: str) -> float:
    """A finite number as people and programs write it; no percent, no thousands separators."""
    try:
        if cell.isascii() and "_" not in cell and math.isfinite(value := float(cell)):
            return value
    except ValueError:
        pass
    hint = "write a fraction: 0.05, not 5%" if "%" in cell else ""
    if not hint and "," in cell:
        hint = "write 1234.5: a decimal point, and nothing between thousands"
    text = f"{cell!r}, not a number" if cell else "'', not a number: the cell is empty"
    raise CommandError(f"{where}: {name} is {text}", hint)


def read_sheet(path: Path, *, keep_case: bool = False) -> Sheet:
    """The table of a file. `keep_case`: names of columns are instruments, not field names."""
    data = content(path)
    named = str.strip if keep_case else _field_name
    for kind, (magic, _) in _FRAMES.items():
        if data.startswith(magic):
            return _frame(path, data, kind, named)
    text = decoded(path, data)
    if path.name.lower().removesuffix(".gz").endswith(".json") or text.lstrip()[:1] in ("[", "{"):
        return json_sheet(path, document(path), named)
    return _csv(path, text, named)


def content(path: Path) -> bytes:
    """The bytes of a file, unpacked where they are gzipped; never none."""
    if path.is_dir():
        raise CommandError(f"{path} is a folder, not a file")
    with path.open("rb") as file:
        data = file.read(BYTES_MAX + 1)
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(data)) as packed:
                data = packed.read(BYTES_MAX + 1)
        except (EOFError, OSError, zlib.error) as error:
            raise CommandError(f"{path} is a broken gzip file: {error}") from error
    if len(data) > BYTES_MAX:
        raise CommandError(f"{path} is larger than {BYTES_MAX >> 20} MiB", "split it")
    if not data.strip():
        raise CommandError(f"{path} is empty", "see examples/")
    return data


def decoded(path: Path, data: bytes) -> str:
    """Text in UTF-8, with or without a byte order mark."""
    for start, words in _FOREIGN.items():
        if data.startswith(start):
            raise CommandError(f"{path} is {words}")
    if (zero := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, zero) + 1
        raise CommandError(f"{path}, line {line}: a zero byte: this is a binary file, not text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        what = f"byte 0x{data[error.start]:02x} at column {column} is not UTF-8"
        raise CommandError(f"{path}, line {line}: {what}", "save the file as UTF-8") from error


def document(path: Path) -> Any:
    """What a JSON or TOML file holds."""
    text = decoded(path, content(path))
    kind = ".toml" if path.suffix.lower() == ".toml" else ".json"
    try:
        if kind == ".toml":
            return tomllib.loads(text)
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError as error:
        raise CommandError(f"{path} is nested too deeply") from error
    except ValueError as error:
        raise CommandError(f"{path} is not {path.suffix or 'JSON'}: {error}") from error


def json_sheet(path: Path, rows: Any, named: Any = None) -> Sheet:
    """A list of objects as a sheet: what they lack is an empty cell."""
    named = named or _field_name
    if not isinstance(rows, list):
        what = "null" if rows is None else f"{type(rows).__name__} {str(rows)[:40]!r}"
        raise CommandError(f"{path} must hold a list of objects, one a row; it holds {what}")
    columns: dict[str, None] = {}
    out: list[Row] = []
    for place, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            text = f"{path} must hold a list of objects; entry {place} is {json.dumps(row)[:40]}"
            raise CommandError(text, "see examples/")
        cells = {
            named(key): _cell(value, f"{path}, entry {place}: {key}") for key, value in row.items()
        }
        if len(cells) < len(row):
            raise CommandError(f"{path}, entry {place}: a column is there twice")
        columns |= dict.fromkeys(cells)
        out.append(cells)
    places = [f"entry {place}" for place in range(1, len(out) + 1)]
    return Sheet(path, tuple(columns), out, places)


def _csv(path: Path, text: str, named: Any) -> Sheet:
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        filled = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise CommandError(f"{path}, line {reader.line_num}: is not CSV: {error}") from error
    header = filled[0][1] if filled else []
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        mark = "semicolons" if ";" in header[0] else "tabs"
        raise CommandError(f"{path} separates its cells by {mark}", "write commas")
    columns = _columns(path, header, named)
    rows, places = [], []
    for line, cells in filled[1:]:
        if len(cells) != len(columns):
            n, text = len(columns), f"{path}, line {line}: has not the"
            raise CommandError(f"{text} {n} cells of the header, but {len(cells)}")
        rows.append(dict(zip(columns, map(str.strip, cells), strict=True)))
        places.append(f"line {line}")
    return Sheet(path, columns, rows, places)


def _frame(path: Path, data: bytes, kind: str, named: Any) -> Sheet:
    import polars

    try:
        frame = getattr(polars, _FRAMES[kind][1])(io.BytesIO(data))
    except (polars.exceptions.PolarsError, OSError) as error:
        first = str(error).splitlines()[0]
        raise CommandError(f"{path} is a broken {kind} file: {first}") from error
    columns = _columns(path, frame.columns, named)
    rows = [
        {
            name: _cell(value, f"{path}, row {place}: {name}")
            for name, value in zip(columns, cells, strict=True)
        }
        for place, cells in enumerate(frame.iter_rows(), 1)
    ]
    return Sheet(path, columns, rows, [f"row {place}" for place in range(1, len(rows) + 1)])


def _columns(path: Path, header: Sequence[str], named: Any) -> tuple[str, ...]:
    columns = tuple(map(named, header))
    for place, name in enumerate(columns):
        if name in columns[:place]:
            raise CommandError(f"{path}: column {name!r} is there twice")
        if not name:
            raise CommandError(f"{path}: column {place + 1} of the header has no name")
    return columns


def _field_name(text: str) -> str:
    return text.strip().lower()


def _cell(value: Any, where: str) -> str:
    if isinstance(value, list):
        return " ".join(_cell(item, where) for item in value)
    if isinstance(value, dict | bool | bytes):
        raise CommandError(f"{where} is neither a number nor a text")
    return "" if value is None else str(value).strip()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(n for n in names if names.count(n) > 1)!r} is there twice")
    return found


def _no_constant(name: str) -> Iterator[None]:
    raise ValueError(f"{name} is not a number")
