"""A table of signals, one a line, as the `SignalBatch` of the contract."""

from google.protobuf.descriptor import FieldDescriptor
from positionsizing.v1 import sizing_pb2

from server.cli.columns import SIDES, chosen, columns_of
from server.cli.errors import CommandError
from server.cli.sheet import Row, Sheet, parse_number

FEATURE = "feature_"
"""What the columns of features begin with."""

_SOURCES = {
    name.removeprefix("EDGE_SOURCE_").lower(): value
    for name, value in sizing_pb2.EdgeSource.items()
    if value
}
_NEUTRAL = {"loss_fraction": 1.0, "confidence": 1.0}
"""What an empty cell of a signal means, where that isn't 0."""

_NEEDS = {
    "win_probability": "payoff",
    "expected_return": "volatility",
    "regime_expected_return": "regime_volatility",
}
_IMPLIED = {
    "win_probability": sizing_pb2.EDGE_SOURCE_WIN_LOSS,
    "expected_return": sizing_pb2.EDGE_SOURCE_RETURN_VOLATILITY,
    "history_outcome": sizing_pb2.EDGE_SOURCE_HISTORY,
    "regime_expected_return": sizing_pb2.EDGE_SOURCE_REGIMES,
}
"""What a line's edge comes from where it fills this column and says nothing."""

_HISTORY = "history_outcome"
_REGIMES = ("regime_expected_return", "regime_volatility")
"""Columns whose cells hold several numbers."""


def signals_of(sheet: Sheet) -> sizing_pb2.SignalBatch:
    """The signals of a table; a line says its edge in the columns it fills."""
    kinds = columns_of(sizing_pb2.SignalBatch.DESCRIPTOR)
    features = [name for name in sheet.columns if name.startswith(FEATURE)]
    known = ("instrument_id", "side", "edge_source", *kinds, *features)
    sheet.check_columns(known, ("instrument_id", "side"))
    batch = sizing_pb2.SignalBatch(instrument_ids=sheet.texts("instrument_id"))
    for place, row in enumerate(sheet.rows):
        where = sheet.at(place)
        batch.side.append(chosen(row, "side", SIDES, where))
        batch.edge_source.append(_source(row, where))
    for name in features:
        batch.features.add(name=name.removeprefix(FEATURE), values=sheet.numbers(name))
    if _HISTORY in sheet.columns:
        outcomes = _lists(sheet, _HISTORY)
        batch.history_length.extend(map(len, outcomes))
        batch.history_outcome.extend(value for cell in outcomes for value in cell)
    for name in _REGIMES:
        if name in sheet.columns:
            getattr(batch, name).extend(_by_regime(sheet, name))
    for name, kind in kinds.items():
        if name in (_HISTORY, *_REGIMES) or not any(row.get(name) for row in sheet.rows):
            continue
        if kind == FieldDescriptor.TYPE_STRING:
            getattr(batch, name).extend(sheet.texts(name, required=False))
        else:
            getattr(batch, name).extend(sheet.numbers(name, _NEUTRAL.get(name, 0.0)))
    return batch


def _source(row: Row, where: str) -> sizing_pb2.EdgeSource.ValueType:
    """What a line's edge comes from: as said, or by the cells it fills; 0 where by none."""
    if row.get("edge_source"):
        found: sizing_pb2.EdgeSource.ValueType = chosen(row, "edge_source", _SOURCES, where)
        return found
    for first, second in _NEEDS.items():
        if row.get(first) and not row.get(second):
            raise CommandError(f"{where}: {first} is given, so {second} is needed too")
    filled = (source for name, source in _IMPLIED.items() if row.get(name))
    return next(filled, sizing_pb2.EDGE_SOURCE_UNSPECIFIED)


def _lists(sheet: Sheet, name: str) -> list[list[float]]:
    """Cells of several numbers, with blanks or semicolons between."""
    return [
        [
            parse_number(cell, name, sheet.at(place))
            for cell in row.get(name, "").replace(";", " ").split()
        ]
        for place, row in enumerate(sheet.rows)
    ]


def _by_regime(sheet: Sheet, name: str) -> list[float]:
    """Numbers by regime, line after line; zeros, which are not read, where a cell is empty."""
    cells = _lists(sheet, name)
    first = next((place for place, cell in enumerate(cells) if cell), None)
    if first is None:
        return []
    regimes = len(cells[first])
    for place, cell in enumerate(cells):
        if cell and len(cell) != regimes:
            numbers = "1 number" if len(cell) == 1 else f"{len(cell)} numbers"
            text = f"{name} has {numbers} where {sheet.places[first]} has {regimes}"
            raise CommandError(f"{sheet.at(place)}: {text}", "write one of each regime")
    return [value for cell in cells for value in cell or [0.0] * regimes]
