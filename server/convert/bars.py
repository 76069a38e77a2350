"""Opening, highest and lowest prices of a market snapshot."""

from collections.abc import Iterator

import numpy as np
from positionsizing.v1 import market_service_pb2 as pb

from server.calls.errors import FieldViolation
from server.convert.columns import floats

BAR_COLUMNS = ("open_price", "high_price", "low_price")
"""Of the period that ends with the snapshot; its close is the price."""


def has_bars(snapshot: pb.MarketSnapshot) -> bool:
    """Whether it says where prices opened and how far they went."""
    return bool(len(snapshot.open_price))


def bar_violations(snapshot: pb.MarketSnapshot, path: str) -> Iterator[FieldViolation]:
    """Bars in part, and those whose prices are not in order."""
    n, columns = len(snapshot.instrument_ids), [getattr(snapshot, name) for name in BAR_COLUMNS]
    if not any(map(len, columns)):
        return
    for name, column in zip(BAR_COLUMNS, columns, strict=True):
        if not len(column):
            text = f"must be given with {', '.join(x for x in BAR_COLUMNS if x != name)}"
            yield FieldViolation(f"{path}.{name}", "MISSING", text)
    if not all(len(column) == n for column in (snapshot.price, *columns)):
        return
    opened, high, low = map(floats, columns)
    close = floats(snapshot.price)
    given = (opened > 0.0) | (high > 0.0) | (low > 0.0)  # what is NaN is told with all numbers
    for name, column in zip(BAR_COLUMNS, (opened, high, low), strict=True):
        for place in np.flatnonzero(given & (column <= 0.0)).tolist():
            text = "is of a bar of which other prices are given; all three are needed, or none"
            yield FieldViolation(f"{path}.{name}[{place}]", "MISSING", text)
    whole = (opened > 0.0) & (high > 0.0) & (low > 0.0)
    for name, wrong, bound, limit in (
        ("high_price", high < np.maximum(opened, close), "at least", np.maximum(opened, close)),
        ("low_price", low > np.minimum(opened, close), "at most", np.minimum(opened, close)),
    ):
        column = high if name == "high_price" else low
        for place in np.flatnonzero(whole & wrong).tolist():
            text = f"is {column[place]:g}; it must be {bound} open and price, {limit[place]:g}"
            yield FieldViolation(f"{path}.{name}[{place}]", "OUT_OF_RANGE", text)
