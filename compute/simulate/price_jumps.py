"""Prices of the past that look like splits which nobody announced."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compute.market import Floats
from compute.simulate.history import PriceHistory

FALL_MAX = 0.45
"""Returns stay above -0.45 and below 1 / 0.55 - 1.

Two for one is the split met most, and the return of the day comes on top of its half.
"""


@dataclass(frozen=True)
class Jump:
    """A close further from the price before it than returns are.

    before: the last close known, of `session_before`, or the open of the same session.
    """

    session: int
    instrument: int
    close: float
    session_before: int
    before: float


def jumps(history: PriceHistory) -> list[Jump]:
    """Closes that jumped from the last one known, and from the open of their session.

    Splits and dividends of the history count: what they explain is no jump.
    """
    return [*_of_closes(history), *_of_opens(history)]


def _of_closes(history: PriceHistory) -> list[Jump]:
    close = history.close
    found = []
    for t, i in _far(1.0 + history.total_return):
        if t > 0 and not np.isnan(close[t, i]):
            before = int(np.flatnonzero(~np.isnan(close[:t, i]))[-1])
            found.append(Jump(t, i, float(close[t, i]), before, float(close[before, i])))
    return found


def _of_opens(history: PriceHistory) -> list[Jump]:
    if history.open is None:
        return []
    return [
        Jump(t, i, float(history.close[t, i]), t, float(history.open[t, i]))
        for t, i in _far(history.close / history.open)
    ]


def is_jump(ratio: float) -> bool:
    """Whether a price over the one before it looks like a split."""
    return bool(_is_far(np.array([ratio]))[0])


def _far(ratio: Floats) -> list[tuple[int, int]]:
    return [(int(t), int(i)) for t, i in np.argwhere(_is_far(ratio))]


def _is_far(ratio: Floats) -> NDArray[np.bool_]:
    kept = 1.0 - FALL_MAX
    return (ratio <= kept) | (ratio >= 1.0 / kept)
