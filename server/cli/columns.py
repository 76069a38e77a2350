"""Columns of tables that are columns of a message, and cells that are words."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from server.cli.errors import CommandError
from server.cli.sheet import Row

SIDES = {"long": 1, "buy": 1, "short": 2, "sell": 2}


def columns_of(message: Descriptor) -> dict[str, int]:
    """Names and types of the columns of numbers and texts of a message, but its instruments."""
    wanted = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_STRING)
    return {
        field.name: field.type
        for field in message.fields
        if field.is_repeated and field.type in wanted and field.name != "instrument_ids"
    }


def chosen(row: Row, name: str, values: Mapping[str, int], where: str) -> Any:
    """The value of an enumeration that a cell names, as the contract or as people write it."""
    cell = row.get(name, "").lower().removeprefix("side_").removeprefix("edge_source_")
    cell = cell.removeprefix("contract_kind_")
    if cell not in values:
        text = f"{where}: {name} is {row.get(name, '')!r}"
        raise CommandError(text, f"write one of: {', '.join(filter(None, values))}")
    return values[cell]
