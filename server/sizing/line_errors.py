"""Why lines of a request are refused: what its market says of their instruments."""

import numpy as np

from compute.market import Integers, Market
from compute.signals import LineError


def unknown_instruments(ids: tuple[str, ...], index: Integers, snapshot_id: str) -> list[LineError]:
    """A line error for each instrument that the snapshot doesn't have."""
    return [
        LineError(
            int(line),
            "instrument_ids",
            "UNKNOWN_INSTRUMENT",
            f"instrument {ids[line]!r} is not in the market snapshot {snapshot_id!r}",
        )
        for line in np.flatnonzero(index < 0)
    ]


def halted_instruments(ids: tuple[str, ...], index: Integers, prices: Market) -> list[LineError]:
    """A line error for each instrument that is valued but not traded."""
    if prices.contracts is None:
        return []
    halted = (index >= 0) & prices.contracts.halted[index]
    text = "is halted in the market snapshot: held and valued, but not traded"
    return [
        LineError(int(line), "instrument_ids", "NOT_TRADED", f"instrument {ids[line]!r} {text}")
        for line in np.flatnonzero(halted)
    ]


def jumped_instruments(ids: tuple[str, ...], jumped: frozenset[str]) -> list[LineError]:
    """A line error for each instrument whose price is not accepted."""
    if not jumped:
        return []
    text = (
        "or a rate that converts it, is further from the last accepted one than price_jump_max "
        "allows: store one that is right, or confirm it with PutMarketSnapshot"
    )
    return [
        LineError(line, "instrument_ids", "PRICE_JUMP", f"the price of {name!r}, {text}")
        for line, name in enumerate(ids)
        if name in jumped
    ]
