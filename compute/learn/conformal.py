"""Intervals that cover what they promise: by what earlier intervals missed, whatever the model is.

Split conformal, of given ends (Romano, Patterson, Candes 2019, conformalized quantile regression):

    E_i = max(lo_i - y_i, y_i - hi_i)      how far outside, negative inside
    Q   = the ceil((1 - alpha)(n + 1))-th smallest E, infinite where there are fewer
    [lo - Q, hi + Q] misses a new y with a chance of at most alpha, where all are exchangeable

Adaptive conformal inference (Gibbs and Candes 2021) drops that condition: it aims at

    alpha' = alpha + gamma (target - missed)

so that over T steps |mean missed - target| <= (max(alpha_1, 1 - alpha_1) + gamma) / (gamma T),
whatever comes. At alpha <= 0 the interval is unbounded, which is no knowledge: nothing may be sized
by it. At alpha >= 1 it is empty, and is missed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compute.learn.rows import Rows
from compute.learn.splits import windows
from compute.market import Floats

MISS_RATE = 0.1
"""Share of intervals that may miss."""
STEP = 0.05
"""gamma."""
DEVIATIONS = 1.6448536269514722
"""Of a normal interval that is missed by `MISS_RATE`."""


def margin(beyond: Sequence[float] | Floats, miss_rate: float) -> float:
    """Q of scores E (n,) that are sorted; infinite where n is too few for so small a rate."""
    if miss_rate <= 0.0:
        return float("inf")
    if miss_rate >= 1.0:
        return float("-inf")
    n = len(beyond)
    # The product is a whole number where it should be: 0.9 * 10 is 9, not 9.000000000000002.
    rank = int(np.ceil(np.round((1.0 - miss_rate) * (n + 1), 9)))
    return float(beyond[rank - 1]) if rank <= n else float("inf")


def beyond(low: Floats, high: Floats, y: Floats) -> Floats:
    """E of intervals and outcomes, (n,)."""
    outside: Floats = np.maximum(low - y, y - high)
    return outside


def adapted(miss_rate: float, missed: bool, target: float, step: float) -> float:
    """alpha after an interval was missed or was not."""
    return miss_rate + step * (target - float(missed))


@dataclass(frozen=True)
class Coverage:
    """What intervals for the win rate of each window of bets were worth, in the order of time.

    windows: their number; own: share of the model's own intervals that covered; conformal: share of
    the adapted ones, each from what was known before. miss_rate: alpha after the last; margin: Q
    that the next interval is wider by, infinite where nothing is known.
    """

    windows: int
    own: float
    conformal: float
    miss_rate: float
    margin: float

    @property
    def is_closed(self) -> bool:
        """Whether intervals missed so often that the next one has no bounds."""
        return self.miss_rate <= 0.0


def coverage(rows: Rows, probability: Floats, error: Floats) -> Coverage:
    """Of forecasts (n,) with standard errors (n,), of rows in the order of time.

    The win rate of a window of m bets is expected at the mean probability, with the variance
    sum p (1 - p) / m^2 of luck and the square of the mean error. Bets of a window that win and lose
    together make it wider than that, which is what the margin finds. Windows don't overlap, and a
    window is judged by those that ended before it began.
    """
    low, high, y = _by_window(rows, probability, error)
    outside = beyond(low, high, y)
    n = len(outside)
    margins, rates = adaptive(outside)
    return Coverage(
        windows=n,
        own=float((outside <= 0.0).mean()) if n else 1.0,
        conformal=float((outside <= margins[:n]).mean()) if n else 1.0,
        miss_rate=float(rates[n]),
        margin=float(margins[n]),
    )


def adaptive(
    outside: Floats, target: float = MISS_RATE, step: float = STEP
) -> tuple[Floats, Floats]:
    """Q and alpha that each interval is made with, from the scores E (n,) of those before it, and
    those of the next; (n + 1,) each."""
    margins, rates = np.empty(len(outside) + 1), np.full(len(outside) + 1, target)
    known: Floats = np.zeros(0)
    for place, value in enumerate(outside):
        margins[place] = margin(known, rates[place])
        rates[place + 1] = adapted(rates[place], bool(value > margins[place]), target, step)
        known = np.insert(known, np.searchsorted(known, value), value)
    margins[-1] = margin(known, rates[-1])
    return margins, rates


def _by_window(rows: Rows, probability: Floats, error: Floats) -> tuple[Floats, Floats, Floats]:
    """Ends of the interval and win rate of each window."""
    window = windows(rows)
    used = window >= 0
    count = np.bincount(window[used])

    def mean(values: Floats) -> Floats:
        means: Floats = np.bincount(window[used], weights=values[used]) / count
        return means

    expected = mean(probability)
    luck = mean(probability * (1.0 - probability)) / count
    wide = DEVIATIONS * np.sqrt(luck + mean(error) ** 2)
    return expected - wide, expected + wide, mean(rows.won)
