"""Between Python values and columns: JSON documents, NumPy arrays, constraint names."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import asyncpg
import numpy as np
from numpy.typing import NDArray

from storage.errors import InvalidContent, NotFound

Document = Mapping[str, Any]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Strings = tuple[str, ...]


def to_json(document: Document) -> str:
    """The text of a jsonb column. Errors: `InvalidContent`; JSON has neither NaN nor infinity."""
    try:
        return json.dumps(document, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise InvalidContent(f"not a JSON document: {error}") from error


def from_json(text: str) -> dict[str, Any]:
    """A jsonb column as asyncpg hands it out; floats come back as they went in."""
    value: dict[str, Any] = json.loads(text)
    return value


def floats(column: Sequence[float] | None) -> Floats:
    """A float8[] column as an array; NULL, the aggregate of no rows, is the empty array."""
    return np.asarray(column or (), dtype=np.float64)


def integers(column: Sequence[int] | None) -> Integers:
    """An int8[] column as an array; NULL, the aggregate of no rows, is the empty array."""
    return np.asarray(column or (), dtype=np.int64)


def check_lengths(n: int, **columns: Any) -> None:
    """Raise `ValueError` unless every column has `n` elements."""
    for name, column in columns.items():
        if len(column) != n:
            raise ValueError(f"{name} has {len(column)} elements, instrument_id has {n}")


@contextlib.contextmanager
def missing_reference(**ids: str | None) -> Iterator[None]:
    """Turn a broken foreign key into `NotFound`: `missing_reference(portfolio_group=group_id)`.

    Keys are table names, values the id that was referred to.
    """
    try:
        yield
    except asyncpg.ForeignKeyViolationError as error:
        for table, id in ids.items():
            if f'in table "{table}"' in (error.detail or ""):
                raise NotFound(table, id or "") from error
        raise
