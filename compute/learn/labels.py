"""Outcomes of bets out of closes, after costs, and how much each says that the others don't."""

from dataclasses import dataclass

import numpy as np

from compute.market import Floats, Integers


@dataclass(frozen=True)
class Labels:
    """Per bar: when it ended and what it brought; bars without a whole label have end -1.

    side: +1 the upper barrier, -1 the lower one, 0 the time was over; outcome: the return less
    the cost, as a fraction.
    """

    end: Integers
    side: Integers
    outcome: Floats


def triple_barrier(
    closes: Floats, up: Floats, down: Floats, horizon: int, cost: float = 0.0
) -> Labels:
    """Which comes first: +up, -down (returns, (T,), known at the bar), or `horizon` bars.

    Lopez de Prado 2018, chapter 3. Barriers are looked at on closes, and the outcome is the return
    to the close that was beyond one, not the barrier's own. Labels that the series is too short for
    are left out, so that no label changes when bars are added. Where there is no close (NaN) none
    begins, and one whose time is over ends at the next close.
    """
    n = len(closes)
    end, side, outcome = np.full(n, -1), np.zeros(n, dtype=np.int64), np.full(n, np.nan)
    bars = np.where(np.isfinite(closes), np.arange(n), n)
    first_close = np.minimum.accumulate(bars[::-1])[::-1]
    for start in range(n):
        path = closes[start + 1 : start + 1 + horizon] / closes[start] - 1.0
        beyond = np.flatnonzero((path >= up[start]) | (path <= -down[start]))
        if len(beyond):
            last = int(beyond[0])
            side[start] = 1 if path[last] >= up[start] else -1
        elif len(path) == horizon:
            last = horizon - 1
        else:
            continue
        last = first_close[start + 1 + last]
        if last < n and np.isfinite(closes[start]):
            end[start], outcome[start] = last, closes[last] / closes[start] - 1.0 - cost
    return Labels(end, side, outcome)


def uniqueness(start: Integers, end: Integers) -> Floats:
    """Mean over each label's bars, both ends included, of 1 / labels alive then, (n,), in (0, 1].

    start, end: bars, counted from 0. Lopez de Prado 2018, chapter 4.
    """
    change = np.zeros(int(end.max(initial=0)) + 2)
    np.add.at(change, start, 1.0)
    np.add.at(change, end + 1, -1.0)
    alive = np.cumsum(change)
    share = np.concatenate([[0.0], np.cumsum(1.0 / np.maximum(alive, 1.0))])
    mean: Floats = (share[end + 1] - share[start]) / (end + 1 - start)
    return mean
