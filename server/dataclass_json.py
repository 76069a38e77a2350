"""Values of dataclasses from the JSON that `orjson` wrote of them, by their type hints.

A field that is added to a dataclass needs nothing here: a document without it has its default.
Enumerations are their values, tuples and sets are lists, NaN in an array is null.
"""

import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

T = TypeVar("T")


class UnknownField(ValueError):
    """A document has a field that this release doesn't know; the text names it."""


def from_json(kind: type[T], document: Any) -> T:
    """The value of type `kind` that a document stands for. Raises `UnknownField`."""
    return cast("T", _read(kind, document))


def _read(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, Union):
        return _read(next(part for part in parts if part is not types.NoneType), value)
    if origin is np.ndarray:
        return np.array(value, dtype=np.float64)
    if origin is tuple:
        each = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return tuple(_read(part, item) for part, item in zip(each, value, strict=True))
    if origin is frozenset:
        return frozenset(_read(parts[0], item) for item in value)
    if origin is Mapping:
        return {key: _read(parts[1], item) for key, item in value.items()}
    if is_dataclass(hint):
        hints = _hints(cast("type", hint))
        if unknown := value.keys() - hints.keys():
            raise UnknownField(f"{cast('type', hint).__name__}.{min(unknown)}")
        return hint(**{key: _read(hints.get(key), item) for key, item in value.items()})  # type: ignore[operator]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    return value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
