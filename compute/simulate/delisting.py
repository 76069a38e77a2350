"""Instruments that leave the market while a backtest may hold them.

From the session of its delisting on an instrument has no price and isn't traded; what is held of it
is closed there, longs and shorts alike, at a price that is said beforehand: never at the last one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from compute.market import Floats

ENDED_SESSIONS = 5
"""Prices have ended where the last so many sessions of a history have none; fewer are a gap."""


@dataclass(frozen=True)
class Delisting:
    """One instrument's end, by places in the history.

    price: money a unit, of that session; 0: worthless. is_default: not said of this instrument.
    """

    session: int
    instrument: int
    price: float
    is_default: bool = False


@dataclass(frozen=True)
class WrongDelisting:
    """What is wrong with an entry of a list of delistings, with the field of it."""

    place: int
    field: str
    reason: str
    message: str


def wrong_delistings(
    delistings: Sequence[Delisting],
    close: Floats,
    dates: Sequence[str],
    instrument_ids: Sequence[str],
) -> Iterator[WrongDelisting]:
    """What contradicts the closes (T, m), which must have begun and ended, or an entry before."""
    seen: set[int] = set()
    for place, item in enumerate(delistings):
        name, day = instrument_ids[item.instrument], dates[item.session]
        known = np.flatnonzero(~np.isnan(close[:, item.instrument]))
        if item.instrument in seen:
            yield WrongDelisting(place, "instrument_id", "DUPLICATE", f"{name!r} is given twice")
        seen.add(item.instrument)
        if not len(known) or known[0] >= item.session:
            text = f"{name!r} has no close before its delisting on {day}"
            yield WrongDelisting(place, "date", "CONTRADICTORY", text)
        elif known[-1] >= item.session:
            later = dates[known[known >= item.session][0]]
            text = (
                f"{name!r} is delisted on {day} and has a close on {later}: leave out what comes "
                "after, or give it another id"
            )
            yield WrongDelisting(place, "date", "CONTRADICTORY", text)
        if not 0.0 <= item.price < np.inf:
            text = f"the delisting price of {name!r} is {item.price:g}; it must be >= 0"
            yield WrongDelisting(place, "price", "OUT_OF_RANGE", text)


def ended(close: Floats) -> list[tuple[int, int]]:
    """Instruments whose prices (T, m) have ended, with the first session of the end."""
    found = []
    for instrument, column in enumerate(np.asarray(close).T):
        known = np.flatnonzero(~np.isnan(column))
        if len(known) and len(column) - 1 - known[-1] >= ENDED_SESSIONS:
            found.append((instrument, int(known[-1]) + 1))
    return found
